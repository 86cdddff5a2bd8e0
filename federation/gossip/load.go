package gossip

import "time"

// loadsPerMessage keeps a message of loads within one packet: an entry has at
// most two names of 128 bytes, typically 50.
const loadsPerMessage = 4

// announceLoads sends the changes since the last time. Held under mu.
func (g *Gossip) announceLoads() {
	for len(g.pending) > 0 {
		n := min(len(g.pending), loadsPerMessage)
		g.loadSeq++
		l := loads{origin: g.own.origin, seq: g.loadSeq, entries: g.pending[:n]}
		g.broadcast(sequenceName("l", l.edge, l.seq), l.append(newMessage(kindLoad, g.name)))
		for _, e := range l.entries {
			if e.inFlight == 0 && g.loads[e.key].inFlight == 0 {
				delete(g.loads, e.key)
			}
		}
		g.pending = g.pending[n:]
	}
	g.pending = nil
}

// repeatLoads makes all that is in flight to be announced again. Held under mu.
func (g *Gossip) repeatLoads() {
	waiting := make(map[load]struct{}, len(g.pending))
	for _, l := range g.pending {
		waiting[l] = struct{}{}
	}
	for _, l := range g.loads {
		if _, already := waiting[l]; !already {
			g.pending = append(g.pending, l)
		}
	}
}

// takeLoads merges what another edge has in flight and reports whether any of
// it is news. Held under mu.
func (g *Gossip) takeLoads(l *loads, now time.Time) bool {
	p := g.speaker(l.origin)
	if p == nil {
		return false
	}
	news := false
	for _, e := range l.entries {
		held, known := p.loads[e.key]
		if known && l.seq <= held.seq {
			continue
		}
		if !known && len(p.loads) >= maxLoads {
			g.counters.loadsFull.Add(1)
			continue
		}
		news = true
		p.loads[e.key] = heldLoad{inFlight: e.inFlight, seq: l.seq, at: now}
		if held.inFlight != e.inFlight {
			g.effects.loads = append(g.effects.loads, loadChange{edge: p.edge.ID, key: e.key, inFlight: int64(e.inFlight)})
		}
	}
	if !news {
		g.counters.stale.Add(1)
	}
	return news
}
