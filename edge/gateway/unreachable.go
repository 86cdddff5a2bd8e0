package gateway

import (
	"slices"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
)

// unreachable ends what waits where nobody can connect to any more: over a
// connection of before, no answer will come either. So an AZ that falls silent
// is left a second before gossip is sure of it. Only what will be tried again is
// ended: an endpoint that is merely too busy to accept may yet answer the rest,
// and a zone that is lost has it moved on. (Envoy has
// close_connections_on_host_health_failure, off by default, without the retry.)
func (g *Gateway) unreachable(lost func(*endpoint) bool) {
	g.metrics.moves.Add(float64(g.waiting.move(exchange.ErrUnreachable, lost, (*call).mayLeave)))
}

// mayLeave reports whether a waiting request will be tried elsewhere by the rules
// of what broke off, and takes that out of the retry budget. Where another edge
// has sent the request here, the rules and the budget are that edge's.
func (c *call) mayLeave() bool {
	switch {
	case !c.hasOther(c.decision.Lane, nil) && !c.hasOther(c.decision.Fallback, nil) && !c.hasOtherWay():
		return false
	case c.from != "":
		return true
	}
	return c.counted < int(c.route.retries) && c.route.retryOn&RetryReset != 0 && c.route.service.budget.take()
}

// hasOtherWay reports whether another edge leads to the endpoint that the request
// waits for.
func (c *call) hasOtherWay() bool {
	q := c.at.pass.peer
	return q != nil && c.holds.works() && q.standIn.zone.Load().through.hasOther(q)
}

// hasOther reports whether a lane has an endpoint, outside of a group, that would
// take the request and was not tried; nil has none.
func (c *call) hasOther(lane *route.Lane, outside *route.Group) bool {
	if lane == nil {
		return false
	}
	for _, group := range lane.Groups {
		if group == outside || slices.Contains(c.shut, shutGroup{group: group}) {
			continue
		}
		for _, e := range group.Endpoints {
			if e.Runtime.Admits() && !slices.Contains(c.tried, e) {
				return true
			}
		}
	}
	return false
}
