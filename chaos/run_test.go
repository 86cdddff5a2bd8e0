package chaos

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/report"
	"github.com/grayfed/grayfed/edge/api"
)

// testDrill breaks at 300 ms for 400 ms in a second of load.
func testDrill(change ...func(*Drill)) *Drill {
	zero := 0.0
	d := &Drill{
		Name: "test", About: "a test",
		Load:   Load{Rate: 200, Duration: time.Second, Streams: []Stream{{Via: ViaEdges, Share: 1}}, Mix: Mix{Untagged: 1, Permissive: 1, Strict: 1, Posts: 20}},
		Steady: Steady{For: 100 * time.Millisecond, Slow: 5 * time.Second},
		Faults: []Step{{At: 300 * time.Millisecond, For: 400 * time.Millisecond, Loses: []string{"az1"}, Do: []fault.Spec{{Kind: "kill", Parts: []string{"az1/edge"}}}}},
		SLO:    SLO{LostIdempotent: &zero, Lost: &zero, InBand: time.Second, Detected: Detected{Within: time.Minute, By: []string{"gossip"}}},
		Budget: 10,
	}
	d.withDefaults()
	for _, f := range change {
		f(d)
	}
	return d
}

// said is what people were told.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *site) run(ctx context.Context, d *Drill, change ...func(*Options)) ([]*report.Run, string, error) {
	out := new(said)
	o := Options{Drill: d, Target: s.target, Progress: report.NewProgress(out, false)}
	for _, f := range change {
		f(&o)
	}
	runs, err := Run(ctx, o)
	return runs, out.String(), err
}

// theRun checks that there is one, that it ended so, and that nothing is broken.
func (s *site) theRun(t *testing.T, runs []*report.Run, err error, verdict report.Outcome) *report.Run {
	t.Helper()
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	run := runs[0]
	if run.Verdict == report.Broken && strings.Contains(run.Reason, "load generator itself") && verdict != report.Broken {
		t.Logf("this machine was too slow to tell: %s", run.Reason)
	} else if run.Verdict != verdict {
		t.Errorf("verdict %s (%s), want %s; checks %+v", run.Verdict, run.Reason, verdict, run.Checks)
	}
	if s.broke.Load() != 0 {
		t.Errorf("%d faults are left broken", s.broke.Load())
	}
	return run
}

// TestRun: an edge that a fault takes from its clients is counted apart, and the
// run passes; the same fault at an edge that is to serve fails it.
func TestRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	runs, out, err := s.run(t.Context(), testDrill(), func(o *Options) { o.Version = "v7" })
	run := s.theRun(t, runs, err, report.Passed)
	total := run.Totals
	if total.Requests != 200 || total.Lost != 0 || total.InDeadEdge == 0 || total.Wrong != 0 {
		t.Errorf("totals %+v", total)
	}
	if run.Drill != "test" || run.Target != "test" || run.Version != "v7" || run.Load.Rate != 200 {
		t.Errorf("%+v", run)
	}
	mark := run.Faults[0]
	if len(run.Faults) != 1 || mark.Begun < 300*ms || mark.Broken < mark.Begun || mark.Mended < 700*ms || mark.Fault != "fail az1" {
		t.Errorf("faults %+v", run.Faults)
	}
	seen := false
	for _, d := range run.Detections {
		seen = seen || d.By == "gossip" && d.Edge == "az1" && d.Of == "az1" && d.What == "edge az1-edge is dead"
	}
	if !seen {
		t.Errorf("detections %+v", run.Detections)
	}
	if !strings.Contains(out, "break: fail az1") || !strings.Contains(out, "mend: fail az1") {
		t.Errorf("it said\n%s", out)
	}

	s.target.Faults = faults{"kill": func() *hooks { return s.failing(1) }}
	runs, _, err = s.run(t.Context(), testDrill(func(d *Drill) { d.Budget = 100 }))
	run = s.theRun(t, runs, err, report.Failed)
	if run.Totals.Lost == 0 || run.Totals.InDeadEdge != 0 || run.Totals.LostIdempotent >= run.Totals.Lost {
		t.Errorf("totals %+v", run.Totals)
	}
}

