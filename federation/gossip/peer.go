package gossip

import (
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

// peer is what this edge knows of another. All of it is guarded by Gossip.mu.
type peer struct {
	edge  federation.Edge
	addr  netip.AddrPort
	gone  time.Time // when it died or left
	beats struct {
		seq     uint64
		raw     []byte // the last, as it came, for passing on
		at      time.Time
		summary beat // the last: what its deviations should be
		gapped  time.Time
		asked   time.Time
	}
	deviations deviations
	told       time.Time // when all its deviations were last passed on to OnHealth
	loads      map[federation.Key]heldLoad
	trip       roundTrip
	// heard is the newest beat that came at all, also while it is dead by
	// membership.
	heard struct {
		origin
		seq uint64
		at  time.Time
	}
}

// hear notes a sign of life. Beats are numbered, so that one which was passed on
// late is none.
func (p *peer) hear(b *beat, now time.Time) {
	h := &p.heard
	if b.leaving || b.incarnation < h.incarnation || b.incarnation == h.incarnation && b.seq <= h.seq {
		return
	}
	h.origin, h.seq, h.at = b.origin, b.seq, now
}

type heldLoad struct {
	inFlight uint64
	seq      uint64
	at       time.Time
}

// roundTrip follows the time to an edge and back.
type roundTrip struct {
	samples  int
	average  time.Duration // exponential, 1/8
	drifting bool
}

func (p *peer) alive() bool {
	return p.edge.Status == federation.EdgeAlive || p.edge.Status == federation.EdgeSuspect
}

// node is the peer as memberlist wants to be given it.
func (p *peer) node() *memberlist.Node {
	return &memberlist.Node{Name: p.edge.ID, Addr: p.addr.Addr().AsSlice(), Port: p.addr.Port()}
}

func (p *peer) origin() origin {
	return origin{edge: p.edge.ID, incarnation: p.edge.Incarnation}
}

// effects are what is to be told to others once mu is free.
type effects struct {
	health     []federation.HealthRecord
	edges      []federation.Edge
	heartbeats []federation.Key
	relays     []federation.Key
	loads      []loadChange
	syncs      []string // edges to be asked for all they have
	sets       []string // edges that asked
	// signs are dead edges that are to hear that this one is alive.
	signs []*memberlist.Node
}

type loadChange struct {
	edge     string
	key      federation.Key
	inFlight int64
}

// callOut passes on what the handlers found, without a lock.
func (g *Gossip) callOut() {
	g.mu.Lock()
	e := g.effects
	g.effects = effects{}
	g.mu.Unlock()
	// Edges first: a death voids the records before, a birth admits those
	// that follow.
	for _, edge := range e.edges {
		g.opts.OnEdge(edge)
	}
	if len(e.health) > 0 {
		g.opts.OnHealth(e.health)
	}
	for _, l := range e.loads {
		g.opts.OnLoad(l.edge, l.key, l.inFlight)
	}
	for _, key := range e.heartbeats {
		g.opts.OnHeartbeat(key)
	}
	for _, key := range e.relays {
		g.opts.OnRelay(key)
	}
	if list := g.list.Load(); list != nil && len(e.signs) > 0 {
		g.mu.Lock()
		sign := g.beat(false).append(newMessage(kindBeat, g.name))
		g.mu.Unlock()
		for _, node := range e.signs {
			if err := list.SendBestEffort(node, sign); err != nil {
				g.log.Debug("sign of life not sent", "edge", node.Name, "error", err)
			}
		}
	}
	for _, id := range e.syncs {
		g.counters.syncs.Add(1)
		g.sendLater(id, appendOrigin(newMessage(kindSyncRequest, g.name), g.own.origin))
	}
	for _, id := range e.sets {
		g.mu.Lock()
		s := g.own.standing(time.Now())
		s.age = 0
		message := s.append(newMessage(kindSet, g.name))
		g.mu.Unlock()
		g.sendLater(id, message)
	}
}

// takeMembership brings the peers up to what memberlist told.
func (g *Gossip) takeMembership(now time.Time) {
	changes := g.membership.take()
	if changes == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, c := range changes {
		p := g.peers[id]
		if p != nil && p.alive() && (c.died || c.alive && c.edge.Incarnation != p.edge.Incarnation) {
			g.bury(p, federation.EdgeDead, now)
		}
		if c.alive {
			p = g.admit(id, now)
			if p == nil {
				continue
			}
			g.greet(p, c)
		}
		if p != nil && c.rtt > 0 && p.alive() {
			g.measureDrift(p, c.rtt)
		}
	}
	alive := 0
	for _, p := range g.peers {
		if p.alive() {
			alive++
		}
	}
	g.aliveOthers.Store(int64(alive))
}

// admit returns the peer of an id, made if there is room. Held under mu.
func (g *Gossip) admit(id string, now time.Time) *peer {
	if p := g.peers[id]; p != nil {
		return p
	}
	if len(g.peers) >= maxEdges {
		oldest := ""
		for other, p := range g.peers {
			if !p.alive() && (oldest == "" || p.gone.Before(g.peers[oldest].gone)) {
				oldest = other
			}
		}
		if oldest == "" {
			g.counters.refused.Add(1)
			g.log.Error("no room for another edge", "edge", id, "limit", maxEdges)
			return nil
		}
		delete(g.peers, oldest)
	}
	p := &peer{loads: make(map[federation.Key]heldLoad)}
	p.beats.at = now
	g.peers[id] = p
	return p
}

// greet makes a peer alive as the node described. Held under mu.
func (g *Gossip) greet(p *peer, c change) {
	was := p.edge
	if was.Incarnation != c.edge.Incarnation {
		p.beats.seq, p.beats.raw, p.beats.summary = 0, nil, beat{}
		p.edge = c.edge
	}
	// The same life, after a partition, keeps what it said last.
	p.edge.Locality, p.edge.Data, p.edge.Admin, p.edge.Peer = c.edge.Locality, c.edge.Data, c.edge.Admin, c.edge.Peer
	p.edge.Gossip = c.addr.String()
	p.edge.Status = federation.EdgeAlive
	p.addr = c.addr
	if p.deviations.origin != p.origin() {
		p.deviations.reset(p.origin())
	}
	if was != p.edge {
		g.log.Info("edge alive", "edge", p.edge.ID, "zone", p.edge.Zone, "address", p.edge.Gossip, "incarnation", p.edge.Incarnation)
		g.effects.edges = append(g.effects.edges, p.edge)
		g.dirty = true // it has not heard this edge's beat
	}
}

// bury makes a peer dead or departed and forgets all it said of others. Held
// under mu.
func (g *Gossip) bury(p *peer, status federation.EdgeStatus, now time.Time) {
	if p.edge.Status == status || p.edge.Status == federation.EdgeLeft {
		return
	}
	g.log.Info("edge gone", "edge", p.edge.ID, "zone", p.edge.Zone, "status", string(status))
	if p.alive() {
		p.gone = now
	}
	p.edge.Status = status
	p.deviations.reset(p.origin())
	p.beats.gapped, p.beats.raw = time.Time{}, nil
	for key := range p.loads {
		g.effects.loads = append(g.effects.loads, loadChange{edge: p.edge.ID, key: key})
	}
	clear(p.loads)
	if p.trip.drifting {
		g.counters.driftingRTTs.Add(-1)
	}
	p.trip = roundTrip{}
	// What is still to be told of its records is void.
	kept := g.effects.health[:0]
	for _, r := range g.effects.health {
		if r.Observer != p.edge.ID {
			kept = append(kept, r)
		}
	}
	g.effects.health = kept
	g.effects.edges = append(g.effects.edges, p.edge)
}

// measureDrift warns when the probe timeout no longer fits the network. Held
// under mu.
func (g *Gossip) measureDrift(p *peer, rtt time.Duration) {
	t := &p.trip
	if t.samples == 0 {
		t.average = rtt
	}
	t.samples++
	t.average += (rtt - t.average) / 8
	drifting := t.samples >= driftSamples && probeRoundTrips*t.average > g.opts.Timing.ProbeTimeout
	switch {
	case drifting && !t.drifting:
		g.counters.driftingRTTs.Add(1)
		g.log.Warn("round trip has grown past a third of the probe timeout",
			"edge", p.edge.ID, "rtt", t.average, "probe_timeout", g.opts.Timing.ProbeTimeout)
	case !drifting && t.drifting:
		g.counters.driftingRTTs.Add(-1)
	}
	t.drifting = drifting
}

// watchPeer expires what a peer has not repeated and asks about gaps. Held
// under mu.
func (g *Gossip) watchPeer(p *peer, now time.Time) {
	if !p.alive() {
		return
	}
	deadline := now.Add(-g.opts.Timing.RecordTTL())
	for _, gone := range p.deviations.expire(deadline) {
		g.effects.health = append(g.effects.health, gone.health(p.origin(), now))
	}
	for key, l := range p.loads {
		if l.at.Before(deadline) {
			delete(p.loads, key)
			g.effects.loads = append(g.effects.loads, loadChange{edge: p.edge.ID, key: key})
		}
	}
	b := &p.beats
	if b.gapped.IsZero() || now.Sub(b.gapped) < 6*g.opts.Timing.GossipInterval || now.Sub(b.asked) < syncRequestEvery {
		return
	}
	b.asked = now
	g.effects.syncs = append(g.effects.syncs, p.edge.ID)
}
