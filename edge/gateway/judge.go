package gateway

import (
	"time"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/federation"
)

// pass is the permission of an endpoint's breaker for one attempt, or the edge
// that leads to the endpoint; its zero value is that of an endpoint without
// either.
type pass struct {
	breaker *breaker.Breaker
	ticket  breaker.Ticket
	peer    *peer
}

// judge tells the breaker, once for each attempt, how the endpoint did. What
// says nothing about the endpoint is not told: see leave.
func (c *call) judge(well bool, now time.Time) {
	p := &c.at.pass
	switch {
	case p.breaker == nil:
		return
	case well:
		p.breaker.Success(p.ticket, now)
	default:
		p.breaker.Failure(p.ticket)
	}
	p.breaker = nil
}

// ignore gives the permission back, unless the breaker was told already.
func (p pass) ignore() {
	if p.breaker != nil {
		p.breaker.Ignore(p.ticket)
	}
}

// leave gives the place at the endpoint back.
func (c *call) leave() {
	c.holds.leave(c.at.pass)
	c.holds = nil
	c.route.service.freed()
}

// newBreaker makes the breaker of an endpoint.
func (g *Gateway) newBreaker(key federation.Key, o breaker.Options) *breaker.Breaker {
	return breaker.New(o, func(from, to breaker.State) {
		g.metrics.breakers.WithLabelValues(key.Service, to.String()).Inc()
		g.opts.Log.Warn("circuit breaker changed", "endpoint", key.String(), "from", from.String(), "to", to.String())
		if s := g.routing.Load().services[key.Service]; s != nil && to != breaker.Open {
			s.stirred()
		}
	})
}
