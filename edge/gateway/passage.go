package gateway

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

const (
	// peerFailures in a row close an edge's door, as connection failures in a
	// row eject an endpoint.
	peerFailures = 3
	// peerPause is how long it stays closed before one request tries it again;
	// it doubles with each failure up to peerPauseMost.
	peerPause     = time.Second
	peerPauseMost = 15 * time.Second
	// peerTries is how many edges of a zone one attempt turns to.
	peerTries = 2
)

// passage is the way into a zone whose endpoints are reached through its edges.
type passage struct {
	zone  *zone
	peers atomic.Pointer[[]*peer] // those that may live, by id; nil: none
}

// peer is another edge in one of its lives.
type peer struct {
	edge     federation.Edge
	sent     bool     // it may be sent to
	upstream Upstream // nil: it is not, or there can be no transport
	// standIn takes an endpoint's place in what says where a request waits or
	// lasts, and counts the requests that wait for this edge.
	standIn     endpoint
	doubtful    atomic.Bool // gossip suspects it, or has never met it
	gone        atomic.Bool // it is not sent to any more
	failures    atomic.Int32
	closedUntil atomic.Int64 // Unix nanoseconds; 0: its door is open
}

// list is the edges that may let requests in.
func (p *passage) list() []*peer {
	if peers := p.peers.Load(); peers != nil {
		return *peers
	}
	return nil
}

// open reports whether one of the zone's edges lets a request in.
func (p *passage) open() bool { return p.next(nil, false) != nil }

// next is the edge that a request goes to, other than the one given: one whose
// door is to be tried again, else the least busy of those that are well. take
// false: nobody goes there yet.
func (p *passage) next(not *peer, take bool) *peer {
	var best *peer
	now := int64(0)
	for _, q := range p.list() {
		if q == not {
			continue
		}
		until := q.closedUntil.Load()
		if until == 0 {
			if best == nil || q.before(best) {
				best = q
			}
			continue
		}
		if now == 0 {
			now = time.Now().UnixNano()
		}
		if until <= now && (!take || q.closedUntil.CompareAndSwap(until, now+int64(q.pause()))) {
			return q
		}
	}
	return best
}

// hasOther reports whether an edge, other than the one given, lets in whatever
// comes.
func (p *passage) hasOther(than *peer) bool {
	return slices.ContainsFunc(p.list(), func(q *peer) bool { return q != than && q.closedUntil.Load() == 0 })
}

func (q *peer) before(other *peer) bool {
	if doubtful := q.doubtful.Load(); doubtful != other.doubtful.Load() {
		return !doubtful
	}
	return q.standIn.inFlight.Load() < other.standIn.inFlight.Load()
}

func (q *peer) pause() time.Duration {
	beyond := min(max(q.failures.Load()-peerFailures, 0), 10)
	return min(peerPause<<beyond, peerPauseMost)
}

// failed notes that the edge was not reached, or did not answer. It reports
// whether that has closed its door.
func (q *peer) failed(now time.Time) (closed bool) {
	failures := q.failures.Add(1)
	if failures >= peerFailures {
		q.closedUntil.Store(now.Add(q.pause()).UnixNano())
	}
	return failures == peerFailures
}

// isAt reports whether what waits at e waits for this edge.
func (q *peer) isAt(e *endpoint) bool { return e == &q.standIn }

// worked notes that it answered.
func (q *peer) worked() {
	if q.failures.Load() != 0 {
		q.failures.Store(0)
		q.closedUntil.Store(0)
	}
}

// same reports whether an edge is the one that this peer was made for.
func (q *peer) same(e *federation.Edge) bool {
	return q.edge.Zone == e.Zone && q.edge.Peer == e.Peer && q.edge.Incarnation == e.Incarnation
}

// mayLive reports whether nobody says that an edge does not.
func mayLive(status federation.EdgeStatus) bool {
	return status == federation.EdgeAlive || status == federation.EdgeSuspect || status == federation.EdgeUnknown
}

