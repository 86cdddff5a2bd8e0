package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", name, got, want)
	}
}

func testSample(round int, cpu float64) sample {
	return sample{Round: round, Requests: 1000, PerSecond: 1e6 / cpu, P50: time.Duration(cpu) * 10 * time.Microsecond,
		P99: time.Duration(cpu) * 100 * time.Microsecond, CPU: cpu, OriginCPU: 5,
		Memory: memory{Peak: int64(round) * 10e6, PeakLargest: int64(round) * 5e6, Processes: 2}}
}

func testReport() *report {
	direct := &row{Name: "direct", Protocol: "h1", Connections: 64, Samples: []sample{testSample(1, 0), testSample(2, 0), testSample(3, 0)}}
	for i := range direct.Samples {
		direct.Samples[i].PerSecond = 100000
		direct.Samples[i].P99 = 2 * time.Second
		direct.Samples[i].Memory = memory{}
		direct.Samples[i].Notes = []string{"an origin was busy"}
	}
	nginx := &row{Name: "nginx", Protocol: "h1", Connections: 64, baseline: "nginx", Samples: []sample{testSample(1, 20), testSample(2, 40), testSample(3, 30)}}
	// Half of nginx in every round, and the machine's drift is in both.
	grayfed := &row{Name: "grayfed", Protocol: "h1", Connections: 64, baseline: "nginx", Samples: []sample{testSample(1, 10), testSample(2, 20), testSample(3, 15)}}
	caddy := &row{Name: "caddy", Protocol: "h1", Connections: 64, baseline: "nginx", Faults: []string{"3 read errors"}, Samples: []sample{testSample(1, 80)}}
	caddy.Samples[0].Errors, caddy.Samples[0].Foreign = 3, 0.2
	absent := &row{Name: "haproxy", Protocol: "h1", Connections: 512, baseline: "nginx", Faults: []string{"haproxy is not ready"}}
	r := &report{Mode: modeLoad, Settings: settings{Rounds: 3, Duration: 4 * time.Second},
		Machine: machine{Processors: 2, Model: "Some CPU", Kernel: "Linux 6.1", LoadAvg: "0.1 0.1 0.1",
			Versions: map[string]string{"nginx": "1.22.1", "caddy": "2.6.2"}}}
	finish([]*row{direct, nginx, grayfed, caddy})
	finish([]*row{absent})
	for _, row := range []*row{direct, nginx, grayfed, caddy, absent} {
		r.Rows = append(r.Rows, *row)
	}
	return r
}

func TestLoadReport(t *testing.T) {
	golden(t, "load.txt", testReport().text())
}

func TestHTTP2Report(t *testing.T) {
	r := testReport()
	r.Mode, r.Settings.Mode, r.Settings.Streams = modeH2, modeH2, 10
	r.Rows = r.Rows[1:3]
	for i := range r.Rows {
		r.Rows[i].Protocol, r.Rows[i].Connections, r.Rows[i].P50, r.Rows[i].P99 = "h2 over TLS", 32, 0, 0
	}
	r.judgeRatios()
	golden(t, "h2.txt", r.text())
}

func TestRatiosAreJudged(t *testing.T) {
	r := testReport()
	r.Rows = append(r.Rows, row{Name: peerGrayfed, Connections: 512, Baseline: peerNginx, Ratio: 1.02})
	r.judgeRatios()
	// Others' ratios and those of invalid rows are not grayfed's goals.
	if len(r.Figures) != 2 || r.Figures[0].Missed || !r.Figures[1].Missed || r.Figures[0].Name != "grayfed at 64 connections, CPU to that of nginx" {
		t.Errorf("%+v", r.Figures)
	}
	for mode, missed := range map[string]bool{modeTLS: true, modeH2: false} {
		r = &report{Mode: mode, Rows: []row{
			{Name: peerStock, Baseline: peerNginx, Ratio: 3}, {Name: peerGrayfed, Baseline: peerNginx, Ratio: 1.4},
		}}
		r.judgeRatios()
		if len(r.Figures) != 1 || r.Figures[0].Goal == nil || r.Figures[0].Missed != missed {
			t.Errorf("mode %s: %+v", mode, r.Figures)
		}
	}
	r = &report{Mode: modeH2C, Rows: []row{{Name: peerGrayfed, Baseline: peerNginx, Ratio: 9}}}
	if r.judgeRatios(); len(r.Figures) != 1 || r.Figures[0].Goal != nil {
		t.Errorf("no goal is set for h2c: %+v", r.Figures)
	}
	r = &report{Mode: modeRoutes, Rows: []row{
		{Name: "10 routes", Baseline: "10 routes", Ratio: 1},
		{Name: "100 routes", Baseline: "10 routes", Ratio: 1.1},
		{Name: "10000 routes", Baseline: "10 routes", Ratio: 1.11},
		{Name: worstRoutes(), Baseline: "10 routes", Ratio: 2},
	}}
	r.judgeRatios()
	if len(r.Figures) != 3 || r.Figures[0].Missed || !r.Figures[1].Missed || r.Figures[2].Goal != nil {
		t.Errorf("%+v", r.Figures)
	}
}

