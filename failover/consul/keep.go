package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
)

const (
	// holdEvery is how often the edge says that it holds its entry as it is.
	holdEvery = time.Second
	// callTimeout bounds one request to the agent. One that has no leader
	// takes nothing in while it tries to pass on what it has, for up to seven
	// seconds (rpc_hold_timeout). Giving up earlier would leave the request
	// in its queue, and the next might overtake it.
	callTimeout = 10 * time.Second
	// leaveTimeout bounds the end.
	leaveTimeout = 2 * time.Second
	// The wait after a failure, doubling.
	retryMin, retryMax = 100 * time.Millisecond, 2 * time.Second
)

// keep makes the agent hold what was decided until ctx ends.
func (p *Publisher) keep(ctx context.Context) {
	again := backoff{min: retryMin, max: retryMax}
	for ctx.Err() == nil {
		if err := p.publish(ctx, *p.decision.Load()); err != nil {
			// What the agent holds is unknown: it may have lost all.
			p.published.Store(nil)
			if p.failing(ctx, &p.keepErr, err) {
				p.opts.Log.Warn("entry cannot be published in Consul", "service", p.id, "error", err)
			}
			again.wait(ctx)
			continue
		}
		again.reset()
		if p.mended(&p.keepErr) {
			p.opts.Log.Info("entry is published in Consul again", "service", p.id)
		}
		select {
		case <-ctx.Done():
		case <-p.changed:
		case <-time.After(jitter(holdEvery)):
		}
	}
}

// publish has the agent hold d. Out is said first and at once; in is said
// after its weight.
func (p *Publisher) publish(ctx context.Context, d failover.Decision) error {
	// The agent tells the servers of the entry with the token that it came
	// with, also when the check fails of an edge that has died.
	sent := p.token.current()
	had, wrong := p.published.Load(), p.wrong.Swap(false)
	stale := had == nil || had.weight != d.Weight || had.token != sent || wrong
	changes := stale || had.in != d.In
	if had != nil && changes {
		// From here on the watch may find either, and must not take the new
		// one for somebody else's.
		p.published.Store(&publication{in: d.In, weight: d.Weight, token: sent, changed: time.Now()})
	}
	if had != nil && !d.In && stale {
		if err := p.hold(ctx, d); err != nil {
			return err
		}
	}
	if stale {
		if err := p.register(ctx, d); err != nil {
			return err
		}
	}
	// Consul keeps the state of a check that it has, so registering is not
	// enough to change it.
	if err := p.hold(ctx, d); err != nil {
		return err
	}
	if changes {
		p.published.Store(&publication{in: d.In, weight: d.Weight, token: sent, changed: time.Now()})
	}
	return nil
}

// register is not cut off by the end of ctx: the agent would take the entry in
// all the same, perhaps after it was told to remove it.
func (p *Publisher) register(ctx context.Context, d failover.Decision) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	p.counters.registrations.Add(1)
	entry := p.opts.registration(d.In, d.Weight)
	if n := p.counters.corrections.Load(); n > 0 {
		// An agent of version 1.14 tells the servers of no check or service that
		// is as it was told before, though they have lost it: this one is not.
		for _, check := range entry.Checks {
			check.Notes = fmt.Sprintf("correction %d", n)
		}
	}
	err := p.client.Agent().ServiceRegisterOpts(entry,
		api.ServiceRegisterOpts{ReplaceExistingChecks: !p.cleared}.WithContext(ctx))
	p.unanswered = err != nil && ctx.Err() != nil
	if err != nil {
		return fmt.Errorf("register service %s: %w", p.id, err)
	}
	p.cleared = true
	return nil
}

func (p *Publisher) hold(ctx context.Context, d failover.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state := api.HealthCritical
	if d.In {
		state = api.HealthPassing
	}
	err := p.client.Agent().UpdateTTLOpts(holdID(p.id), d.Reason, state, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("hold check %s %s: %w", holdID(p.id), state, err)
	}
	return nil
}

// leave removes this edge's entry, and no other. It tries again while the agent
// refuses, and while it may yet take a registration that it did not answer.
func (p *Publisher) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	again := backoff{min: retryMin, max: retryMax}
	for {
		err := p.deregister(ctx)
		p.published.Store(nil)
		if err == nil && !p.unanswered {
			return
		}
		again.wait(ctx)
		if ctx.Err() == nil {
			continue
		}
		if err != nil {
			p.opts.Log.Warn("entry may be left in Consul", "service", p.id, "error", err)
		}
		return
	}
}

func (p *Publisher) deregister(ctx context.Context) error {
	err := p.client.Agent().ServiceDeregisterOpts(p.id, (&api.QueryOptions{}).WithContext(ctx))
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return nil // it is not there
	}
	return err
}

// failing notes an error at its place and reports whether it is the first of
// its row. It counts all but what is only the end of ctx.
func (p *Publisher) failing(ctx context.Context, at *error, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	p.counters.failures.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	first := *at == nil
	*at = err
	return first
}

// mended forgets the error at its place and reports whether there was one.
func (p *Publisher) mended(at *error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := *at != nil
	*at = nil
	return was
}
