package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

const (
	// settleFirst is how long a target may take to be in its steady state
	// before the first run, settleAgain after a run.
	settleFirst = 30 * time.Second
	settleAgain = 3 * time.Minute
	// callTimeout bounds one question to an edge.
	callTimeout = 5 * time.Second
)

// answers asks every edge and every DNS server, and names those that do not.
func answers(ctx context.Context, t *Target) error {
	var errs []error
	for _, e := range t.Edges {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		if err := e.Client.Ready(limited); err != nil {
			errs = append(errs, fmt.Errorf("the edge of %s does not answer as it should: %w", e.Zone, err))
		}
		cancel()
	}
	if len(t.DNS.Servers) > 0 {
		all, err := newResolvers(t)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, server := range t.DNS.Servers {
			if _, _, err := all.all[0].ask(ctx, server); err != nil {
				errs = append(errs, fmt.Errorf("the DNS server %s does not answer as it should for %s: %w", server, t.DNS.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// notSteadyError says what does not hold in a steady state that was waited for.
type notSteadyError struct{ err error }

func (e *notSteadyError) Error() string { return e.err.Error() }

// Unwrap returns what does not hold.
func (e *notSteadyError) Unwrap() error { return e.err }

// awaitSteady loads the target and breaks nothing until its steady state holds,
// for at most patience. It returns from when on it held, and whether it did when
// it was looked at first. Its error is a notSteadyError, or why ctx ended.
func (r *runner) awaitSteady(ctx context.Context, patience time.Duration) (since time.Time, atOnce bool, err error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for told := false; ; told = true {
		since = time.Now()
		err := r.steady(limited)
		if ctx.Err() != nil {
			return since, false, context.Cause(ctx)
		}
		if err == nil {
			return since, !told, nil
		}
		if !told {
			r.options.Progress.Say("not yet: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return since, false, context.Cause(ctx)
			}
			return since, false, &notSteadyError{err}
		case <-time.After(time.Second):
		}
	}
}

// lateError says that this machine was too slow to tell.
type lateError struct{ what string }

func (e *lateError) Error() string { return e.what }

// begin waits for the steady state before the first run.
func (r *runner) begin(ctx context.Context) error {
	r.options.Progress.Say(fmt.Sprintf("waiting for the steady state to hold for %s", r.drill.Steady.For))
	_, _, err := r.awaitSteady(ctx, settleFirst)
	if missing := new(notSteadyError); errors.As(err, &missing) {
		return fmt.Errorf("the target is not in its steady state, so nothing was broken: %w", err)
	}
	if err != nil {
		return fmt.Errorf("told to stop before anything was broken: %w", err)
	}
	return nil
}

// settle waits until the steady state holds again after a run, whose last
// mending began at mended, and adds that to what is judged. No other run may
// follow one after which it does not hold.
func (r *runner) settle(ctx context.Context, run *report.Run, mended time.Time) (well bool) {
	r.options.Progress.Say(fmt.Sprintf("waiting for the steady state to hold again for %s", r.drill.Steady.For))
	since, atOnce, err := r.awaitSteady(ctx, r.patience)
	if missing := new(notSteadyError); err != nil && !errors.As(err, &missing) {
		run.Verdict, run.Reason = stopped(ctx)
		return false
	}
	took := round(since.Sub(mended)) + " after the last mending began"
	if atOnce {
		took = "when the load had ended, " + took
	}
	return r.judgeSettled(run, took, err)
}

// judgeSettled adds the check; missing is nil for a state that holds. Where this
// machine was too slow to tell, the target is not to blame.
func (r *runner) judgeSettled(run *report.Run, took string, missing error) (well bool) {
	check := report.Check{Name: steadyAgain, Goal: "within " + r.patience.String(), Measured: took, OK: missing == nil}
	if missing != nil {
		check.Measured = "not yet: " + strings.ReplaceAll(missing.Error(), "\n", "; ")
	}
	run.Checks = append(run.Checks, check)
	if late := new(lateError); errors.As(missing, &late) {
		run.Verdict, run.Reason = report.Broken, late.what
	} else if missing != nil && run.Verdict == report.Passed {
		run.Verdict = report.Failed
	}
	return missing == nil
}

// steadyAgain is the check that settle makes.
const steadyAgain = "steady state again"

// steady loads the target for as long as its steady state must hold, and says
// what does not.
func (r *runner) steady(ctx context.Context) error {
	// It ends by itself: what is asked must not be cut short by patience.
	g := r.generator(r.drill.Steady.For, func(*outcome) {})
	outcomes := g.run(context.WithoutCancel(ctx), time.Now())
	m := measured{target: r.target, slow: r.drill.Steady.Slow, outcomes: outcomes, end: r.drill.Steady.For}
	s := m.sum()
	var errs []error
	if late := s.tooLate(); late != "" {
		errs = append(errs, &lateError{late})
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
		errs = append(errs, fmt.Errorf("%d of %d requests: %s", s.Reasons[reason], s.Requests, reason))
	}
	for _, edge := range r.target.primaries() {
		if !m.inDNS(edge) {
			errs = append(errs, fmt.Errorf("DNS does not answer the edge of %s", r.target.Edges[edge].Zone))
		}
	}
	if s.Premature > 0 {
		errs = append(errs, fmt.Errorf("DNS answers a standby, %d times", s.Premature))
	}
	if s.tooSlow*100 > s.Surviving {
		errs = append(errs, fmt.Errorf("%d of %d requests took longer than %s", s.tooSlow, s.Surviving, r.drill.Steady.Slow))
	}
	if r.drill.SLO.Fallbacks != nil && s.fallbacks > 0 {
		errs = append(errs, fmt.Errorf("the baseline answers permissive requests, %d times", s.fallbacks))
	}
	answers := m.answers()
	for zone, n := range r.answers {
		if n*fewest >= total(r.answers) && answers[zone] == 0 {
			errs = append(errs, fmt.Errorf("no instance of %s answers, and some did before", r.target.Edges[zone].Zone))
		}
	}
	if len(errs) == 0 && r.answers == nil {
		r.answers = answers
	}
	return errors.Join(errs...)
}

// fewest is of how many answers in the first steady state one must have come
// from a zone for it to be missed later: fewer may have been chance.
const fewest = 20

// answers counts them by the zone of the instance.
func (m *measured) answers() []int {
	counts := make([]int, len(m.target.Edges))
	for i := range m.outcomes {
		if zone := m.outcomes[i].zone; zone >= 0 {
			counts[zone]++
		}
	}
	return counts
}

func total(counts []int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// inDNS is also true of a load that does not go by DNS.
func (m *measured) inDNS(edge int) bool {
	went := false
	for i := range m.outcomes {
		o := &m.outcomes[i]
		if o.byDNS() && o.entry == edge {
			return true
		}
		went = went || o.byDNS()
	}
	return !went
}
