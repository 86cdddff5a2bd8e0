package gateway

import (
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// walk looks for an endpoint along the ladder. Requests and Explain walk alike.
type walk struct {
	plan     *servicePlan
	decision route.Decision
	// rnd decides within a group by its high bits, between the zones of a lane
	// by the lowest 16.
	rnd uint64
	// hash takes the place of rnd in both when hashed.
	hash   uint64
	hashed bool
	// avoid is the zone whose groups come after the others of their lane.
	avoid string
	// panicking opens unhealthy endpoints once every rung is empty.
	panicking bool
	tried     []*federation.Endpoint
	shut      []shutGroup // groups that there is no way into
	// passed is told of each group that had none; nil: nobody asks.
	passed func(*route.Group, route.Rung)
}

// next returns the next endpoint to try.
func (w *walk) next() (candidate, bool) {
	ladder := w.decision.LadderAvoiding(w.point(), w.avoid)
	for {
		group, rung, ok := ladder.Next()
		if !ok {
			break
		}
		if len(w.shut) > 0 && w.isShut(group, false) {
			continue
		}
		if e := w.pick(group); e != nil {
			return candidate{endpoint: e, group: group, rung: rung}, true
		}
		if w.passed != nil {
			w.passed(group, rung)
		}
	}
	if !w.panicking {
		return candidate{}, false
	}
	ladder = w.decision.PanicLadder()
	for {
		group, rung, ok := ladder.Next()
		if !ok {
			return candidate{}, false
		}
		if len(w.shut) > 0 && w.isShut(group, true) {
			continue
		}
		if e := w.open(group); e != nil {
			return candidate{endpoint: e, group: group, rung: rung}, true
		}
		if w.passed != nil {
			w.passed(group, rung)
		}
	}
}

// point is where in the shares of the lane's zones the walk begins.
func (w *walk) point() uint32 {
	if w.hashed {
		return uint32(w.hash)
	}
	return uint32(w.rnd)
}

func (w *walk) pick(group *route.Group) *federation.Endpoint {
	if w.hashed {
		return w.plan.rings[group.Index].PickHash(w.hash, w.rnd, w.tried)
	}
	return w.plan.pickers[group.Index].Pick(w.rnd, w.tried)
}

// open picks an endpoint of the group although it is judged unhealthy. Those
// that requests have just ejected are still among the healthy of the plan.
func (w *walk) open(group *route.Group) *federation.Endpoint {
	for _, list := range [2][]*federation.Endpoint{group.Unhealthy, group.Endpoints} {
		for n := range list {
			e := list[(w.rnd>>16+uint64(n))%uint64(len(list))]
			if rt, ok := e.Runtime.(*endpoint); ok && !w.wasTried(e) && rt.open() {
				return e
			}
		}
	}
	return nil
}

func (w *walk) isShut(group *route.Group, panicking bool) bool {
	for _, s := range w.shut {
		if s.group == group && s.panicking == panicking {
			return true
		}
	}
	return false
}

func (w *walk) wasTried(e *federation.Endpoint) bool {
	for _, t := range w.tried {
		if t.Instance == e.Instance {
			return true
		}
	}
	return false
}
