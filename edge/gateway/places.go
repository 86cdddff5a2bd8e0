package gateway

import (
	"errors"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/exchange"
)

// The edge's answers to requests that get no place.
var (
	refuseServiceFull  = refusal{503, "service-limit", "as many requests to the service are under way as may"}
	refuseQueueFull    = refusal{503, "queue-full", "as many requests wait for a place as may"}
	refuseQueueTimeout = refusal{503, "queue-timeout", "no place came free in time"}
)

// entry is how a request fared that looked for a place.
type entry uint8

const (
	entered entry = iota
	serviceFull
	noEndpoint
)

// queues are where requests to a service wait, one for each subset: an endpoint
// that is full must not keep those from their place that it is of no use to.
type queues []subsetQueue

type subsetQueue struct {
	subset string
	*admission.Queue
}

func (q queues) of(subset string) *admission.Queue {
	for i := range q {
		if q[i].subset == subset {
			return q[i].Queue
		}
	}
	return nil
}

// waitingRoom is the queues that a service has now; nil: none.
func (m *serviceMemory) waitingRoom() queues {
	if q := m.queues.Load(); q != nil {
		return *q
	}
	return nil
}

// freed tells those who wait that a place was given back.
func (m *serviceMemory) freed() {
	for _, q := range m.waitingRoom() {
		q.Freed()
	}
}

// stirred tells those who wait that any number of places may have come.
func (m *serviceMemory) stirred() {
	for _, q := range m.waitingRoom() {
		q.Changed()
	}
}

// setPlaces brings the limit and the queues up to date. Held under Gateway.mu.
func (s *service) setPlaces(plan *servicePlan, policy *Policy) {
	s.limit.Set(int64(policy.MaxServiceRequests))
	old := s.waitingRoom()
	if policy.Queue.Size == 0 {
		if old != nil {
			s.queues.Store(nil)
		}
		return
	}
	next := make(queues, 0, len(plan.Lanes))
	for _, lane := range plan.Lanes {
		queue := old.of(lane.Subset)
		if queue == nil {
			queue = admission.NewQueue(policy.Queue)
		}
		queue.SetOptions(policy.Queue)
		next = append(next, subsetQueue{lane.Subset, queue})
	}
	s.queues.Store(&next)
}

// first finds the endpoint of the first attempt, and waits for a place if need
// be.
func (g *Gateway) first(c *call) (candidate, *refusal) {
	s := c.route.service
	queue := s.waitingRoom().of(c.decision.Lane.Subset)
	if queue == nil || queue.Waiting() == 0 {
		next, how := g.enter(c)
		switch {
		case how == entered:
			return next, nil
		case how == noEndpoint && (queue == nil || !c.crowded()):
			return next, c.unusable()
		case queue == nil:
			c.retryAfter = retryIn
			return next, &refuseServiceFull
		}
	}
	return g.line(c, queue)
}

// enter takes a place within the service's limit and at an endpoint.
func (g *Gateway) enter(c *call) (candidate, entry) {
	s := c.route.service
	if c.plan.limited {
		if !s.limit.Enter() {
			return candidate{}, serviceFull
		}
		c.inside = s.serviceMemory
	}
	next, ok := g.pick(c, true)
	if !ok {
		// Nobody is told of this place, which nobody had: the first in line may
		// be this very request, which would ask again and again.
		if c.inside != nil {
			c.inside.limit.Leave()
			c.inside = nil
		}
		return next, noEndpoint
	}
	return next, entered
}

// leaveService gives the place within the service's limit back.
func (c *call) leaveService() {
	if s := c.inside; s != nil {
		c.inside = nil
		s.limit.Leave()
		s.freed()
	}
}

// crowded reports whether an endpoint lacks nothing but room, or has that now.
func (c *call) crowded() bool {
	ladder := c.decision.Ladder(0)
	for {
		group, _, ok := ladder.Next()
		if !ok {
			return false
		}
		for _, e := range group.Endpoints {
			if rt, ok := e.Runtime.(*endpoint); ok && rt.works() {
				return true
			}
		}
	}
}

// line waits in the queue for a place.
func (g *Gateway) line(c *call, queue *admission.Queue) (candidate, *refusal) {
	service := c.route.service.name
	c.retryAfter = retryIn
	waiter, err := queue.Join()
	if err != nil {
		g.metrics.queued.WithLabelValues(service, "full").Inc()
		return candidate{}, &refuseQueueFull
	}
	defer waiter.Leave() // unless it has left
	c.queued = true
	if cause := c.x.Await(waiter); cause != nil {
		return candidate{}, c.interrupted(cause)
	}
	defer func() { _ = c.x.Await(nil) }() // it fails for a non-nil argument only
	for {
		if err := waiter.Turn(c.until); err != nil {
			if errors.Is(err, admission.ErrInterrupted) {
				return candidate{}, c.interrupted(c.x.Cause())
			}
			g.metrics.queued.WithLabelValues(service, "timeout").Inc()
			return candidate{}, &refuseQueueTimeout
		}
		c.reload(g)
		clear(c.tried)
		c.tried = c.tried[:0]
		next, how := g.enter(c)
		switch {
		case how == entered:
			waiter.Took()
			c.retryAfter = 0
			g.metrics.queued.WithLabelValues(service, "served").Inc()
			return next, nil
		case how == noEndpoint && !c.crowded():
			return next, c.unusable()
		}
	}
}

// interrupted ends a request that was cancelled before an attempt.
func (c *call) interrupted(cause error) *refusal {
	if errors.Is(cause, exchange.ErrClientGone) {
		return &refuseGone
	}
	return &refuseClosing
}
