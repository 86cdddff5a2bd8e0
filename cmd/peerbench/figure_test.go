package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func testMachine() machine {
	return machine{Processors: 2, Model: "Some CPU", Kernel: "Linux 6.1", LoadAvg: "0.1 0.1 0.1", Versions: map[string]string{"grayfed": "1.0"}}
}

// enrolled is a registration that the three edges served after so long.
func enrolled(service string, answered time.Duration, seen ...time.Duration) *enrolment {
	return &enrolment{service: service, answered: answered, seen: seen}
}

func TestRegisterReport(t *testing.T) {
	r := &report{Mode: modeRegister, Machine: testMachine()}
	zones := []string{"az1", "az2", "az3"}
	fast := make([]*enrolment, 0, 200)
	for range 200 {
		fast = append(fast, enrolled("s", time.Millisecond, 2*time.Millisecond, 4*time.Millisecond, 3*time.Millisecond))
	}
	// One of two hundred is beyond the 99th percentile, three are not.
	fast[7].seen[1] = 400 * time.Millisecond
	r.enrolments("at az1", zones, fast)
	for n := range 3 {
		fast[n].seen[2] = 31 * time.Millisecond
	}
	fast[100].seen[0] = 0
	r.enrolments("at az3", zones, fast)
	golden(t, "register.txt", r.text())
	if r.invalid() != 0 {
		t.Error("a missed goal makes the run invalid")
	}
	if got := r.Figures[0]; got.Measured != 4 || got.Missed {
		t.Errorf("one slow registration of 200 moves the 99th percentile: %+v", got)
	}
	if got := r.Figures[3]; got.Measured != 1 || !got.Missed {
		t.Errorf("a registration that was never served: %+v", got)
	}
}

func TestFailedRegistrationIsInvalid(t *testing.T) {
	r := &report{Mode: modeRegister, Machine: testMachine()}
	refused := enrolled("s7", time.Millisecond, 0, 0, 0)
	refused.err = errStandIn
	r.enrolments("at az1", []string{"az1", "az2", "az3"}, []*enrolment{refused})
	if r.invalid() != 1 || !strings.Contains(r.text(), "INVALID: registered at az1: s7: stand-in") {
		t.Errorf("%d faults:\n%s", r.invalid(), r.text())
	}
}

func TestKillReport(t *testing.T) {
	r := &report{Mode: modeKill, Machine: testMachine(), Kills: []killRow{
		{Name: "GET, round 1", Requests: 20000, Before: 6 * time.Millisecond, Takeover: 12 * time.Millisecond, Worst: 30 * time.Millisecond, UnderWay: 11},
		{Name: "GET and POST, round 1", Requests: 20000, Posts: 10000, Failed: 2, Wrong: 1, Lost: 3, LostLate: 1, UnderWay: 9,
			Before: 6 * time.Millisecond, Takeover: 1200 * time.Millisecond, Worst: 1300 * time.Millisecond, Late: 80 * time.Millisecond,
			Reasons: []string{"2 times GET: 502 broke off"}},
	}}
	r.judgeKills()
	golden(t, "kill.txt", r.text())
	if r.invalid() != 0 {
		t.Error("missed goals make the run invalid")
	}
	r.Kills[0].Fault = "nobody answered"
	r.Figures, r.Notes = nil, nil
	r.judgeKills()
	if text := r.text(); r.invalid() != 1 || strings.Contains(text, "goals are m") || !strings.Contains(text, "INVALID: GET, round 1: nobody answered") {
		t.Errorf("a faulty round:\n%s", text)
	}
}

func TestInstancesReport(t *testing.T) {
	r := &report{Mode: modeInstances, Machine: testMachine()}
	r.Spreads = append(r.Spreads, newSpread("start to ready, from etcd", []time.Duration{time.Second, 3 * time.Second, 2 * time.Second}))
	r.judged("start to ready from etcd, worst", 3000, 2000, "ms")
	r.judged("heap an instance", 1000, 1000, "bytes")
	r.figure("RssAnon with no instance", 9.4159, "MB")
	golden(t, "instances.txt", r.text())
}

func TestFiguresAsJSON(t *testing.T) {
	r := &report{Mode: modeKill}
	r.judged("failed", 1, 0, "")
	r.figure("worst", 1.5, "ms")
	var out bytes.Buffer
	if err := r.write(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	// A goal of zero is a goal.
	if len(back.Figures) != 2 || back.Figures[0].Goal == nil || !back.Figures[0].Missed || back.Figures[1].Goal != nil {
		t.Errorf("figures came back as %+v", back.Figures)
	}
}

func TestSpread(t *testing.T) {
	values := make([]time.Duration, 1000)
	for n := range values {
		values[n] = time.Duration(1000 - n)
	}
	if got := newSpread("x", values); got != (spread{"x", 1000, 500, 990, 1000}) {
		t.Errorf("of 1 to 1000: %+v", got)
	}
	if got := newSpread("x", []time.Duration{7}); got != (spread{"x", 1, 7, 7, 7}) {
		t.Errorf("of one: %+v", got)
	}
	if got := newSpread("x", nil); got != (spread{Name: "x"}) {
		t.Errorf("of none: %+v", got)
	}
}
