package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
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

// awaitSteady loads the target and breaks nothing until its steady state holds,
// for at most patience.
func (r *runner) awaitSteady(ctx context.Context, patience time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for told := false; ; told = true {
		err := r.steady(limited)
		if ctx.Err() != nil {
			return fmt.Errorf("told to stop before anything was broken: %w", context.Cause(ctx))
		}
		if err == nil {
			return nil
		}
		if !told {
			r.options.Progress.Say("not yet: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("the target is not in its steady state, so nothing was broken: %w", err)
		case <-time.After(time.Second):
		}
	}
}

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
		errs = append(errs, errors.New(late))
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
	return errors.Join(errs...)
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
