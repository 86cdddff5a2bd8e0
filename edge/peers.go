package edge

import (
	"sync"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// forgetAfter is how long a dead edge that no registration names is still
// shown to people.
const forgetAfter = 10 * time.Minute

// peers joins what the registry says of each edge (that it exists, its
// addresses) with what gossip says (whether it lives, how far it is).
type peers struct {
	// changed is told the joined view of an edge; gone true: forget it. It is
	// called without the lock, of one edge by one goroutine at a time: the one
	// that brought the news, or one that was telling of the edge already. So
	// the last that it is told is what is so.
	changed func(edge federation.Edge, gone bool)
	now     func() time.Time

	mu    sync.Mutex
	known map[string]*peer // mu; by edge id
}

type peer struct {
	registered *federation.Edge // nil: no live registration
	heard      *federation.Edge // nil: never met by gossip
	since      time.Time        // when heard's status last changed
	telling    bool             // changed is being told of it
	news       bool             // since changed was last told
}

func newPeers(now func() time.Time, changed func(federation.Edge, bool)) *peers {
	return &peers{changed: changed, now: now, known: make(map[string]*peer)}
}

// PutEdge takes a registration from the registry.
func (p *peers) PutEdge(e federation.Edge) {
	p.update(e.ID, func(known *peer) { known.registered = &e })
}

// RemoveEdge takes the end of a registration.
func (p *peers) RemoveEdge(id string) {
	p.update(id, func(known *peer) { known.registered = nil })
}

// hear takes news from gossip and reports whether the edge's status is new.
func (p *peers) hear(e federation.Edge) (news bool) {
	p.update(e.ID, func(known *peer) {
		news = known.heard == nil || known.heard.Status != e.Status || known.heard.Incarnation != e.Incarnation
		if news {
			known.since = p.now()
		}
		known.heard = &e
	})
	return news
}

func (p *peers) update(id string, change func(*peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known[id]
	if known == nil {
		known = &peer{}
		p.known[id] = known
	}
	change(known)
	known.news = true
	if known.telling {
		return
	}
	known.telling = true
	for known.news {
		known.news = false
		edge, any := known.join()
		edge.ID = id
		p.mu.Unlock()
		p.changed(edge, !any)
		p.mu.Lock()
	}
	known.telling = false
	if _, any := known.join(); !any {
		delete(p.known, id)
	}
}

// join is what both sources say together: existence and addresses from the
// registration, the rest from gossip.
func (k *peer) join() (edge federation.Edge, any bool) {
	switch {
	case k.heard == nil && k.registered == nil:
		return edge, false
	case k.heard == nil:
		return *k.registered, true
	case k.registered == nil || k.heard.Incarnation > k.registered.Incarnation:
		return *k.heard, true
	}
	edge = *k.registered
	edge.Status, edge.Revision, edge.Clock = k.heard.Status, k.heard.Revision, k.heard.Clock
	edge.Digest, edge.Config, edge.Lag, edge.Share = k.heard.Digest, k.heard.Config, k.heard.Lag, k.heard.Share
	if k.heard.Incarnation < k.registered.Incarnation {
		edge.Status, edge.Share = federation.EdgeUnknown, 0 // gossip speaks of its former life
	}
	return edge, true
}

// zoneLost reports whether a zone had edges and all of them are dead by gossip.
// One that left on purpose is neither: it may have been replaced.
func (p *peers) zoneLost(zone string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := false
	for _, known := range p.known {
		edge, _ := known.join()
		if edge.Zone != zone || edge.Status == federation.EdgeLeft {
			continue
		}
		if edge.Status != federation.EdgeDead {
			return false
		}
		lost = true
	}
	return lost
}

// all returns the joined view of every known edge.
func (p *peers) all() []federation.Edge {
	p.mu.Lock()
	defer p.mu.Unlock()
	edges := make([]federation.Edge, 0, len(p.known))
	for _, known := range p.known {
		if edge, any := known.join(); any {
			edges = append(edges, edge)
		}
	}
	return edges
}

// addresses lists the gossip addresses of every edge but self, for rejoining.
func (p *peers) addresses(self string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for id, known := range p.known {
		if edge, _ := known.join(); id != self && edge.Gossip != "" {
			all = append(all, edge.Gossip)
		}
	}
	return all
}

// freshLag is how old a view of the registry may be that etcd still confirms:
// it does so every second.
const freshLag = 3 * time.Second

// nearestFresh is the living edge nearest to self whose view of the registry is
// fresh: of its zone, else of its region, else any; "" when there is none.
func (p *peers) nearestFresh(self *federation.Edge) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	nearest, best := "", 0
	for id, known := range p.known {
		edge, _ := known.join()
		if id == self.ID || edge.Status != federation.EdgeAlive || edge.Revision == 0 || time.Duration(edge.Lag) > freshLag {
			continue
		}
		nearness := 1
		switch {
		case edge.Zone == self.Zone:
			nearness = 3
		case self.Region != "" && edge.Region == self.Region:
			nearness = 2
		}
		if nearness > best || nearness == best && id < nearest {
			nearest, best = id, nearness
		}
	}
	return nearest
}

// expire forgets dead edges that nobody registers any more.
func (p *peers) expire() {
	p.mu.Lock()
	var over []string
	for id, known := range p.known {
		if p.isOver(known) {
			over = append(over, id)
		}
	}
	p.mu.Unlock()
	for _, id := range over {
		p.update(id, func(known *peer) {
			if p.isOver(known) {
				known.heard = nil
			}
		})
	}
}

// isOver is held under mu.
func (p *peers) isOver(known *peer) bool {
	return known.registered == nil && known.heard != nil &&
		(known.heard.Status == federation.EdgeDead || known.heard.Status == federation.EdgeLeft) &&
		p.now().Sub(known.since) > forgetAfter
}
