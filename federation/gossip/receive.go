package gossip

import (
	"errors"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// takeMessage decodes a message and merges it. What is malformed, foreign or
// implausible is counted and changes nothing: a message is decoded as a whole
// before anything of it is looked at.
func (g *Gossip) takeMessage(message []byte, now time.Time) {
	k, body, err := readHeader(message, g.name)
	if err != nil {
		g.refuse(err)
		return
	}
	switch k {
	case kindBeat:
		b, err := decodeBeat(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.takeBeat(&b, body, now) {
			g.broadcast("b/"+b.edge, message)
		}
	case kindDelta:
		d, err := decodeDelta(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.takeDelta(&d, now) {
			g.broadcast(subjectName("h", d.edge, d.record.key), message)
		}
	case kindLoad:
		l, err := decodeLoads(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.takeLoads(&l, now) {
			g.broadcast(sequenceName("l", l.edge, l.seq), message)
		}
	case kindSet:
		s, err := decodeSet(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.takeSet(&s, now)
	case kindState:
		s, err := decodeState(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for i := range s.sets {
			g.takeSet(&s.sets[i], now)
		}
		for i := range s.beats {
			g.takeBeat(&s.beats[i], s.raws[i], now)
		}
	case kindSyncRequest:
		o, err := decodeOrigin(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if p := g.speaker(o); p != nil {
			g.effects.sets = append(g.effects.sets, o.edge)
		}
	case kindHeartbeat, kindRelay:
		key, err := decodeKey(body)
		if g.refuse(err) {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if k == kindRelay {
			g.effects.relays = append(g.effects.relays, key)
		} else {
			g.effects.heartbeats = append(g.effects.heartbeats, key)
		}
	default:
		// A kind of a later version: nothing that this one needs.
		g.counters.unsupported.Add(1)
	}
}

// refuse counts an error of decoding and reports whether there was one.
func (g *Gossip) refuse(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, errForeign):
		g.counters.foreign.Add(1)
	case errors.Is(err, errSchema):
		g.counters.unsupported.Add(1)
	default:
		g.counters.malformed.Add(1)
		g.log.Debug("malformed gossip dropped", "error", err)
	}
	return true
}

// speaker returns the living peer whose word this is, in that very life of it;
// nil, counted, for any other. An edge's own words coming back are stale. Held
// under mu.
func (g *Gossip) speaker(o origin) *peer {
	p := g.peers[o.edge]
	switch {
	case o.edge == g.self.ID, p != nil && o.incarnation < p.edge.Incarnation:
		g.counters.stale.Add(1)
		return nil
	case p == nil || !p.alive() || o.incarnation > p.edge.Incarnation:
		// It comes again by a beat once membership has told of it.
		g.counters.unknown.Add(1)
		return nil
	}
	return p
}

// takeBeat merges a beat and reports whether it is news. Held under mu.
func (g *Gossip) takeBeat(b *beat, raw []byte, now time.Time) bool {
	if p := g.peers[b.edge]; p != nil {
		p.hear(b, now)
	}
	if p := g.peers[b.edge]; b.leaving && p != nil && p.edge.Incarnation == b.incarnation && b.seq > p.beats.seq {
		p.beats.seq = b.seq
		g.bury(p, federation.EdgeLeft, now)
		return true
	}
	p := g.speaker(b.origin)
	if p == nil {
		return false
	}
	if b.seq <= p.beats.seq {
		g.counters.stale.Add(1)
		return false
	}
	if c := g.opts.Clock; c != nil {
		if err := c.WitnessBounded(b.clock, g.opts.MaxJump); err != nil {
			g.counters.implausible.Add(1)
			g.log.Warn("implausible clock dropped", "edge", b.edge, "error", err)
			return false
		}
	}
	p.beats.seq, p.beats.summary, p.beats.at = b.seq, *b, now
	p.beats.raw = append([]byte(nil), raw...)
	was := p.edge
	p.edge.Revision, p.edge.Clock, p.edge.Digest, p.edge.Config = b.revision, b.clock, b.digest, b.config
	p.edge.Lag, p.edge.Share = federation.Duration(b.lag), int(b.share)
	if was != p.edge {
		g.effects.edges = append(g.effects.edges, p.edge)
	}
	g.compare(p, now)
	return true
}

// compare holds a peer's deviations against the summary in its last beat. Held
// under mu.
func (g *Gossip) compare(p *peer, now time.Time) {
	d, b := &p.deviations, &p.beats
	if b.seq == 0 {
		return
	}
	if !d.matches(&b.summary) {
		if b.gapped.IsZero() && d.version <= b.summary.version {
			b.gapped = now // else the beat is what lags behind
		}
		return
	}
	b.gapped = time.Time{}
	if b.at.After(d.fresh) {
		d.fresh = b.at
	}
	if d.count == 0 || now.Sub(p.told) < g.opts.Timing.RefreshInterval*3/4 {
		return
	}
	p.told = now
	for _, held := range d.held {
		if !held.withdrawn() {
			g.effects.health = append(g.effects.health, held.health(d.origin, d.fresh))
		}
	}
}

// takeDelta merges one change and reports whether it is news. Held under mu.
func (g *Gossip) takeDelta(d *delta, now time.Time) bool {
	p := g.speaker(d.origin)
	if p == nil {
		return false
	}
	news, full := p.deviations.put(d.record, now)
	switch {
	case full:
		g.counters.recordsFull.Add(1)
		return false
	case !news:
		g.counters.stale.Add(1)
		return false
	}
	g.effects.health = append(g.effects.health, d.record.health(d.origin, now))
	g.compare(p, now)
	return true
}

// takeSet merges all deviations of an edge. Held under mu.
func (g *Gossip) takeSet(s *set, now time.Time) {
	if s.edge == g.self.ID || s.age > g.opts.Timing.RecordTTL() {
		return // this edge knows itself best, and old news is no news
	}
	p := g.speaker(s.origin)
	if p == nil {
		return
	}
	received := now.Add(-s.age)
	for _, r := range p.deviations.replace(s, now) {
		g.effects.health = append(g.effects.health, r.health(s.origin, received))
	}
	g.compare(p, now)
}

// localState is all this edge knows: its own beat and deviations, and those of
// every living edge, as old as they are.
func (g *Gossip) localState(now time.Time) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := newMessage(kindState, g.name)
	own := g.own.standing(now)
	own.age = 0
	b = appendBytes(b, tagStateSet, own.append(nil))
	b = appendBytes(b, tagStateBeat, g.beat(false).append(nil))
	for _, p := range g.peers {
		if !p.alive() {
			continue
		}
		var said []byte
		if s := p.deviations.standing(now); !p.deviations.fresh.IsZero() && s.age <= g.opts.Timing.RecordTTL() {
			said = appendBytes(said, tagStateSet, s.append(nil))
		}
		if p.beats.raw != nil && now.Sub(p.beats.at) <= g.opts.Timing.RecordTTL() {
			said = appendBytes(said, tagStateBeat, p.beats.raw)
		}
		if len(b)+len(said) <= maxMessage {
			b = append(b, said...) // else it comes from that edge itself
		}
	}
	return b
}