func TestWrongAnswersFail(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	s.target.Faults = faults{"kill": func() *hooks {
		return &hooks{site: s, name: "lie",
			break1: func(context.Context) error { s.edges[1].lying.Store(true); return nil },
			mend:   func(context.Context) error { s.edges[1].lying.Store(false); return nil }}
	}}
	runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) { d.Budget, d.SLO = 100, SLO{} }))
	if run := s.theRun(t, runs, err, report.Failed); run.Totals.Wrong == 0 || run.Totals.Lost != 0 {
		t.Errorf("totals %+v", run.Totals)
	}
}

// TestBudgetAborts: it stops and mends long before its time is over.
func TestBudgetAborts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	s.target.Faults = faults{"kill": func() *hooks { return s.failing(1) }}
	runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) {
		d.Load.Duration, d.Faults[0].For, d.Budget = time.Hour, 0, 0.001
	}), func(o *Options) { o.Runs = 3 })
	if run := s.theRun(t, runs, err, report.Aborted); !strings.Contains(run.Reason, "error budget is burned") {
		t.Errorf("reason %q", run.Reason)
	}
}

// TestStopMends: told to stop in the middle, it mends and runs no other.
func TestStopMends(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	ctx, cancel := context.WithCancel(t.Context())
	s.target.Faults = faults{"kill": func() *hooks {
		h := s.failing(0)
		broken := h.break1
		h.break1 = func(ctx context.Context) error { defer cancel(); return broken(ctx) }
		h.mend = func(ctx context.Context) error { s.edges[0].failing.Store(false); return ctx.Err() }
		return h
	}}
	runs, _, err := s.run(ctx, testDrill(func(d *Drill) { d.Load.Duration, d.Faults[0].For = time.Hour, 0 }), func(o *Options) { o.Runs = 3 })
	if run := s.theRun(t, runs, err, report.Aborted); run.Reason != "told to stop" || s.edges[0].failing.Load() {
		t.Errorf("reason %q", run.Reason)
	}
}

// TestWhatGoesWrongIsMended: a break that fails half-way, a panic, and mending
// that needs two tries.
func TestWhatGoesWrongIsMended(t *testing.T) {
	t.Parallel()
	tries := 0
	for _, c := range []struct {
		name   string
		change func(*site, *hooks)
		reason string
	}{
		{"break fails", func(_ *site, h *hooks) { h.break1 = func(context.Context) error { return errors.New("half-way") } }, "break fail az1: half-way"},
		{"break panics", func(_ *site, h *hooks) { h.break1 = func(context.Context) error { panic("boom") } }, "panic: boom"},
		{"mends at the second try", func(_ *site, h *hooks) {
			h.mend = func(context.Context) error {
				if tries++; tries == 1 {
					return errors.New("not yet")
				}
				return nil
			}
		}, "mended at the second try only: fail az1: not yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "az1", "az2")
			s.target.Faults = faults{"kill": func() *hooks { h := s.failing(0); c.change(s, h); return h }}
			runs, _, err := s.run(t.Context(), testDrill(), func(o *Options) { o.Runs = 2 })
			if run := s.theRun(t, runs, err, report.Broken); !strings.Contains(run.Reason, c.reason) {
				t.Errorf("reason %q, want %q", run.Reason, c.reason)
			}
		})
	}
}

// TestNotMendedIsLoud: the run is broken whatever else it was, and names what is
// left to do.
func TestNotMendedIsLoud(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	for _, how := range []func(context.Context) error{
		func(context.Context) error { return errors.New("no route") },
		func(context.Context) error { panic("no route") },
	} {
		s.target.Faults = faults{"kill": func() *hooks {
			return &hooks{site: s, name: "kill az1", break1: func(context.Context) error { return nil }, mend: how}
		}}
		runs, out, err := s.run(t.Context(), testDrill(), func(o *Options) { o.Runs = 2 })
		if err != nil || len(runs) != 1 {
			t.Fatalf("%d runs, %v", len(runs), err)
		}
		run := runs[0]
		if run.Verdict != report.Broken || !strings.Contains(run.Reason, "NOT MENDED, mend it by hand: kill az1") || !strings.Contains(run.Reason, "no route") {
			t.Errorf("%s: %q", run.Verdict, run.Reason)
		}
		if strings.Count(out, "  not mended: kill az1: ") != 2 {
			t.Errorf("each try is to be told of:\n%s", out)
		}
		if !strings.Contains(run.Faults[0].Error, "no route") {
			t.Errorf("faults %+v", run.Faults)
		}
	}
}

