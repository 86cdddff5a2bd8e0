package edge

import (
	"cmp"
	"slices"
	"time"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul"
	"github.com/grayfed/grayfed/federation"
)

// sightings joins what gossip, the registry, Consul and this edge's own probes
// say of the other edges' entries. It is not safe for concurrent use.
type sightings struct {
	self   string
	probes *dataProbes
	// heard reports whether packets of an edge got here of late, even if gossip
	// holds it for dead.
	heard func(edge string) bool
	// meetWithin is how long gossip takes at most to meet an edge that lives.
	meetWithin time.Duration
	known      map[string]*sighted
}

// waversFor is how long a Consul leader's word on an edge is doubted after it
// was taken back.
const waversFor = time.Minute

// sighted is one other edge's entry.
type sighted struct {
	failover.Sighting
	target probeTarget
	// word is what the edge itself says by gossip: Alive when it is in, Dead
	// when it is out; Unknown when gossip does not see it alive.
	word failover.Verdict
	// unseen is since when gossip has not had this life of the edge alive;
	// zero: it has.
	unseen      time.Time
	incarnation uint64
	at          time.Time        // when anybody knew it last
	reported    failover.Verdict // what a Consul leader said last
	revived     time.Time        // when it took back that the edge is dead, against this edge's own means
}

func newSightings(self string, probes *dataProbes, heard func(edge string) bool, meetWithin time.Duration) *sightings {
	return &sightings{self: self, probes: probes, heard: heard, meetWithin: meetWithin, known: make(map[string]*sighted)}
}

// update takes what gossip and the registry know and what a Consul leader says,
// nil when none answered lately. An entry that nobody knows any more is kept
// for a while: a zone that is lost does not say goodbye.
func (s *sightings) update(edges []federation.Edge, view *consul.View, now time.Time) {
	for _, k := range s.known {
		k.Gossip, k.word, k.Consul = failover.VerdictUnknown, failover.VerdictUnknown, failover.VerdictUnknown
		if view != nil {
			k.Consul = failover.Dead // unless it is there
		}
	}
	for n := range edges {
		s.takeEdge(&edges[n], view != nil, now)
	}
	if view != nil {
		for n := range view.Entries {
			s.takeReported(&view.Entries[n], now)
		}
	}
	for id, k := range s.known {
		if now.Sub(k.at) > forgetAfter {
			delete(s.known, id)
		}
		k.Gossip = s.unmet(id, k, now)
		k.Probe = s.probes.verdict(id)
		switch {
		case k.Consul == failover.Alive && k.reported == failover.Dead && k.Gossip == failover.Dead && k.Probe == failover.Dead:
			k.revived = now
		case k.Gossip == failover.Alive && k.Probe == failover.Alive:
			// It came back, and the leader was the first to know: doubted for
			// that, a zone that is lost again soon would be left late.
			k.revived = time.Time{}
		}
		if k.Consul != failover.VerdictUnknown {
			k.reported = k.Consul
		}
		k.Wavers = !k.revived.IsZero() && now.Sub(k.revived) < waversFor
	}
}

// takeEdge takes what an edge said of itself, in its registration or by gossip.
func (s *sightings) takeEdge(e *federation.Edge, leader bool, now time.Time) {
	entry, ok := entryOf(e)
	if !ok || e.ID == s.self {
		return
	}
	k := s.of(e.ID, leader)
	if k.incarnation != e.Incarnation {
		k.incarnation, k.unseen = e.Incarnation, time.Time{} // another life
	}
	k.Entry, k.at = entry, now
	k.target = probeTarget{edge: e.ID, address: e.Data, tls: e.Entry.TLS}
	switch e.Status {
	case federation.EdgeAlive, federation.EdgeSuspect:
		k.Gossip, k.word = failover.Alive, failover.Dead
		if e.Share > 0 {
			k.word = failover.Alive
		}
	case federation.EdgeDead:
		k.Gossip = failover.Dead
		if s.heard(e.ID) {
			k.Gossip = failover.Alive
		}
	case federation.EdgeLeft:
		k.Gossip = failover.Dead
	case federation.EdgeUnknown: // registered, and not met
	}
}

// unmet is what gossip says of an edge, where silence counts too: an edge that
// gossip could have met in all the time and has not is dead to it, as one that
// it met and lost is. Else an edge that died before this one started, or so long
// ago that gossip has forgotten it, would keep a standby out for ever.
func (s *sightings) unmet(id string, k *sighted, now time.Time) failover.Verdict {
	switch {
	case k.Gossip == failover.Alive:
		k.unseen = time.Time{}
	case k.unseen.IsZero():
		k.unseen = now
	case k.Gossip == failover.VerdictUnknown && now.Sub(k.unseen) >= s.meetWithin && !s.heard(id):
		return failover.Dead
	}
	return k.Gossip
}

// takeReported takes what Consul holds of an edge. An edge that gossip sees
// alive says its weight there first.
func (s *sightings) takeReported(r *consul.Reported, now time.Time) {
	if r.Edge == s.self {
		return
	}
	k := s.of(r.Edge, true)
	if k.Gossip == failover.VerdictUnknown && k.target.address == "" {
		k.Entry = r.Entry // known by nothing else
	}
	if r.Passing && k.Gossip != failover.Alive {
		k.Weight = r.Weight
	}
	k.at = now
	if r.Passing {
		k.Consul = failover.Alive
	}
}

func (s *sightings) of(id string, leader bool) *sighted {
	k := s.known[id]
	if k == nil {
		k = &sighted{}
		if leader {
			k.Consul = failover.Dead
		}
		s.known[id] = k
	}
	return k
}

// list returns all sightings by edge, as they are.
func (s *sightings) list() []failover.Sighting {
	all := make([]failover.Sighting, 0, len(s.known))
	for _, k := range s.known {
		all = append(all, k.Sighting)
	}
	slices.SortFunc(all, func(a, b failover.Sighting) int { return cmp.Compare(a.Edge, b.Edge) })
	return all
}

// forAnswer returns them as DNS is answered by: an edge's own word by gossip
// stands in for Consul's where Consul says nothing, and it is the first to say
// that the edge is out.
func (s *sightings) forAnswer() []failover.Sighting {
	all := make([]failover.Sighting, 0, len(s.known)+1)
	for _, k := range s.known {
		told := k.Sighting
		if told.Consul == failover.VerdictUnknown || told.Consul == failover.Alive && k.word == failover.Dead {
			told.Consul = k.word
		}
		all = append(all, told)
	}
	return all
}

// targets are the data listeners to probe. That of an edge which only Consul
// knows is where clients reach it.
func (s *sightings) targets() []probeTarget {
	all := make([]probeTarget, 0, len(s.known))
	for id, k := range s.known {
		target := k.target
		if target.address == "" {
			target = probeTarget{edge: id, address: hostPortOf(&k.Entry)}
		}
		all = append(all, target)
	}
	return all
}