func TestIdleReport(t *testing.T) {
	r := &report{Mode: modeIdle, Machine: machine{Processors: 2, Model: "Some CPU", Kernel: "Linux 6.1", LoadAvg: "0.1 0.1 0.1"},
		Idle: []idleRow{
			{Name: "nginx", Protocol: "h1", Connections: 10000, Before: memory{Anonymous: 19e6, Resident: 32e6, Processes: 3}, After: memory{Anonymous: 24e6, Resident: 39e6, Processes: 3}},
			{Name: "grayfed", Protocol: "h2 over TLS", Fault: "connection 7 of 10000: refused"},
		}}
	r.judged("idle edge of three, RssAnon of the largest", 9.8, idleEdgeGoal/1e6, "MB")
	golden(t, "idle.txt", r.text())
	if r.invalid() != 1 {
		t.Errorf("%d invalid rows, want 1", r.invalid())
	}
}

func TestRatioIsOfTheSameRound(t *testing.T) {
	r := testReport()
	if got := r.Rows[2].Ratio; got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := r.Rows[1].CPU; got != 30 {
		t.Errorf("median CPU %v, want 30", got)
	}
	if r.Rows[3].Ratio != 0 {
		t.Error("an invalid row has a ratio")
	}
	if r.invalid() != 2 {
		t.Errorf("%d invalid rows, want 2", r.invalid())
	}
	// A round that disturbed one of the two is one ratio of three, no more.
	base := &row{Name: "nginx", baseline: "nginx", Samples: []sample{testSample(1, 20), testSample(2, 40), testSample(3, 30)}}
	mine := &row{Name: "grayfed", baseline: "nginx", Samples: []sample{testSample(1, 10), testSample(2, 20), testSample(3, 45)}}
	finish([]*row{base, mine})
	if mine.Ratio != 0.5 {
		t.Errorf("ratio %v with one disturbed round, want 0.5", mine.Ratio)
	}
	broken := &row{Name: "nginx", baseline: "nginx", Faults: []string{"1 timeouts"}, Samples: []sample{testSample(1, 20)}}
	other := &row{Name: "grayfed", baseline: "nginx", Samples: []sample{testSample(1, 10)}}
	finish([]*row{broken, other})
	if other.Ratio != 0 {
		t.Error("there is a ratio to an invalid baseline")
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	var out bytes.Buffer
	if err := testReport().write(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Rows) != 5 || back.Rows[2].Ratio != 0.5 || back.Rows[2].Baseline != "nginx" || len(back.Rows[2].Samples) != 3 {
		t.Errorf("rows came back as %+v", back.Rows)
	}
}

func TestJudge(t *testing.T) {
	before := observation{at: time.Unix(0, 0)}
	clean := loadResult{Requests: 100000, PerSecond: 25000, ReadBytes: 120e6}
	after := observation{at: time.Unix(4, 0),
		proxy:   usage{CPU: 2 * time.Second},
		self:    time.Second,
		machine: machineTimes{Busy: 4800 * time.Millisecond, Total: 8 * time.Second},
		origins: [2]usage{{CPU: 500 * time.Millisecond}, {CPU: 500 * time.Millisecond}},
		stats:   [2]originStats{{Requests: 50000, Accepted: 64}, {Requests: 50000, Accepted: 64}},
	}
	s := judge(clean, before, after, true, 64)
	if s.CPU != 20 || s.OriginCPU != 10 || s.Faults != "" || len(s.Notes) != 0 {
		t.Errorf("clean run: %+v", s)
	}
	if s.Foreign < 0.099 || s.Foreign > 0.101 {
		t.Errorf("others used %v of the machine, want 0.1", s.Foreign)
	}
	for want, spoil := range map[string]func(*loadResult, *observation){
		"wrong release":          func(_ *loadResult, o *observation) { o.stats[1].WrongLane = 1 },
		"requests reached an or": func(_ *loadResult, o *observation) { o.stats[0].Requests = 10 },
		"not kept alive":         func(_ *loadResult, o *observation) { o.stats[0].Accepted = 50000 },
		"timeouts":               func(r *loadResult, _ *observation) { r.Timeouts = 1 },
	} {
		bad, seen := clean, after
		spoil(&bad, &seen)
		if s := judge(bad, before, seen, true, 64); !strings.Contains(s.Faults, want) {
			t.Errorf("want a fault with %q, got %q", want, s.Faults)
		}
	}
	busy := after
	busy.origins[0].CPU = 3900 * time.Millisecond
	if s := judge(clean, before, busy, true, 64); len(s.Notes) != 1 {
		t.Errorf("an origin busy for 3.9 of 4 s: notes %v", s.Notes)
	}
}

func TestAccessLogIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(strings.Repeat("line\n", 100000)+"unfinished"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &proxy{stop: func() error { return nil }, accessLog: path}
	lines, err := p.discard()
	if err != nil || lines != 100000 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the log was left behind")
	}
	var full, lacking, empty sample
	full.logged(lines, 100050)
	lacking.logged(lines, 200000)
	empty.logged(0, 200000)
	if full.Faults != "" || len(full.Notes) != 0 {
		t.Errorf("a whole log: %+v", full)
	}
	if lacking.Faults != "" || len(lacking.Notes) != 1 || !strings.Contains(lacking.Notes[0], "50.0%") {
		t.Errorf("half a log: %+v", lacking)
	}
	if empty.Faults == "" {
		t.Error("an empty log is no fault")
	}
}