// TestNeverHalfRun: what cannot be run is named before anything is broken.
func TestNeverHalfRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*site, *Drill)
		says   string
	}{
		{"an edge that is not there", func(s *site, _ *Drill) {
			client, err := api.NewClient(api.ClientOptions{URL: "http://127.0.0.1:1"})
			if err == nil {
				s.target.Edges[1].Client = client
			}
		}, "the edge of az2 does not answer as it should"},
		{"an edge that is not ready", func(s *site, _ *Drill) { s.edges[0].notReady.Store(true) }, "the edge of az1 does not answer as it should"},
		{"a fault that it cannot do", func(_ *site, d *Drill) { d.Faults[0].Do[0] = fault.Spec{Kind: "etcd-gone"} }, "faults[0].do[0]"},
		{"a fault of the second step", func(_ *site, d *Drill) {
			d.Faults = append(d.Faults, Step{At: 500 * ms, Do: []fault.Spec{{Kind: "freeze", Parts: []string{"az1/edge"}}}})
		}, "faults[1].do[0], target test: fault freeze"},
		{"a zone that is none", func(_ *site, d *Drill) { d.Faults[0].Loses = []string{"az7"} }, "az7"},
		{"a DNS server that is silent", func(s *site, _ *Drill) {
			s.target.DNS = DNS{Servers: []string{"127.0.0.1:9"}, Name: "gateway.test"}
		}, "127.0.0.1"},
		{"TLS that it has not", func(_ *site, d *Drill) { d.Load.Streams[0].TLS = true }, "no TLS listener"},
		{"DNS that it has not", func(_ *site, d *Drill) { d.Load.Streams[0] = Stream{Via: ViaDNS, Share: 1} }, "all load goes by DNS"},
		{"no release", func(s *site, _ *Drill) { s.target.Request.Strict = Release{} }, "names no release"},
		{"DNS that it is about", func(_ *site, d *Drill) { d.NeedsDNS = true }, "drill test is about DNS, and target test has none"},
		{"a sign of nowhere", func(_ *site, d *Drill) { d.SLO.Detected.Of = []string{"az8"} }, "about zone az8, which is not one of the target's"},
		{"more requests than there is memory for", func(_ *site, d *Drill) { d.Load.Rate, d.Load.Duration = 10_000, time.Hour }, "found 10000 requests/s for 1h0m0s, allowed 10000000 requests in all"},
		{"an edge that keeps secrets", func(s *site, _ *Drill) { s.edges[1].secret.Store(true) }, "ask the edge of az2 for the edges"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "az1", "az2")
			d := testDrill()
			c.change(s, d)
			runs, _, err := s.run(t.Context(), d)
			if err == nil || !strings.Contains(err.Error(), c.says) || len(runs) != 0 {
				t.Errorf("%d runs, %v, want %q", len(runs), err, c.says)
			}
			if s.tried.Load() != 0 {
				t.Errorf("%d faults were broken", s.tried.Load())
			}
		})
	}
}

// TestSteadyStateIsAwaited, and without it nothing is broken.
func TestSteadyStateIsAwaited(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	s.edges[1].failing.Store(true)
	r := s.runner(t, testDrill())
	if _, _, err := r.awaitSteady(t.Context(), time.Millisecond); err == nil || !strings.Contains(err.Error(), "answered 502") {
		t.Errorf("%v", err)
	}
	s.edges[1].failing.Store(false)
	s.edges[1].lying.Store(true)
	if err := r.steady(t.Context()); err == nil || !strings.Contains(err.Error(), "answered by version v9") {
		t.Errorf("%v", err)
	}
	s.edges[1].lying.Store(false)
	if _, _, err := r.awaitSteady(t.Context(), deadlineOfTests); err != nil {
		t.Error(err)
	}
	s.edges[1].homeless.Store(true)
	if err := r.steady(t.Context()); err == nil || !strings.Contains(err.Error(), "no instance of az2 answers, and some did before") {
		t.Errorf("%v", err)
	}
	s.edges[1].homeless.Store(false)
	s.edges[1].falling.Store(true)
	if err := r.steady(t.Context()); err != nil {
		t.Errorf("where nobody minds them: %v", err)
	}
	none := 0
	r.drill.SLO.Fallbacks = &none
	if err := r.steady(t.Context()); err == nil || !strings.Contains(err.Error(), "the baseline answers permissive requests") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.begin(ctx); err == nil || !strings.Contains(err.Error(), "told to stop before anything was broken") {
		t.Errorf("%v", err)
	}
}

