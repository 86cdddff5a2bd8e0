package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

// tick is how often progress is told of and the budget looked at.
const tick = 200 * time.Millisecond

// Progress is told how a drill goes, by several goroutines.
type Progress interface {
	// Note says in one line what happens.
	Note(text string)
	// Tick says how far a run is.
	Tick(Progressed)
}

// Progressed is how far a run is.
type Progressed struct {
	Run, OfRuns int           // from 1
	At, Of      time.Duration // since the load began, of its length
	Requests    int           // complete
	Lost        int           // failed, having entered a surviving edge
	InDeadEdge  int           // failed, having entered a lost one
	Wrong       int
}

// Options say what is run against what.
type Options struct {
	Drill  *Drill
	Target *Target
	// Runs is how many times, 1 to 1,000; 1 when 0.
	Runs int
	// Rate is requests/s instead of the drill's; 0: the drill's.
	Rate int
	// Binary is the other version of the program that drills of upgrades use.
	Binary string
	// Version is that of the program, for the report.
	Version  string
	Progress Progress
	// Done is called after each run. It may be nil.
	Done func(*report.Run) error
}

func (o *Options) validate() error {
	switch {
	case o.Drill == nil || o.Target == nil || o.Progress == nil:
		return errors.New("a run needs a drill, a target and a progress")
	case o.Runs < 0 || o.Runs > 1000:
		return fmt.Errorf("found %d runs, allowed 1 to 1000", o.Runs)
	case o.Rate < 0 || o.Rate > 20_000:
		return fmt.Errorf("found a rate of %d requests/s, allowed 1 to 20000", o.Rate)
	}
	return o.Target.check(o.Drill)
}

// errBudget ends a run whose error budget is burned.
var errBudget = errors.New("the error budget is burned")

// Run runs a drill. Everything is checked before the first request, and what
// was broken is mended whatever happens: ctx ends, the error budget burns, a
// fault fails or something panics. An error says that a run could not begin;
// one that began and was aborted or broken says so in its verdict, and no
// other follows it.
func Run(ctx context.Context, o Options) ([]*report.Run, error) {
	r, err := newRunner(&o)
	if err != nil {
		return nil, err
	}
	defer r.client.close()
	if err := answers(ctx, o.Target); err != nil {
		return nil, err
	}
	var runs []*report.Run
	patience := settleFirst
	for n := range max(1, o.Runs) {
		o.Progress.Note(fmt.Sprintf("waiting for the steady state to hold for %s", o.Drill.Steady.For))
		if err := r.awaitSteady(ctx, patience); err != nil {
			return runs, err
		}
		patience = settleAgain
		run := r.once(ctx, n+1)
		runs = append(runs, run)
		if o.Done != nil {
			if err := o.Done(run); err != nil {
				return runs, err
			}
		}
		if run.Verdict == report.Aborted || run.Verdict == report.Broken {
			break
		}
	}
	return runs, nil
}

// runner is what the runs of a drill have in common.
type runner struct {
	options *Options
	drill   *Drill
	target  *Target
	rate    int
	client  *client
}

func newRunner(o *Options) (*runner, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if _, err := o.build(); err != nil {
		return nil, err
	}
	c, err := newClient(&o.Drill.Load, o.Target)
	if err != nil {
		return nil, err
	}
	return &runner{options: o, drill: o.Drill, target: o.Target, rate: cmp.Or(o.Rate, o.Drill.Load.Rate), client: c}, nil
}

// requests is how many a rate makes in a time, at least one.
func requests(rate int, during time.Duration) int {
	return max(1, int(int64(rate)*during.Milliseconds()/1000))
}

func (r *runner) generator(during time.Duration, over func(*outcome)) *generator {
	return &generator{rate: r.rate, count: requests(r.rate, during), plan: newPlanner(&r.drill.Load, r.target), to: r.client, over: over}
}

// live counts while a run goes on.
type live struct {
	requests, lost, inDead, wrong atomic.Int64
}

