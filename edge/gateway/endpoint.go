package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/health"
	"github.com/grayfed/grayfed/federation"
)

// endpoint is what this edge keeps about an instance from one snapshot to the
// next. There may be 100,000 of them, most of which are never sent a request:
// the transport is made with the first one, and what few have lies elsewhere.
type endpoint struct {
	g        *Gateway
	tracker  *health.Tracker
	zone     atomic.Pointer[zone]
	inFlight atomic.Int64
	bounds   atomic.Pointer[bounds]   // nil: none
	upstream atomic.Pointer[Upstream] // nil until the first request
	refused  atomic.Bool              // no transport can be made
	mu       sync.Mutex               // makes and shuts the transport
	shutDown bool                     // mu
	gone     bool                     // Gateway.upstreamsMu; the catalog has let it go
}

// bounds are what may be in flight to an endpoint at once.
type bounds struct {
	limit int64 // of this edge's requests; 0: none
	// capacity is what the instance declares, and bounds the requests of all
	// edges together, where the instance is of another zone than this edge; 0:
	// none. Within a zone the balance is the operator's.
	capacity  int64
	elsewhere atomic.Int64 // in flight from other edges, as they say
	// breaker is nil for none; options are its.
	breaker *breaker.Breaker
	options breaker.Options
	// through leads to the endpoint, whose capacity and breaker are then the
	// other edge's to mind; nil: it is reached directly.
	through *passage
}

var (
	_ federation.Runtime = (*endpoint)(nil)
	_ health.Tracked     = (*endpoint)(nil)
)

// NewRuntime makes the runtime of an instance, as a catalog wants it: it does
// not block.
func (g *Gateway) NewRuntime(i *federation.Instance) federation.Runtime {
	e := &endpoint{g: g, tracker: g.opts.Monitor.Tracker(i)}
	e.zone.Store(g.zone(i.Zone))
	return e
}

// Tracker implements [health.Tracked].
func (e *endpoint) Tracker() *health.Tracker { return e.tracker }

// InFlight implements [federation.Runtime].
func (e *endpoint) InFlight() int64 { return e.inFlight.Load() }

// Admits implements [federation.Runtime]. What requests experienced counts at
// once, before the snapshot follows.
func (e *endpoint) Admits() bool {
	return !e.tracker.Ejected() && e.open()
}

// open reports whether nothing but its health is against one more request.
func (e *endpoint) open() bool {
	b := e.bounds.Load()
	return !e.refused.Load() && (b == nil || b.hasRoom(e.inFlight.Load()+1) && b.closed())
}

// works reports whether nothing but want of room is against one more request.
func (e *endpoint) works() bool {
	b := e.bounds.Load()
	return !e.tracker.Ejected() && !e.refused.Load() && (b == nil || b.closed())
}

// closed reports whether the breaker lets a request pass, and there is a way.
func (b *bounds) closed() bool {
	return (b.breaker == nil || b.breaker.Admits()) && (b.through == nil || b.through.open())
}

// way is the passage that leads to the endpoint, nil for none.
func (e *endpoint) way() *passage {
	if b := e.bounds.Load(); b != nil {
		return b.through
	}
	return nil
}

// hasRoom reports whether n requests of this edge are within the limits.
func (b *bounds) hasRoom(n int64) bool {
	return (b.limit == 0 || n <= b.limit) && (b.capacity == 0 || n+b.elsewhere.Load() <= b.capacity)
}

// enter counts one more request in flight, unless others took the last place
// since it was picked.
func (e *endpoint) enter() (p pass, ok bool) {
	b := e.bounds.Load()
	if b == nil {
		e.inFlight.Add(1)
		return p, true
	}
	if b.breaker != nil {
		if p.ticket, ok = b.breaker.Enter(); !ok {
			return p, false
		}
		p.breaker = b.breaker
	}
	if b.through != nil {
		if p.peer = b.through.next(nil, true); p.peer == nil {
			return p, false
		}
	}
	// What does not get in is never counted: whoever waits for a place could
	// look just then.
	for {
		n := e.inFlight.Load()
		if !b.hasRoom(n + 1) {
			p.ignore()
			return pass{}, false
		}
		if e.inFlight.CompareAndSwap(n, n+1) {
			return p, true
		}
	}
}

func (e *endpoint) leave(p pass) {
	p.ignore()
	e.inFlight.Add(-1)
}