const deadlineOfTests = 30 * time.Second

// TestRunsFollow: as many as were asked for, each told of.
func TestRunsFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	told := 0
	runs, _, err := s.run(t.Context(), testDrill(), func(o *Options) {
		o.Runs, o.Done = 2, func(*report.Run) error { told++; return nil }
	})
	if err != nil || len(runs) != 2 || told != 2 || s.tried.Load() != 2 || s.broke.Load() != 0 {
		t.Errorf("%d runs, %d told, %d broken: %v", len(runs), told, s.tried.Load(), err)
	}
}

// TestPlan has the time line in order, and does nothing.
func TestPlan(t *testing.T) {
	s := newSite(t, "az1", "az2")
	text, err := Plan(Options{Drill: testDrill(), Target: s.target, Progress: report.NewProgress(io.Discard, false), Rate: 50})
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"drill   test: a test", "target  test: az1, az2", "load    50 requests/s for 1s, 50 in all: 1 via edges",
		"  300ms break fail az1 (what enters az1 is counted apart)\n  700ms mend  fail az1\n",
		"must    requests lost: at most 0%", "must    answers of a wrong version: 0", "budget  stops and mends when 10%",
		"must    detected by an edge: within 1m0s by gossip, about az1\n", "must    steady state again: within 3m0s\n",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("%q is not in\n%s", words, text)
		}
	}
	if s.tried.Load() != 0 {
		t.Error("it broke something")
	}
	d := testDrill(func(d *Drill) { d.Faults[0].Do[0].Kind = "etcd-gone" })
	if _, err := Plan(Options{Drill: d, Target: s.target, Progress: report.NewProgress(io.Discard, false)}); err == nil {
		t.Error("a fault that it cannot do was planned")
	}
}

// drawing notes the seeds that it is asked for.
type drawing struct {
	site  *site
	seeds []int64
}

func (d *drawing) Command(spec fault.Spec) (fault.Fault, bool) {
	d.seeds = append(d.seeds, spec.Seed)
	return d.site.failing(0), true
}

// TestSeeds: each run draws from the next seed, the first from the drill's or
// the one that was asked for; faults that draw nothing have none.
func TestSeeds(t *testing.T) {
	t.Parallel()
	s := newSite(t, "az1", "az2")
	drawn := fault.Spec{Kind: "asymmetric-partition", From: []string{"az1"}, To: []string{"az2"}, Seed: 5}
	for _, c := range []struct {
		spec fault.Spec
		seed int64
		want []int64 // the first is of the check before
	}{
		{drawn, 0, []int64{5, 5, 6}},
		{drawn, 9, []int64{9, 9, 10}},
		{fault.Spec{Kind: "etcd-gone"}, 9, []int64{0, 0, 0}},
	} {
		d := &drawing{site: s}
		s.target.Faults = d
		runs, _, err := s.run(t.Context(), testDrill(func(d *Drill) { d.Budget, d.Faults[0].Do = 100, []fault.Spec{c.spec} }),
			func(o *Options) { o.Runs, o.Seed = 2, c.seed })
		if err != nil || len(runs) != 2 || !slices.Equal(d.seeds, c.want) {
			t.Errorf("%d runs, %v; seeds %d, want %d", len(runs), err, d.seeds, c.want)
		}
	}
	if _, _, err := s.run(t.Context(), testDrill(), func(o *Options) { o.Seed = -1 }); err == nil || !strings.Contains(err.Error(), "seed -1") {
		t.Errorf("a negative seed: %v", err)
	}
}
