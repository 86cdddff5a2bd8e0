package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/chaos/report"
)

// mendTimeout bounds the mending of one fault: a whole zone may have to start.
const mendTimeout = 90 * time.Second

// timeline breaks and mends the steps of one run.
type timeline struct {
	steps []*liveStep
	start time.Time
	// note is told what happens.
	note func(string)
	// lost are when each edge was lost to its clients, as far as is known yet.
	lost atomic.Pointer[[][]span]

	mu     sync.Mutex // guards what the steps note of themselves
	target *Target
}

// liveStep is a step and how far it is.
type liveStep struct {
	Step
	faults []*liveFault
	what   brokenStep
}

// liveFault is a fault of a step and how far it is.
type liveFault struct {
	fault.Fault
	mark  report.Mark
	begun bool  // so that there may be something to mend
	asked bool  // whether it took effect
	idle  error // it had no effect
}

// otherBinary is what a drill calls the other version of the program.
const otherBinary = "other"

// build makes the faults of run n of a drill and breaks none of them.
func (o *Options) build(n int) ([][]fault.Fault, error) {
	var all [][]fault.Fault
	var errs []error
	for i, s := range o.Drill.Faults {
		var faults []fault.Fault
		for j, spec := range s.Do {
			if spec.Binary == otherBinary {
				spec.Binary = o.Binary
			}
			if spec.Seed != 0 {
				spec.Seed = cmp.Or(o.Seed, spec.Seed) + int64(n)
			}
			f, err := fault.New(spec, o.Target.Faults)
			if err != nil {
				errs = append(errs, fmt.Errorf("drill %s, faults[%d].do[%d], target %s: %w", o.Drill.Name, i, j, o.Target.Name, err))
				continue
			}
			faults = append(faults, f)
		}
		all = append(all, faults)
	}
	return all, errors.Join(errs...)
}

func newTimeline(d *Drill, t *Target, faults [][]fault.Fault, start time.Time, note func(string)) *timeline {
	l := &timeline{start: start, note: note, target: t}
	for i, s := range d.Faults {
		step := &liveStep{Step: s}
		var names []string
		for _, f := range faults[i] {
			step.faults = append(step.faults, &liveFault{Fault: f, mark: report.Mark{Fault: f.String()}})
			names = append(names, f.String())
		}
		step.what.name = strings.Join(names, ", then ")
		for _, zone := range s.Loses {
			step.what.loses = append(step.what.loses, t.zone(zone))
		}
		l.steps = append(l.steps, step)
	}
	l.publish()
	return l
}

// begun reports a step part of which may be broken, or was. The caller holds mu,
// or nothing runs.
func (s *liveStep) begun() bool { return len(s.faults) > 0 && s.faults[0].begun }

// publish renews lost. The caller holds mu, or nothing runs yet.
func (l *timeline) publish() {
	m := measured{target: l.target, steps: l.broken()}
	lost := m.lostSpans()
	l.lost.Store(&lost)
}

// broken are the steps that have begun. The caller holds mu, or nothing runs.
func (l *timeline) broken() []brokenStep {
	var list []brokenStep
	for _, s := range l.steps {
		if s.begun() {
			list = append(list, s.what)
		}
	}
	return list
}

// brokenNow names what is broken.
func (l *timeline) brokenNow() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, s := range l.steps {
		if s.begun() && s.what.back == 0 {
			list = append(list, s.what.name)
		}
	}
	return list
}

// marks are the faults that have begun. Nothing may run any more.
func (l *timeline) marks() []report.Mark {
	var list []report.Mark
	for _, s := range l.steps {
		for _, f := range s.faults {
			if f.begun {
				list = append(list, f.mark)
			}
		}
	}
	return list
}

// lastMending is when the last mending began, or where there was none, now.
// Nothing may run any more.
func (l *timeline) lastMending() time.Duration {
	var last time.Duration
	for _, s := range l.steps {
		last = max(last, s.what.mended)
	}
	return cmp.Or(last, l.now())
}

func (l *timeline) now() time.Duration { return time.Since(l.start) }

// run breaks and mends each step at its time and returns when all are done or
// ctx ends. The first error ends it through stop.
func (l *timeline) run(ctx context.Context, stop context.CancelCauseFunc) {
	var running sync.WaitGroup
	for _, s := range l.steps {
		running.Go(func() {
			if err := guard.Do(func() error { return l.play(ctx, s) }); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	running.Wait()
}

func (l *timeline) play(ctx context.Context, s *liveStep) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if !waitUntil(ctx, timer, l.start.Add(s.At)) {
		return nil
	}
	for j, f := range s.faults {
		if err := l.breakOne(ctx, s, f, j == 0); err != nil {
			return err
		}
	}
	if s.For == 0 || !waitUntil(ctx, timer, l.start.Add(s.At+s.For)) {
		return nil
	}
	l.askEffects(ctx, s)
	if ctx.Err() != nil {
		return nil // who ended it asks what is left to ask, and mends
	}
	return l.mendStep(ctx, s)
}

func (l *timeline) breakOne(ctx context.Context, s *liveStep, f *liveFault, first bool) error {
	l.mu.Lock()
	f.begun, f.mark.Begun = true, l.now()
	if first {
		s.what.begun = f.mark.Begun
		l.publish()
	}
	l.mu.Unlock()
	l.note("break: " + f.String())
	err := f.Break(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		f.mark.Error = err.Error()
		return fmt.Errorf("break %s: %w", f, err)
	}
	f.mark.Broken = l.now()
	return nil
}

// mendStep mends what was begun and is not mended; it goes on after an error.
func (l *timeline) mendStep(ctx context.Context, s *liveStep) error {
	var errs []error
	for _, f := range s.faults {
		if !f.begun || f.mark.Mended > 0 {
			continue
		}
		l.mu.Lock()
		if s.what.mended == 0 {
			s.what.mended = l.now()
		}
		l.mu.Unlock()
		l.note("mend: " + f.String())
		limited, cancel := context.WithTimeout(ctx, mendTimeout)
		err := guard.Do(func() error { return f.Mend(limited) })
		cancel()
		if err != nil && ctx.Err() == nil {
			l.note(fmt.Sprintf("not mended: %s: %v", f, err))
		}
		l.mu.Lock()
		if err != nil {
			f.mark.Error = err.Error()
			errs = append(errs, &NotMendedError{Fault: f.String(), Err: err})
		} else {
			f.mark.Mended, f.mark.Error = l.now(), ""
			if f.idle != nil {
				f.mark.Error = f.idle.Error()
			}
		}
		l.mu.Unlock()
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.what.back = l.now()
	l.publish()
	return nil
}

// mend mends all that is not mended yet, whatever ended the run: of steps that
// overlap the last first, since it broke what the others had left.
func (l *timeline) mend() error {
	var errs []error
	latest := func(a, b *liveStep) int { return cmp.Compare(b.what.begun, a.what.begun) }
	for _, s := range slices.SortedStableFunc(slices.Values(l.steps), latest) {
		if s.begun() && s.what.back == 0 {
			errs = append(errs, l.mendStep(context.Background(), s))
		}
	}
	return errors.Join(errs...)
}

// NotMendedError is a fault that is still there after the drill.
type NotMendedError struct {
	Fault string
	Err   error
}

// Unwrap returns why it could not be mended.
func (e *NotMendedError) Unwrap() error { return e.Err }

// Error says what is left to do.
func (e *NotMendedError) Error() string {
	return fmt.Sprintf("NOT MENDED, mend it by hand: %s: %v", e.Fault, e.Err)
}
