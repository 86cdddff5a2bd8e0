package gateway

import (
	"runtime"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// leaving is an endpoint that gets no more requests.
type leaving struct {
	since time.Time
	gone  bool // the catalog has let it go
}

// setDraining notes since when an endpoint drains. Held under mu.
func (g *Gateway) setDraining(e *endpoint, draining bool) {
	_, known := g.leaving[e]
	switch {
	case draining && !known:
		g.leaving[e] = leaving{since: g.opts.Now()}
	case !draining && known:
		delete(g.leaving, e)
	}
}

// setGone notes that an endpoint is gone. Held under mu.
func (g *Gateway) setGone(e *endpoint) {
	l, known := g.leaving[e]
	if !known {
		l.since = g.opts.Now()
	}
	l.gone = true
	g.leaving[e] = l
}

// overstayed are the endpoints that have been leaving for longer than the drain
// timeout and have something in flight. Held under mu.
func (g *Gateway) overstayed(now time.Time) map[*endpoint]bool {
	var over map[*endpoint]bool
	for e, l := range g.leaving {
		switch {
		case e.inFlight.Load() == 0:
			if l.gone {
				delete(g.leaving, e)
			}
		case g.opts.DrainTimeout > 0 && now.Sub(l.since) >= g.opts.DrainTimeout:
			if over == nil {
				over = make(map[*endpoint]bool)
			}
			over[e] = true
		}
	}
	return over
}

// endLasting ends the tunnels and streams at endpoints; requests are bounded by
// themselves.
func (g *Gateway) endLasting(at map[*endpoint]bool) {
	if at == nil {
		return
	}
	if ended := g.waiting.end(at); ended > 0 {
		g.metrics.drained.Add(float64(ended))
		g.opts.Log.Info("tunnels and streams ended: their endpoints drain", "ended", ended)
	}
}

// end cancels what lasts at one of the endpoints. It returns how much that was.
func (w *waiting) end(at map[*endpoint]bool) (ended int) {
	for _, c := range w.list() {
		e := c.lasts.Load()
		if e == nil || !at[e] || !c.lasts.CompareAndSwap(e, &w.claimed) {
			continue
		}
		c.x.Cancel(exchange.ErrDrained)
		c.lasts.Store(nil)
		ended++
	}
	return ended
}

// passed ends what lasts, and waits for a cancellation that is under way.
func (c *call) passed() {
	if e := c.lasts.Load(); e != nil && e != &c.g.waiting.claimed && c.lasts.CompareAndSwap(e, nil) {
		return
	}
	for c.lasts.Load() == &c.g.waiting.claimed {
		runtime.Gosched() // for as long as an interruption takes
	}
}
