package gateway

import (
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// failureCounts is how long a failure of an endpoint speaks against its zone:
// an AZ's instances die with its edges, and gossip needs up to 1.5 s to be
// sure of those.
const failureCounts = 3 * time.Second

// zone is what is known of an AZ. Gossip says whether its edges are dead,
// requests whether its endpoints fail; only both together demote it.
type zone struct {
	name     string
	dead     atomic.Bool  // all of its edges are
	demoted  atomic.Bool  // written under Gateway.mu
	failedAt atomic.Int64 // Unix nanoseconds
	through  *passage     // nil: its endpoints are reached directly
}

// zone returns the one of that name, made at first.
func (g *Gateway) zone(name string) *zone {
	g.zonesMu.Lock()
	defer g.zonesMu.Unlock()
	z := g.zones[name]
	if z == nil {
		z = &zone{name: name}
		if g.opts.Through != nil && name != g.opts.Topology.Zone && g.opts.Through(name) {
			z.through = &passage{zone: z}
		}
		g.zones[name] = z
	}
	return z
}

// lostZones are the demoted ones.
func (g *Gateway) lostZones() map[string]bool {
	g.zonesMu.Lock()
	defer g.zonesMu.Unlock()
	var lost map[string]bool
	for name, z := range g.zones {
		if z.demoted.Load() {
			if lost == nil {
				lost = make(map[string]bool)
			}
			lost[name] = true
		}
	}
	return lost
}

// SetZoneLost takes what gossip says: lost when all edges of the zone are dead.
// That alone demotes nothing, since edges can die while instances work; once an
// endpoint of the zone fails too, the zone goes to the end of every ladder and
// the idempotent requests that wait there are moved on. When an edge of it
// lives again, that is undone. This edge's own zone is never lost.
func (g *Gateway) SetZoneLost(name string, lost bool) {
	if name == g.opts.Topology.Zone {
		return
	}
	z := g.zone(name)
	z.dead.Store(lost)
	if !lost {
		g.setDemoted(z, false)
		return
	}
	if time.Since(time.Unix(0, z.failedAt.Load())) < failureCounts {
		g.setDemoted(z, true)
	}
}

// failed notes that an endpoint of the zone failed a request.
func (g *Gateway) zoneFailed(z *zone, now time.Time) {
	z.failedAt.Store(now.UnixNano())
	if z.dead.Load() && !z.demoted.Load() {
		g.setDemoted(z, true)
	}
}

func (g *Gateway) setDemoted(z *zone, demoted bool) {
	g.mu.Lock()
	// Gossip may have taken its word back in the meantime.
	changed := z.dead.Load() == demoted && z.demoted.CompareAndSwap(!demoted, demoted)
	g.mu.Unlock()
	if !changed {
		return
	}
	if g.opts.OnZone != nil {
		defer g.opts.OnZone(z.name, demoted)
	}
	if !demoted {
		g.opts.Log.Info("zone is back", "zone", z.name)
		g.replan(z)
		return
	}
	moved := g.waiting.move(exchange.ErrZoneLost, func(e *endpoint) bool { return e.zone.Load() == z }, nil)
	g.metrics.demoted(moved)
	g.opts.Log.Warn("zone demoted: its edges are dead and an endpoint failed", "zone", z.name, "moved", moved)
	g.replan(z)
}