// transport returns the endpoint's transport, made when it is first asked for.
func (e *endpoint) transport(i *federation.Instance) (Upstream, error) {
	if u := e.upstream.Load(); u != nil {
		return *u, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if u := e.upstream.Load(); u != nil {
		return *u, nil
	}
	if e.shutDown {
		return nil, errShut
	}
	u, err := e.g.opts.NewTransport(i)
	if err != nil {
		if e.refused.CompareAndSwap(false, true) {
			e.g.opts.Log.Error("endpoint gets no requests: no transport", "endpoint", i.String(), "error", err)
		}
		return nil, &exchange.Error{
			Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway,
			Err: fmt.Errorf("transport to %s: %w", i.Key, err),
		}
	}
	e.upstream.Store(&u)
	e.g.upstreamsMu.Lock()
	e.g.opened[e] = i.Key
	if e.gone {
		e.g.closing[e] = struct{}{}
	}
	e.g.upstreamsMu.Unlock()
	return u, nil
}

// Close implements [federation.Runtime]. Plans still lead here until the
// gateway is told of the snapshot without it, so that the transport lives as
// long: see closeGone.
func (e *endpoint) Close() {
	e.tracker.Close()
	e.g.upstreamsMu.Lock()
	defer e.g.upstreamsMu.Unlock()
	e.gone = true
	if _, opened := e.g.opened[e]; opened {
		e.g.closing[e] = struct{}{}
	}
}

// closeGone closes the transports that no plan leads to any more.
func (g *Gateway) closeGone(snap *federation.Snapshot) {
	g.upstreamsMu.Lock()
	gone := make(map[*endpoint]federation.Key)
	for e := range g.closing {
		key := g.opened[e]
		if still := snap.Endpoint(key); still == nil || still.Runtime != federation.Runtime(e) {
			gone[e] = key
			delete(g.closing, e)
			delete(g.opened, e)
			g.setGone(e)
		}
	}
	g.upstreamsMu.Unlock()
	for e, key := range gone {
		if err := e.shut(); err != nil {
			g.opts.Log.Warn("transport did not close", "endpoint", key.String(), "error", err)
		}
	}
}

// shut closes the transport; what is under way on it ends in its own time.
func (e *endpoint) shut() error {
	e.mu.Lock()
	e.shutDown = true
	u := e.upstream.Load()
	e.mu.Unlock()
	if u == nil {
		return nil
	}
	return (*u).Close()
}

// loads is what other edges have in flight to the endpoints that declare their
// capacity. Gossip bounds how many entries each edge may have.
type loads struct {
	mu     sync.Mutex
	byEdge map[federation.Key]map[string]int64 // mu
}

// bind sets what an endpoint lets in, with what the other edges have in flight
// there. Held under mu.
func (g *Gateway) bind(e *endpoint, key federation.Key, policy *Policy, capacity int64, through *passage) {
	old, b := e.bounds.Load(), &bounds{limit: int64(policy.MaxRequests), capacity: capacity, through: through}
	if through == nil && policy.Breaker != nil {
		b.options = *policy.Breaker
	}
	if none := b.options == (breaker.Options{}); none && b.limit == 0 && capacity == 0 && through == nil {
		if old != nil {
			e.bounds.Store(nil)
		}
		return
	}
	if old != nil && old.options == b.options && old.through == through {
		if old.limit == b.limit && old.capacity == capacity {
			return
		}
		b.breaker = old.breaker
	} else if through == nil && policy.Breaker != nil {
		b.breaker = g.newBreaker(key, b.options)
	}
	l := &g.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	b.elsewhere.Store(sumOf(l.byEdge[key]))
	e.bounds.Store(b)
}

func sumOf(edges map[string]int64) (sum int64) {
	for _, n := range edges {
		sum += n
	}
	return sum
}

// SetLoad takes how many requests another edge has in flight to an endpoint; 0
// forgets that edge.
func (g *Gateway) SetLoad(edge string, key federation.Key, inFlight int64) {
	l := &g.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	edges := l.byEdge[key]
	switch {
	case inFlight <= 0:
		delete(edges, edge)
		if len(edges) == 0 {
			delete(l.byEdge, key)
		}
	case edges == nil:
		if l.byEdge == nil {
			l.byEdge = make(map[federation.Key]map[string]int64)
		}
		edges = map[string]int64{edge: inFlight}
		l.byEdge[key] = edges
	default:
		edges[edge] = inFlight
	}
	snap := g.snapshot.Load()
	if snap == nil {
		return
	}
	if e := snap.Endpoint(key); e != nil {
		if rt, ok := e.Runtime.(*endpoint); ok {
			if b := rt.bounds.Load(); b != nil {
				b.elsewhere.Store(sumOf(edges))
			}
		}
	}
}
