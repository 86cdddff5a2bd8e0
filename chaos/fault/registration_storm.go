package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

const (
	// stormService is what the storm's instances belong to: no route leads
	// to it.
	stormService = "drill-registration-storm"
	// stormAddress is theirs: private, as edges take instances by default, and
	// most likely nobody's.
	stormAddress = "10.255.255.254:9"
	// stormWorkers bounds the calls that are under way at a time.
	stormWorkers = 16
)

// newRegistrationStorm registers count instances, rate a second, with edges in
// turn, and keeps sending their heartbeats. Mended, it deregisters them. The
// storm goes on while edges refuse or are slow, which is its point; only when
// the first registration of a zone fails, it does not break out.
func newRegistrationStorm(spec Spec, target any) (Fault, error) {
	return storming(&spec, target, api.DefaultTTL)
}

func storming(spec *Spec, target any, ttl time.Duration) (Fault, error) {
	clients, err := need[Clients](target, "API")
	if err != nil {
		return nil, err
	}
	named, err := zones(spec.Zones, target)
	if err != nil {
		return nil, err
	}
	if spec.Rate > maxRate {
		return nil, fmt.Errorf("rate is %d registrations/s, allowed are up to %d", spec.Rate, maxRate)
	}
	what := fmt.Sprintf("register %d instances, %d a second, in %s", spec.Count, spec.Rate, list(named))
	var s *storm // the latest
	effect := func(ctx context.Context) error { return s.effect(ctx) }
	return &plan{what: what, effect: effect, do: func(ctx context.Context, u *undo) error {
		s = &storm{zones: named, id: time.Now().UnixNano(), ttl: ttl, count: spec.Count}
		for _, zone := range named {
			edge, err := clients.Client(zone)
			if err != nil {
				return err
			}
			s.edges = append(s.edges, edge)
		}
		u.push("deregister the storm's instances", s.stop)
		return s.start(ctx, spec.Rate)
	}}, nil
}

// storm is its instances and who registers them: instance n with edge n modulo
// the number of edges, by worker n modulo stormWorkers.
type storm struct {
	zones []string
	edges []*api.Client
	id    int64 // tells the instances of storms
	ttl   time.Duration
	count int // of instances

	cancel  context.CancelFunc
	workers sync.WaitGroup
	tried   [stormWorkers][]int // instances that may be registered; a worker's own until it has ended

	registered atomic.Int64 // instances whose last call was answered well
	refused    atomic.Pointer[error]
	crashed    atomic.Pointer[error] // a worker is no more
}

func (s *storm) key(n int) federation.Key {
	return federation.Key{Service: stormService, ID: fmt.Sprintf("storm-%x-%d", s.id, n)}
}

func (s *storm) edge(n int) *api.Client { return s.edges[n%len(s.edges)] }

func (s *storm) register(ctx context.Context, n int) error {
	ttl := federation.Duration(s.ttl)
	_, err := s.edge(n).Register(ctx, s.key(n), api.Registration{
		Zone: s.zones[n%len(s.zones)], Address: stormAddress, Version: "v1", TTL: &ttl,
	}, api.WriteOptions{})
	return err
}

// start registers the first of each zone, and lets the others follow.
func (s *storm) start(ctx context.Context, rate int64) error {
	first := min(s.count, len(s.edges))
	for n := range first {
		s.tried[n%stormWorkers] = append(s.tried[n%stormWorkers], n)
		if err := s.register(ctx, n); err != nil {
			return fmt.Errorf("the storm's first registration in %s: %w", s.zones[n], err)
		}
		s.registered.Add(1)
	}
	// It blows until it is mended, not until Break's caller ends ctx.
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	began := time.Now()
	for w := range stormWorkers {
		var calls []call
		for n := w; n < s.count; n += stormWorkers {
			due := began.Add(time.Duration(int64(n) * int64(time.Second) / rate))
			calls = append(calls, call{n: n, due: due, tried: n < first, registered: n < first})
		}
		s.workers.Go(func() { s.blow(ctx, w, calls) })
	}
	return nil
}

// call is the next one about an instance.
type call struct {
	n                 int
	due               time.Time
	tried, registered bool
}

// blow is work; the others go on where one worker cannot.
func (s *storm) blow(ctx context.Context, worker int, calls []call) {
	err := guard.Do(func() error {
		s.work(ctx, worker, calls)
		return nil
	})
	if err != nil {
		s.crashed.CompareAndSwap(nil, &err)
	}
}

// work makes the call that is due first, for ever.
func (s *storm) work(ctx context.Context, worker int, calls []call) {
	for len(calls) > 0 {
		next := &calls[0]
		for n := range calls {
			if calls[n].due.Before(next.due) {
				next = &calls[n]
			}
		}
		if pause(ctx, time.Until(next.due)) != nil {
			return
		}
		if !next.tried {
			s.tried[worker] = append(s.tried[worker], next.n)
			next.tried = true
		}
		var err error
		if next.registered {
			err = s.edge(next.n).Heartbeat(ctx, s.key(next.n))
		} else {
			err = s.register(ctx, next.n)
		}
		if err != nil {
			s.refused.CompareAndSwap(nil, &err)
		}
		s.confirm(next, err == nil)
		next.due = time.Now().Add(s.ttl / 3)
	}
}

// confirm notes whether an instance is registered: an edge that forgot it is
// told again.
func (s *storm) confirm(c *call, registered bool) {
	switch {
	case registered && !c.registered:
		s.registered.Add(1)
	case !registered && c.registered:
		s.registered.Add(-1)
	}
	c.registered = registered
}

// stormEnough is how many of its instances a storm must have registered to be
// one, in percent: edges may refuse a few, or be slow.
const stormEnough = 90

// effect waits until enough are registered.
func (s *storm) effect(ctx context.Context) error {
	missing := await(ctx, poll, func() error {
		registered := s.registered.Load()
		if s.crashed.Load() != nil || registered*100 >= int64(s.count)*stormEnough {
			return nil
		}
		err := fmt.Errorf("%d of %d instances were registered", registered, s.count)
		if refused := s.refused.Load(); refused != nil {
			err = fmt.Errorf("%w; the first that was refused: %w", err, *refused)
		}
		return err
	})
	if crashed := s.crashed.Load(); crashed != nil {
		return fmt.Errorf("the storm broke down: %w", *crashed)
	}
	return missing
}

// stop ends the storm and deregisters, stormWorkers at a time, what may have
// been registered; what is left is for its next call.
func (s *storm) stop(ctx context.Context) error {
	if s.cancel != nil {
		s.cancel()
		s.workers.Wait()
	}
	var failed [stormWorkers]error
	for w := range stormWorkers {
		s.workers.Go(func() { failed[w] = guard.Do(func() error { return s.clear(ctx, w) }) })
	}
	s.workers.Wait()
	for _, edge := range s.edges {
		edge.Close()
	}
	return errors.Join(failed[:]...)
}

// clear deregisters what one worker has tried, and returns the first error.
func (s *storm) clear(ctx context.Context, worker int) (first error) {
	var left []int
	for _, n := range s.tried[worker] {
		if err := s.deregister(ctx, n); err != nil {
			left = append(left, n)
			if first == nil {
				first = err
			}
		}
	}
	s.tried[worker] = left
	return first
}

// deregister asks the edge that registered n first, then the others.
func (s *storm) deregister(ctx context.Context, n int) error {
	var errs []error
	for other := range s.edges {
		err := s.edge(n+other).Deregister(ctx, s.key(n), api.WriteOptions{})
		if problem, ok := errors.AsType[*api.Problem](err); err == nil || ok && problem.Status == http.StatusNotFound {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