// SetPeer takes what is known of another edge; gone: it is no edge any more.
// Requests that wait for the answer of one that is dead are moved on.
func (g *Gateway) SetPeer(edge federation.Edge, gone bool) {
	if edge.ID == g.opts.Edge {
		return
	}
	g.peersMu.Lock()
	before := g.peersByID()
	old := before[edge.ID]
	sent := !gone && edge.Peer != "" && mayLive(edge.Status) && g.zone(edge.Zone).through != nil
	if old != nil && !gone && old.sent == sent && (!sent || old.same(&edge)) {
		old.doubtful.Store(edge.Status != federation.EdgeAlive)
		g.peersMu.Unlock()
		return
	}
	after := make(map[string]*peer, len(before)+1)
	for id, q := range before {
		if q != old {
			after[id] = q
		}
	}
	if !gone {
		after[edge.ID] = g.newPeer(edge, sent)
	}
	g.peers.Store(&after)
	for _, name := range zonesOf(old, after[edge.ID]) {
		g.setPassage(g.zone(name), after)
	}
	g.peersMu.Unlock()
	if gone {
		g.metrics.forgetPeer(edge.ID)
	}
	if old != nil && old.upstream != nil {
		g.retire(old)
	}
}

// sent counts an attempt through another edge.
func (g *Gateway) sent(q *peer, outcome string) { g.countEdge(g.metrics.hops, q.edge.ID, outcome) }

// countEdge counts for an edge. A request may end after SetPeer has dropped the
// series of its edge, and must not leave new ones.
func (g *Gateway) countEdge(counts *prometheus.CounterVec, edge, outcome string) {
	counts.WithLabelValues(edge, outcome).Inc()
	if g.peersByID()[edge] == nil {
		g.metrics.forgetPeer(edge)
	}
}

func (g *Gateway) peersByID() map[string]*peer {
	if peers := g.peers.Load(); peers != nil {
		return *peers
	}
	return nil
}

func (g *Gateway) newPeer(edge federation.Edge, sent bool) *peer {
	q := &peer{edge: edge, sent: sent}
	q.standIn.g = g
	q.standIn.zone.Store(g.zone(edge.Zone))
	q.doubtful.Store(edge.Status != federation.EdgeAlive)
	if !sent {
		return q
	}
	var err error
	if q.upstream, err = g.opts.NewPeer(&edge); err != nil {
		q.upstream = nil
		g.opts.Log.Error("edge gets no requests: no transport", "edge", edge.ID, "address", edge.Peer, "error", err)
	}
	return q
}

// zonesOf are the zones of peers, each once.
func zonesOf(peers ...*peer) (names []string) {
	for _, q := range peers {
		if q != nil && !slices.Contains(names, q.edge.Zone) {
			names = append(names, q.edge.Zone)
		}
	}
	return names
}

// setPassage lists the edges of a zone. Held under peersMu.
func (g *Gateway) setPassage(z *zone, peers map[string]*peer) {
	if z.through == nil {
		return
	}
	var list []*peer
	for _, q := range peers {
		if q.edge.Zone == z.name && q.upstream != nil {
			list = append(list, q)
		}
	}
	slices.SortFunc(list, func(a, b *peer) int { return cmp.Compare(a.edge.ID, b.edge.ID) })
	z.through.peers.Store(&list)
}

// retire lets go of an edge that is dead, has begun another life, or is reached
// elsewhere.
func (g *Gateway) retire(q *peer) {
	q.gone.Store(true)
	if err := q.upstream.Close(); err != nil {
		g.opts.Log.Warn("transport did not close", "edge", q.edge.ID, "error", err)
	}
	if moved := g.waiting.move(exchange.ErrZoneLost, q.isAt, nil); moved > 0 {
		g.metrics.moves.Add(float64(moved))
		g.opts.Log.Warn("requests moved: the edge that they were sent through is gone", "edge", q.edge.ID, "moved", moved)
	}
}

// closePeers closes the transports to other edges.
func (g *Gateway) closePeers() (errs []error) {
	g.peersMu.Lock()
	peers := g.peersByID()
	g.peers.Store(nil)
	g.peersMu.Unlock()
	for _, q := range peers {
		if q.upstream != nil {
			errs = append(errs, q.upstream.Close())
		}
	}
	return errs
}
