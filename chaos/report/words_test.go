package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	for want, found := range map[string]string{
		"0 s": span(0), "0.35 ms": span(350 * time.Microsecond), "9.99 ms": span(9990 * time.Microsecond), "213 ms": span(213 * ms),
		"1.92 s": span(1920 * ms), "75.00 s": seconds(75 * time.Second),
		"0": count(0), "999": count(999), "1,000": count(1000), "12,345,678": count(12345678),
		"none sent": share(0, 0), "0.002%": share(1, 48_000), "100.000%": share(3, 3),
		"a; b":         plain("\ta\nb\n"),
		"a\uFFFD[31mb": plain("a\x1b[31mb"),
	} {
		if found != want {
			t.Errorf("%q, want %q", found, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	passed := azLoss()
	failed := azLoss()
	failed.Verdict, failed.Checks[2].OK, failed.Recoveries[1].Found = Failed, false, false
	quiet := &Run{Drill: "etcd-outage", Target: "dev", Verdict: Passed, NotJudged: []string{"a: no DNS", "b: no DNS"}}
	aborted := &Run{Drill: "az-loss", Target: "prod\x1b[2J", Verdict: Aborted, Reason: "the error budget is burned\nmend: no\r"}
	broken := &Run{Drill: "az-loss", Target: "prod", Verdict: Broken, Reason: "NOT MENDED: az1", Checks: []Check{{Name: "lost", Measured: "1", Goal: "0"}}}
	for _, test := range []struct {
		run  *Run
		want string
	}{
		{passed, "passed: az-loss on lab: recovered in 213 ms in band, 1.92 s by DNS; " +
			"lost 1 of 44,000 idempotent requests (0.002%), wrong version 0, premature standby 0"},
		{failed, "failed: az-loss on lab: not recovered; lost 1 of 44,000 idempotent requests (0.002%), wrong version 0, premature standby 0; " +
			"missed: idempotent requests lost is 0.002%, goal at most 0.01%"},
		{quiet, "passed: etcd-outage on dev: nothing to recover from; lost 0 of 0 idempotent requests (none sent), wrong version 0, premature standby 0; not judged: a: no DNS, b: no DNS"},
		{aborted, "aborted: az-loss on prod\uFFFD[2J: the error budget is burned; mend: no"},
		{broken, "broken: az-loss on prod: NOT MENDED: az1; missed: lost is 1, goal 0"},
	} {
		if found := Verdict(test.run); found != test.want {
			t.Errorf("%s\nwant\n%s", found, test.want)
		}
	}
}

// runOf is a run that recovered after so long.
func runOf(drill string, inBand, dns time.Duration) *Run {
	return &Run{
		Drill: drill, Verdict: Passed, Recoveries: []Recovery{{InBand: inBand / 2, Found: true}, {InBand: inBand, DNS: dns, Found: true}},
		Totals: Totals{Requests: 1000, Surviving: 900, Idempotent: 800, LostIdempotent: 1, InDeadEdge: 2},
	}
}

func TestCompare(t *testing.T) {
	var runs []*Run
	for _, n := range []int{20, 21, 19, 25, 18, 22, 20, 39, 24, 20} {
		runs = append(runs, runOf("az-loss", time.Duration(n)*10*ms, time.Duration(n)*100*ms))
	}
	wild, lost, aborted := runOf("edge-kill", 100*ms, 0), runOf("edge-kill", 0, 0), runOf("edge-kill", time.Hour, 0)
	lost.Verdict, lost.Recoveries[0].Found = Failed, false
	aborted.Verdict = Aborted
	runs = append(runs, wild, lost, aborted, &Run{Drill: "etcd-outage\x1b", Verdict: Passed})
	var out bytes.Buffer
	if err := Compare(&out, runs); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.txt", out.Bytes())
	for line := range strings.Lines(out.String()) {
		if strings.TrimRight(line, " \n")+"\n" != line {
			t.Errorf("blanks at the end of %q", line)
		}
	}
	if err := Compare(&out, nil); err == nil {
		t.Error("nothing is compared")
	}
}

// TestCompareTargets: what one drill measured on two targets is not taken
// together.
func TestCompareTargets(t *testing.T) {
	var runs []*Run
	for n, target := range []string{"prod", "dev", "prod"} {
		run := runOf("az-loss", time.Duration(n+1)*100*ms, 0)
		run.Target = target
		runs = append(runs, run)
	}
	var out strings.Builder
	if err := Compare(&out, runs); err != nil || !strings.HasSuffix(out.String(), "\naz-loss on dev, in band: 0.200\naz-loss on prod, in band: 0.100 0.300\n") ||
		!strings.Contains(out.String(), "\naz-loss on prod  2 of 2") {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := Compare(&out, []*Run{runs[0], runs[2]}); err != nil || strings.Contains(out.String(), "prod") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestSpread: percentiles by nearest rank, and where steadiness ends.
func TestSpread(t *testing.T) {
	twenty := func(last ...time.Duration) []time.Duration {
		times := make([]time.Duration, 20-len(last))
		for n := range times {
			times[n] = 100 * ms
		}
		return append(times, last...)
	}
	for _, test := range []struct {
		times         []time.Duration
		p50, p95, max time.Duration
		steady        bool
	}{
		{nil, 0, 0, 0, false},
		{[]time.Duration{5}, 5, 5, 5, true},
		{[]time.Duration{4, 1, 3, 2}, 2, 4, 4, true},
		{twenty(900 * ms), 100 * ms, 100 * ms, 900 * ms, true}, // 19 of 20 are within
		{twenty(200*ms, 900*ms), 100 * ms, 200 * ms, 900 * ms, true},
		{twenty(200*ms+1, 900*ms), 100 * ms, 200*ms + 1, 900 * ms, false},
		{twenty(Never), 100 * ms, 100 * ms, Never, true},
		{[]time.Duration{Never}, Never, Never, Never, false},
		{[]time.Duration{0, 0}, 0, 0, 0, true},
	} {
		if s := newSpread(test.times); s.P50 != test.p50 || s.P95 != test.p95 || s.Max != test.max || s.Steady != test.steady {
			t.Errorf("%v: %+v", test.times, s)
		}
	}
}

func TestProgress(t *testing.T) {
	live := Live{Elapsed: 1200 * ms, Of: 30 * time.Second, Rate: 1998.4, P50: 900 * time.Microsecond, P99: 8 * ms}
	later := live
	later.Elapsed, later.Lost, later.Broken = 5100*ms, 1234, []string{"kill az1/edge, az1/etcd", "evil\r\x1b[2J"}
	for name, tty := range map[string]bool{"progress.txt": false, "progress.tty": true} {
		var out bytes.Buffer
		p := NewProgress(&out, tty)
		for range 2 {
			p.Begin()
			p.Say("run 1")
			p.Update(live)
			p.Update(live)
			p.Say(" 2.0 s  kill az1")
			p.Update(later)
			p.End()
			p.End()
		}
		p.Say("passed\n")
		golden(t, name, out.Bytes())
		if text := out.String(); !tty && strings.ContainsAny(text, "\r\x1b") {
			t.Errorf("what is no terminal gets %q", text)
		}
	}
}

// TestUnfinishedRunsHideNothing: an answer of a wrong version is one, whatever
// ended the run.
func TestUnfinishedRunsHideNothing(t *testing.T) {
	runs := []*Run{{Drill: "az-loss", Verdict: Aborted, Totals: Totals{Requests: 10, Wrong: 2, Premature: 3}}}
	if s := Summarize(runs); len(s) != 1 || s[0].Unfinished != 1 || s[0].Wrong != 2 || s[0].Premature != 3 || s[0].Requests != 0 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := Compare(&out, runs); err != nil || !strings.Contains(out.String(), "-                -             2      3") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
