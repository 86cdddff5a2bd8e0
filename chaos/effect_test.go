package chaos

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/report"
)

// TestNoEffect: a fault that did nothing proves nothing, whenever it is mended;
// it is mended all the same.
func TestNoEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		effect func(context.Context) error
		lasts  time.Duration
		says   string
	}{
		{"at its time", func(context.Context) error { return errors.New("az2 took it") }, 400 * ms, "had no effect: fail az1: az2 took it"},
		{"after the load", func(context.Context) error { return errors.New("az2 took it") }, 0, "had no effect: fail az1: az2 took it"},
		{"a panic", func(context.Context) error { panic("boom") }, 400 * ms, "had no effect: fail az1: panic: boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "az1", "az2")
			asked := 0
			s.target.Faults = faults{"kill": func() *hooks {
				h := s.failing(0)
				h.effect = func(ctx context.Context) error {
					if asked++; s.broke.Load() != 1 {
						t.Error("it is asked when nothing is broken")
					}
					if limit, ok := ctx.Deadline(); !ok || time.Until(limit) > effectTimeout {
						t.Error("nothing bounds the question")
					}
					return c.effect(ctx)
				}
				return h
			}}
			runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) { d.Faults[0].For = c.lasts }), func(o *Options) { o.Runs = 2 })
			run := s.theRun(t, runs, err, report.Broken)
			if mark := run.Faults[0]; !strings.HasPrefix(run.Reason, c.says) || !strings.HasPrefix(mark.Error, c.says) || mark.Mended == 0 || asked != 1 {
				t.Errorf("asked %d times; reason %q, mark %+v", asked, run.Reason, mark)
			}
		})
	}
}

// TestEffectIsAskedAgain of what the load's end cut short the question to.
func TestEffectIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	asked := 0
	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(0)
		h.effect = func(ctx context.Context) error {
			if asked++; asked == 1 {
				<-ctx.Done()
			}
			return errors.New("az2 took it")
		}
		return h
	}}
	runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) { d.Faults[0].For = 690 * ms }))
	if run := s.theRun(t, runs, err, report.Broken); asked != 2 || !strings.HasPrefix(run.Reason, "had no effect") {
		t.Errorf("asked %d times; reason %q", asked, run.Reason)
	}
}

// TestEffectOfAnAbortedRun is not asked for: it had no time for any.
func TestEffectOfAnAbortedRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	ctx, cancel := context.WithCancel(t.Context())
	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(0)
		broken := h.break1
		h.break1 = func(ctx context.Context) error { defer cancel(); return broken(ctx) }
		h.effect = func(context.Context) error { t.Error("it was asked"); return errors.New("none") }
		return h
	}}
	runs, _, err := s.run(ctx, testDrill())
	s.theRun(t, runs, err, report.Aborted)
}

// TestMendsBackwards: of steps that overlap the last that began is mended first,
// and what is in one step in its order.
func TestMendsBackwards(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	var order []string
	named := func(name string) func() *hooks {
		return func() *hooks {
			return &hooks{site: s, name: name, break1: func(context.Context) error { return nil },
				mend: func(context.Context) error { order = append(order, name); return nil }}
		}
	}
	s.target.Faults = faults{"kill": named("late"), "freeze": named("first"), "etcd-gone": named("second"), "restart": named("early")}
	runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) {
		parts := []string{"az1/edge"}
		d.SLO, d.Faults = SLO{}, []Step{
			{At: 300 * ms, Do: []fault.Spec{{Kind: "freeze", Parts: parts}, {Kind: "etcd-gone"}}},
			{At: 500 * ms, Do: []fault.Spec{{Kind: "kill", Parts: parts}}},
			{At: 100 * ms, Do: []fault.Spec{{Kind: "restart", Parts: parts}}},
		}
	}))
	s.theRun(t, runs, err, report.Passed)
	if got := strings.Join(order, " "); got != "late first second early" {
		t.Errorf("mended %s", got)
	}
}

// TestPanicsBeside: whatever panics beside the run ends it, with all mended.
func TestPanicsBeside(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	long := func(d *Drill) { d.Load.Duration, d.Faults[0].For = time.Hour, 0 }
	for name, change := range map[string]func(*runner){
		"the generator": func(r *runner) {
			r.drill.Load.Mix = Mix{Untagged: 1}
			r.target = &Target{Name: "test", Edges: r.target.Edges[:1], Request: r.target.Request, Faults: r.target.Faults}
			r.drill.Load.Streams[0].Edges = map[string]int{"az2": 1} // there is nobody to send to
		},
		"the watcher":  func(r *runner) { r.target.Edges[1].Client = nil },
		"the progress": func(r *runner) { r.options.Progress = report.NewProgress(&throwing{after: 2}, true) },
	} {
		t.Run(name, func(t *testing.T) {
			client := s.target.Edges[1].Client
			defer func() { s.target.Edges[1].Client = client }()
			r := s.runner(t, testDrill(long))
			change(r)
			run, well := r.once(t.Context(), 0)
			if well || !strings.Contains(run.Reason, "panic: ") {
				t.Errorf("well %v, reason %q", well, run.Reason)
			}
			s.theRun(t, []*report.Run{run}, nil, report.Broken)
		})
	}
}

// throwing panics when it is written to, but for the first times.
type throwing struct{ after int }

func (w *throwing) Write(text []byte) (int, error) {
	if w.after--; w.after < 0 {
		panic("boom")
	}
	return len(text), nil
}

// TestLastLook: requests that fail after the last tick burn the budget, too.
func TestLastLook(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	s.target.Faults = faults{"kill": func() *hooks { return s.failing(1) }}
	runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) {
		d.Load.Duration, d.Faults[0].At, d.Faults[0].For, d.Budget = 190*ms, 50*ms, 0, 1
	}))
	if run := s.theRun(t, runs, err, report.Aborted); !strings.Contains(run.Reason, "error budget is burned") {
		t.Errorf("reason %q", run.Reason)
	}
}

// TestTargetEnds: of a target that has ended by itself nothing is left to be
// mended by hand, and the run says why it has ended, also where what is to be
// mended fails first.
func TestTargetEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	s.target.mayEnd = true
	ctx, cancel := context.WithCancelCause(t.Context())
	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(0)
		h.mend = func(context.Context) error {
			time.AfterFunc(50*ms, func() { cancel(errors.Join(errTargetEnded, errors.New("az2/etcd ended by itself"))) })
			return errors.New("it has ended")
		}
		return h
	}}
	runs, _, err := s.run(ctx, testDrill())
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	run := runs[0]
	if run.Verdict != report.Broken || strings.Contains(run.Reason, "NOT MENDED") || !strings.Contains(run.Reason, "az2/etcd ended by itself") ||
		!strings.Contains(run.Reason, errTargetEnded.Error()) {
		t.Errorf("%s: %q", run.Verdict, run.Reason)
	}
}
