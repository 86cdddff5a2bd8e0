package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/chaos/report"
)

// Options say what is run against what.
type Options struct {
	Drill  *Drill
	Target *Target
	// Runs is how many times, 1 to 1,000; 1 when 0.
	Runs int
	// Rate is requests/s instead of the drill's; 0: the drill's.
	Rate int
	// Seed is that of the first run's draws instead of the drill's, from 1; 0:
	// the drill's. Each run has the next.
	Seed int64
	// Binary is the other version of the program that drills of upgrades use.
	Binary string
	// Version is that of the program, for the report.
	Version string
	// Progress tells how it goes.
	Progress *report.Progress
	// Done is called after each run. It may be nil.
	Done func(*report.Run) error
}

// maxRequests bounds those of a run, all of which are kept until it is judged:
// with what is counted of them they take 1.5 GB. A drill that is killed for want
// of memory mends nothing.
const maxRequests = 10_000_000

func (o *Options) validate() error {
	switch {
	case o.Drill == nil || o.Target == nil || o.Progress == nil:
		return errors.New("a run needs a drill, a target and a progress")
	case o.Runs < 0 || o.Runs > 1000:
		return fmt.Errorf("found %d runs, allowed 1 to 1000", o.Runs)
	case o.Rate < 0 || o.Rate > 20_000:
		return fmt.Errorf("found a rate of %d requests/s, allowed 1 to 20000", o.Rate)
	case o.Seed < 0:
		return fmt.Errorf("found seed %d, allowed from 1", o.Seed)
	case requests(o.rate(), o.Drill.Load.Duration) > maxRequests:
		return fmt.Errorf("found %d requests/s for %s, allowed %d requests in all", o.rate(), o.Drill.Load.Duration, maxRequests)
	}
	return o.Target.check(o.Drill)
}

func (o *Options) rate() int { return cmp.Or(o.Rate, o.Drill.Load.Rate) }

