package gateway

import (
	"runtime"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// leaving is what tunnels and streams may go on at only for the drain timeout,
// and since when. Gateway.mu guards it.
type leaving struct {
	endpoints map[*endpoint]time.Time // those that drain or are gone
	routes    map[retired]time.Time   // those that the configuration has no more
}

// retired is a route as it led to a service.
type retired struct{ route, service string }

// remembered is for how long beyond the drain timeout a retired route is known:
// a request that had taken it before may only come to last.
const remembered = 10 * time.Minute

// setDraining notes since when an endpoint drains. Held under mu.
func (g *Gateway) setDraining(e *endpoint, draining bool) {
	_, known := g.leaving.endpoints[e]
	switch {
	case draining && !known:
		g.leaving.endpoints[e] = g.opts.Now()
	case !draining && known:
		delete(g.leaving.endpoints, e)
	}
}

// setGone notes that an endpoint is gone. Held under mu.
func (g *Gateway) setGone(e *endpoint) { g.setDraining(e, true) }

// setRetired notes which routes a new configuration has no more. Held under mu.
func (g *Gateway) setRetired(old, next *routing) {
	now := g.opts.Now()
	for i := range old.routes {
		g.leaving.routes[retired{old.routes[i].config.ID, old.routes[i].config.Service}] = now
	}
	for i := range next.routes {
		delete(g.leaving.routes, retired{next.routes[i].config.ID, next.routes[i].config.Service})
	}
}

// overstayed is what has been leaving for longer than the drain timeout. Held
// under mu.
func (g *Gateway) overstayed(now time.Time) (over overstayed) {
	timeout := g.opts.DrainTimeout
	g.upstreamsMu.Lock()
	defer g.upstreamsMu.Unlock()
	for e, since := range g.leaving.endpoints {
		switch {
		case e.inFlight.Load() == 0:
			if e.gone {
				delete(g.leaving.endpoints, e)
			}
		case timeout > 0 && now.Sub(since) >= timeout:
			if over.endpoints == nil {
				over.endpoints = make(map[*endpoint]bool)
			}
			over.endpoints[e] = true
		}
	}
	for r, since := range g.leaving.routes {
		if timeout > 0 && now.Sub(since) >= timeout {
			if over.routes == nil {
				over.routes = make(map[retired]bool)
			}
			over.routes[r] = true
		}
		if now.Sub(since) >= timeout+remembered {
			delete(g.leaving.routes, r)
		}
	}
	return over
}

// overstayed is where nothing may last any more.
type overstayed struct {
	endpoints map[*endpoint]bool
	routes    map[retired]bool
}

// endLasting ends the tunnels and streams there; requests are bounded by
// themselves.
func (g *Gateway) endLasting(over overstayed) {
	if over.endpoints == nil && over.routes == nil {
		return
	}
	if ended := g.waiting.end(over); ended > 0 {
		g.metrics.drained.Add(float64(ended))
		g.opts.Log.Info("tunnels and streams ended: their endpoints or routes are gone", "ended", ended)
	}
}

// end cancels what lasts there. It returns how much that was.
func (w *waiting) end(over overstayed) (ended int) {
	for _, c := range w.list() {
		e := c.lasts.Load()
		if e == nil || !c.lasts.CompareAndSwap(e, &w.claimed) {
			continue
		}
		// While it is claimed its route stays.
		route := c.route.config
		if !over.endpoints[e] && !over.routes[retired{route.ID, route.Service}] {
			c.lasts.Store(e)
			continue
		}
		c.x.Cancel(exchange.ErrDrained)
		c.lasts.Store(nil)
		ended++
	}
	return ended
}

// passed says that the call does not last any more, after a claim under way.
func (c *call) passed() {
	for {
		switch e := c.lasts.Load(); {
		case e == nil:
			return
		case e == &c.g.waiting.claimed:
			runtime.Gosched() // for as long as an interruption takes
		case c.lasts.CompareAndSwap(e, nil):
			return
		}
	}
}