// once is one run.
func (r *runner) once(ctx context.Context, number int) *report.Run {
	d := r.drill
	run := &report.Run{
		Drill: d.Name, About: d.About, Target: r.target.Name, Version: r.options.Version,
		Load: report.Load{Rate: float64(r.rate), Duration: d.Load.Duration, Mix: d.Load.describe(r.target)},
	}
	// Faults are made anew, so that none carries over what it did before.
	faults, err := r.options.build()
	if err != nil {
		run.Verdict, run.Reason = report.Broken, err.Error()
		return run
	}
	loading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	start := time.Now()
	run.Started = start.UTC()
	line := newTimeline(d, r.target, faults, start, r.options.Progress.Note)
	// For a panic of this very goroutine; else there is nothing left to mend.
	defer func() { _ = line.mend() }()

	var counts live
	g := r.generator(d.Load.Duration, func(o *outcome) { counts.add(o, *line.lost.Load()) })
	watch := &watcher{start: start}
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	var aside, played sync.WaitGroup
	aside.Go(func() { watch.run(watching, r.target.Edges) })
	aside.Go(func() { r.follow(loading, number, start, &counts, stop, g.count) })
	played.Go(func() { line.run(loading, stop) })
	loaded := make(chan []outcome, 1)
	go func() { loaded <- g.run(loading, start) }()

	var outcomes []outcome
	select {
	case outcomes = <-loaded:
	case <-loading.Done():
	}
	cause := context.Cause(loading)
	stop(nil)
	played.Wait()
	mended := line.mend()
	if outcomes == nil {
		outcomes = <-loaded // what is under way ends within the client's timeout
	}
	unwatch()
	aside.Wait()
	r.judge(run, line, watch, outcomes)
	r.end(ctx, run, cause, mended)
	return run
}

// judge fills in what was measured.
func (r *runner) judge(run *report.Run, line *timeline, watch *watcher, outcomes []outcome) {
	m := measured{target: r.target, slow: r.drill.Steady.Slow, outcomes: outcomes, steps: line.broken(), end: r.drill.Load.Duration}
	s := m.sum()
	run.Buckets, run.Faults, run.Totals, run.Recoveries = m.buckets(), line.marks(), s.Totals, m.recoveries()
	begun := time.Duration(0)
	if len(m.steps) > 0 {
		begun = m.steps[0].begun
		for _, step := range m.steps {
			begun = min(begun, step.begun)
		}
	}
	for _, seen := range append(watch.all(), m.felt(begun)...) {
		if len(m.steps) > 0 && seen.At >= begun {
			run.Detections = append(run.Detections, seen)
		}
	}
	sortDetections(run.Detections)
	run.Checks = r.drill.checks(s, run.Recoveries, run.Detections, begun, len(r.target.DNS.Servers) > 0)
	run.Verdict = report.Passed
	var failed []string
	for _, c := range run.Checks {
		if !c.OK {
			failed = append(failed, fmt.Sprintf("%s: %s, goal %s", c.Name, c.Measured, c.Goal))
		}
	}
	if len(failed) > 0 {
		run.Verdict, run.Reason = report.Failed, strings.Join(failed, "; ")
	}
	if late := s.tooLate(); late != "" {
		run.Verdict, run.Reason = report.Broken, late
	}
}

// end says what else became of a run. What was not mended comes before all.
func (r *runner) end(ctx context.Context, run *report.Run, cause, mended error) {
	switch {
	case mended != nil:
		run.Verdict, run.Reason = report.Broken, mended.Error()
	case cause == nil:
	case errors.Is(cause, errBudget):
		run.Verdict, run.Reason = report.Aborted, cause.Error()
	case ctx.Err() != nil:
		run.Verdict, run.Reason = report.Aborted, "told to stop"
	default:
		run.Verdict, run.Reason = report.Broken, cause.Error()
	}
}

func (c *live) add(o *outcome, lost [][]span) {
	c.requests.Add(1)
	switch {
	case o.wrong != "":
		c.wrong.Add(1)
	case o.failure == "":
	case inDead(o, lost):
		c.inDead.Add(1)
	default:
		c.lost.Add(1)
	}
}

// follow tells of progress and ends the run when its budget is burned.
func (r *runner) follow(ctx context.Context, number int, start time.Time, counts *live, stop context.CancelCauseFunc, planned int) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	allowed := r.drill.Budget / 100 * float64(planned)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := Progressed{
			At: time.Since(start), Of: r.drill.Load.Duration, Run: number, OfRuns: max(1, r.options.Runs),
			Requests: int(counts.requests.Load()), Lost: int(counts.lost.Load()),
			InDeadEdge: int(counts.inDead.Load()), Wrong: int(counts.wrong.Load()),
		}
		r.options.Progress.Tick(now)
		if burned := now.Lost + now.Wrong; float64(burned) > allowed {
			stop(fmt.Errorf("%w: %d of %d requests lost or answered wrongly, allowed %g%%", errBudget, burned, planned, r.drill.Budget))
			return
		}
	}
}