// Run runs a drill. Everything is checked before the first request, and what
// was broken is mended whatever happens: ctx ends, the error budget burns, a
// fault fails or something panics. An error says that a run could not begin;
// one that began and was aborted, or could not be broken or mended, says so in
// its verdict, and no other follows it.
func Run(ctx context.Context, o Options) ([]*report.Run, error) {
	r, err := newRunner(&o)
	if err != nil {
		return nil, err
	}
	defer r.client.close()
	if err := answers(ctx, o.Target); err != nil {
		return nil, err
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	var runs []*report.Run
	for n := range max(1, o.Runs) {
		if r.who, err = takeCensus(ctx, o.Target); err != nil {
			return runs, fmt.Errorf("before anything was broken: %w", err)
		}
		o.Progress.Begin()
		o.Progress.Say(fmt.Sprintf("run %d of %d", n+1, max(1, o.Runs)))
		run, well := r.once(ctx, n)
		o.Progress.End()
		runs = append(runs, run)
		if o.Done != nil {
			if err := o.Done(run); err != nil {
				return runs, err
			}
		}
		if !well {
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
	who     *census
	// answers are those of each zone's instances in the first steady state.
	answers []int
	// patience is how long the steady state may take to hold again.
	patience time.Duration
}

func newRunner(o *Options) (*runner, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if _, err := o.build(0); err != nil {
		return nil, err
	}
	c, err := newClient(&o.Drill.Load, o.Target)
	if err != nil {
		return nil, err
	}
	return &runner{options: o, drill: o.Drill, target: o.Target, rate: o.rate(), client: c, patience: settleAgain}, nil
}

// requests is how many a rate makes in a time, at least one.
func requests(rate int, during time.Duration) int {
	return max(1, int(int64(rate)*during.Milliseconds()/1000))
}

func (r *runner) generator(during time.Duration, over func(*outcome)) *generator {
	return &generator{rate: r.rate, count: requests(r.rate, during), plan: newPlanner(&r.drill.Load, r.target), to: r.client, over: over}
}

// once is run n, from 0; well is whether another may follow.
func (r *runner) once(ctx context.Context, n int) (run *report.Run, well bool) {
	d := r.drill
	run = &report.Run{
		Schema: report.Schema, Drill: d.Name, About: d.About, Target: r.target.Name, Version: r.options.Version,
		Load: report.Load{Rate: float64(r.rate), Duration: d.Load.Duration, Mix: d.Load.describe(r.target)},
	}
	// Faults are made anew, so that none carries over what it did before.
	faults, err := r.options.build(n)
	if err != nil {
		run.Verdict, run.Reason = report.Broken, err.Error()
		return run, false
	}
	loading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	start := time.Now()
	run.Started = start.UTC()
	tell := &teller{queue: make(chan func(), maxUntold)}
	line := newTimeline(d, r.target, faults, start, func(what string) {
		text := fmt.Sprintf("%5.1f s  %s", time.Since(start).Seconds(), what)
		tell.say(func() { r.options.Progress.Say(text) })
	})
	var loaded, aside, played, told sync.WaitGroup
	over := false
	defer func() {
		if !over { // this very goroutine panics, which says more than what mending does
			stop(nil)
			played.Wait()
			_ = line.mend()
		}
	}()

	// A panic of whatever runs beside ends the load, and not the program.
	fenced := func(do func()) {
		if err := guard.Do(func() error { do(); return nil }); err != nil {
			stop(err)
		}
	}
	var counts live
	g := r.generator(d.Load.Duration, func(o *outcome) { fenced(func() { counts.add(o, *line.lost.Load()) }) })
	watch := &watcher{start: start, who: r.who}
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	var outcomes []outcome
	ended := make(chan struct{}) // the load; closed after it has become the cause
	aside.Go(func() { fenced(func() { watch.run(watching, r.target.Edges, stop) }) })
	aside.Go(func() { fenced(func() { counts.follow(loading, r, line, tell, g.count, stop) }) })
	told.Go(func() { fenced(func() { tell.run(r.options.Progress) }) })
	loaded.Go(func() {
		defer close(ended)
		fenced(func() { outcomes = g.run(loading, start) })
	})
	played.Go(func() { fenced(func() { line.run(loading, stop) }) })

	select {
	case <-ended:
	case <-loading.Done():
	}
	cause := context.Cause(loading)
	if cause == nil {
		cause = counts.burned(d.Budget, g.count)
	}
	stop(nil)
	played.Wait()
	if cause == nil {
		line.askWhatIsLeft(ctx)
	}
	mended := line.mend()
	over = true
	loaded.Wait() // what is under way ends within the client's timeout
	unwatch()
	aside.Wait()
	close(tell.queue)
	told.Wait()
	r.judge(run, line, watch, outcomes)
	if well = r.end(ctx, run, line, cause, mended); well {
		well = r.settle(ctx, run, start.Add(line.lastMending()))
	}
	return run, well
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
	dns := len(r.target.DNS.Servers) > 0
	run.Checks = r.drill.checks(&findings{sums: s, recoveries: run.Recoveries, detections: run.Detections, begun: begun, dns: dns})
	run.NotJudged = r.drill.notJudged(dns)
	run.Verdict = report.Passed
	if slices.ContainsFunc(run.Checks, func(c report.Check) bool { return !c.OK }) {
		run.Verdict = report.Failed
	}
	if late := s.tooLate(); late != "" {
		run.Verdict, run.Reason = report.Broken, late
	}
}

// end says what else became of a run, the worst last, and whether another may
// follow.
func (r *runner) end(ctx context.Context, run *report.Run, line *timeline, cause, mended error) (well bool) {
	ended := func(as report.Outcome, why string) { run.Verdict, run.Reason, well = as, why, false }
	well = true
	for _, mark := range run.Faults {
		if mark.Broken == 0 {
			ended(report.Broken, "was not broken while the load lasted: "+mark.Fault+" "+mark.Error)
		}
	}
	if planned := r.drill.faultCount(); cause == nil && len(run.Faults) < planned {
		ended(report.Broken, fmt.Sprintf("%d of %d faults had begun when the load ended", len(run.Faults), planned))
	}
	if idle := line.idle(); idle != nil {
		ended(report.Broken, idle.Error())
	}
	unmended := new(NotMendedError)
	switch {
	case cause == nil:
	case errors.Is(cause, errBudget):
		ended(report.Aborted, cause.Error())
	case ctx.Err() != nil:
		ended(stopped(ctx))
	case errors.As(cause, &unmended) && mended == nil:
		ended(report.Broken, fmt.Sprintf("mended at the second try only: %s: %v", unmended.Fault, unmended.Err))
	default:
		ended(report.Broken, cause.Error())
	}
	if mended != nil {
		ended(report.Broken, r.unmended(ctx, mended).Error())
	}
	return well
}

// stopped says what a run is that ctx has ended.
func stopped(ctx context.Context) (report.Outcome, string) {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errTargetEnded):
		return report.Broken, cause.Error()
	case errors.Is(cause, context.Canceled):
		return report.Aborted, "told to stop"
	default:
		return report.Aborted, cause.Error()
	}
}

// endTimeout is how long a target that ends may take until it is known: its
// processes end one after another, and what is to be mended there fails already.
const endTimeout = 30 * time.Second

// unmended is what is left to do; of a target that has ended, why it has: there
// is nothing left to be mended.
func (r *runner) unmended(ctx context.Context, err error) error {
	if r.target.mayEnd {
		select {
		case <-ctx.Done():
		case <-time.After(endTimeout):
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errTargetEnded) {
		return cause
	}
	return err
}
