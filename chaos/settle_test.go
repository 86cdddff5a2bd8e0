package chaos

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

func settled(run *report.Run) report.Check {
	for _, c := range run.Checks {
		if c.Name == steadyAgain {
			return c
		}
	}
	return report.Check{}
}

// TestSettles: what does not come back after the mending fails a run that was
// well until then, and no other follows it.
func TestSettles(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	runs, _, err := s.run(t.Context(), testDrill())
	c := settled(s.theRun(t, runs, err, report.Passed))
	if !c.OK || c.Goal != "within 3m0s" || !strings.Contains(c.Measured, " after the last mending began") {
		t.Errorf("%+v", c)
	}

	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(0)
		h.mend = func(context.Context) error { return nil } // its clients are led away, and it stays lost
		return h
	}}
	d := testDrill(func(d *Drill) { d.Load.Duration = 800 * ms })
	r := s.runner(t, d)
	r.patience = time.Millisecond
	run, well := r.once(t.Context(), 0)
	if c := settled(run); well || c.OK || !strings.HasPrefix(c.Measured, "not yet: ") || !strings.Contains(c.Measured, "answered 502") {
		t.Errorf("well %v: %+v", well, c)
	}
	s.theRun(t, []*report.Run{run}, nil, report.Failed)
}

// TestSettlesLater: it waits, and says for how long.
func TestSettlesLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	r := s.runner(t, testDrill())
	s.edges[0].failing.Store(true)
	mended := time.Now()
	back := time.AfterFunc(200*ms, func() { s.edges[0].failing.Store(false) })
	defer back.Stop()
	run := &report.Run{Verdict: report.Passed}
	if well := r.settle(t.Context(), run, mended); !well || run.Verdict != report.Passed {
		t.Errorf("%+v", run)
	}
	if c := settled(run); strings.Contains(c.Measured, "when the load had ended") {
		t.Errorf("it was not steady at once: %+v", c)
	}
}

// TestStopWhileSettling: told to stop once all is mended, the run is aborted.
func TestStopWhileSettling(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	ctx, cancel := context.WithCancel(t.Context())
	r := s.runner(t, testDrill())
	s.edges[0].failing.Store(true)
	stop := time.AfterFunc(50*ms, cancel)
	defer stop.Stop()
	run := &report.Run{Verdict: report.Passed}
	if r.settle(ctx, run, time.Now()) || run.Verdict != report.Aborted || run.Reason != "told to stop" || settled(run).Name != "" {
		t.Errorf("%+v", run)
	}
}

// TestOnlyTheFirstRunWaits: the others begin where the one before has settled.
func TestOnlyTheFirstRunWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	runs, out, err := s.run(t.Context(), testDrill(), func(o *Options) { o.Runs = 2 })
	if err != nil || len(runs) != 2 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	if first, again := strings.Count(out, "steady state to hold for"), strings.Count(out, "steady state to hold again for"); first != 1 || again != 2 {
		t.Errorf("it waited %d times before and %d times after a run:\n%s", first, again, out)
	}
}

// TestTooSlowToSettle: where this machine is too slow to tell, the target is not
// to blame.
func TestTooSlowToSettle(t *testing.T) {
	r := &runner{patience: settleAgain}
	for _, c := range []struct {
		missing error
		want    report.Outcome
	}{
		{nil, report.Passed},
		{&notSteadyError{errors.New("1 of 600 requests: x")}, report.Failed},
		{&notSteadyError{errors.Join(&lateError{"late"}, errors.New("1 of 600 requests: x"))}, report.Broken},
	} {
		run := &report.Run{Verdict: report.Passed}
		if well := r.judgeSettled(run, "1s", c.missing); well != (c.missing == nil) || run.Verdict != c.want || settled(run).OK != well {
			t.Errorf("%v: well %v, %+v", c.missing, well, run)
		}
	}
}
