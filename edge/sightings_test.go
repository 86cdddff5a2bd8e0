package edge

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul"
	"github.com/grayfed/grayfed/federation"
)

// sightedEdge is another edge with an entry, alive by gossip.
func sightedEdge(id string, share int) federation.Edge {
	return federation.Edge{
		ID: id, Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeAlive, Data: "10.0.0.2:8081", Share: share,
		Entry: federation.Entry{Role: "primary", Port: 443, Weight: 50, Addresses: federation.AddressesOf([]netip.Addr{netip.MustParseAddr("203.0.113.2")})},
	}
}

func unheard(string) bool { return false }

// meetTime is what gossip takes at most to meet an edge.
const meetTime = 9 * time.Second

func reportedEdge(id string, passing bool) consul.Reported {
	return consul.Reported{Passing: passing, Entry: failover.Entry{
		Edge: id, Zone: "az2", Role: failover.Primary, Port: 80, Weight: 20, Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.9")},
	}}
}

// TestSightings: who says what of another edge, and who is believed where they
// differ.
func TestSightings(t *testing.T) {
	type verdicts struct{ consul, gossip, answer failover.Verdict }
	const unknown, alive, dead = failover.VerdictUnknown, failover.Alive, failover.Dead
	withStatus := func(e federation.Edge, s federation.EdgeStatus) []federation.Edge {
		e.Status = s
		return []federation.Edge{e}
	}
	for _, c := range []struct {
		what   string
		edges  []federation.Edge
		view   *consul.View
		want   verdicts
		weight int
	}{
		{"gossip alone, in", []federation.Edge{sightedEdge("e2", 35)}, nil, verdicts{unknown, alive, alive}, 35},
		{"gossip alone, out", []federation.Edge{sightedEdge("e2", 0)}, nil, verdicts{unknown, alive, dead}, 50},
		{"gossip alone, suspect", withStatus(sightedEdge("e2", 35), federation.EdgeSuspect), nil, verdicts{unknown, alive, alive}, 35},
		{"gossip alone, dead", withStatus(sightedEdge("e2", 35), federation.EdgeDead), nil, verdicts{unknown, dead, unknown}, 35},
		{"gossip alone, left", withStatus(sightedEdge("e2", 0), federation.EdgeLeft), nil, verdicts{unknown, dead, unknown}, 50},
		{"registered, never met", withStatus(sightedEdge("e2", 0), federation.EdgeUnknown), nil, verdicts{unknown, unknown, unknown}, 50},
		{"consul alone, in", nil, &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}, verdicts{alive, unknown, alive}, 20},
		{"consul alone, out", nil, &consul.View{Entries: []consul.Reported{reportedEdge("e2", false)}}, verdicts{dead, unknown, dead}, 20},
		{"both, in", []federation.Edge{sightedEdge("e2", 35)}, &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}, verdicts{alive, alive, alive}, 35},
		{"out by its word before consul", []federation.Edge{sightedEdge("e2", 0)}, &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}, verdicts{alive, alive, dead}, 50},
		{"in by its word, not by consul", []federation.Edge{sightedEdge("e2", 35)}, &consul.View{Entries: []consul.Reported{reportedEdge("e2", false)}}, verdicts{dead, alive, dead}, 35},
		{"not in consul", []federation.Edge{sightedEdge("e2", 35)}, &consul.View{}, verdicts{dead, alive, dead}, 35},
		{"cut off from here alone", withStatus(sightedEdge("e2", 35), federation.EdgeDead), &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}, verdicts{alive, dead, alive}, 20},
	} {
		s := newSightings("e1", newDataProbes(time.Second, 3), unheard, meetTime)
		s.update(append(c.edges, sightedEdge("e1", 50)), c.view, time.Now())
		list, answer := s.list(), s.forAnswer()
		if len(list) != 1 || len(answer) != 1 {
			t.Errorf("%s: %d sightings, %d for the answer", c.what, len(list), len(answer))
			continue
		}
		if got := (verdicts{list[0].Consul, list[0].Gossip, answer[0].Consul}); got != c.want || list[0].Weight != c.weight {
			t.Errorf("%s: %+v with weight %d, want %+v with %d", c.what, got, list[0].Weight, c.want, c.weight)
		}
	}
}

// TestSightingsAreRemembered: a zone that is lost does not say goodbye.
func TestSightingsAreRemembered(t *testing.T) {
	s := newSightings("e1", newDataProbes(time.Second, 3), unheard, meetTime)
	now := time.Now()
	view := &consul.View{Entries: []consul.Reported{reportedEdge("e3", true)}}
	s.update([]federation.Edge{sightedEdge("e2", 35)}, view, now)
	if targets := s.targets(); !slices.Contains(targets, probeTarget{edge: "e2", address: "10.0.0.2:8081"}) ||
		!slices.Contains(targets, probeTarget{edge: "e3", address: "203.0.113.9:80"}) || len(targets) != 2 {
		t.Errorf("targets %+v", targets)
	}
	now = now.Add(forgetAfter)
	s.update(nil, &consul.View{}, now)
	if list := s.list(); len(list) != 2 || list[0].Consul != failover.Dead || list[0].Gossip != failover.VerdictUnknown ||
		list[0].Port != 443 || list[1].Consul != failover.Dead {
		t.Errorf("gone: %+v", list)
	}
	s.update(nil, nil, now)
	if list := s.list(); len(list) != 2 || list[0].Consul != failover.VerdictUnknown {
		t.Errorf("without a leader: %+v", list)
	}
	s.update(nil, nil, now.Add(1))
	if list := s.list(); len(list) != 0 {
		t.Errorf("remembered for ever: %+v", list)
	}
	for what, spoil := range map[string]func(*federation.Edge){
		"role":      func(e *federation.Edge) { e.Entry.Role = "spare" },
		"port":      func(e *federation.Edge) { e.Entry.Port = 0 },
		"addresses": func(e *federation.Edge) { e.Entry.Addresses = federation.Addresses{} },
	} {
		e := sightedEdge("e2", 35)
		spoil(&e)
		if entry, ok := entryOf(&e); ok {
			t.Errorf("without %s, yet %+v", what, entry)
		}
	}
}

// TestWavering: a Consul leader that took a death back is doubted for a while,
// unless it only followed what this edge saw itself.
func TestWavering(t *testing.T) {
	passing := &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}
	critical := &consul.View{Entries: []consul.Reported{reportedEdge("e2", false)}}
	dead := sightedEdge("e2", 35)
	dead.Status = federation.EdgeDead
	for _, c := range []struct {
		what  string
		edge  federation.Edge
		probe error
		views []*consul.View
		want  bool
	}{
		{"taken back", dead, errors.New("no answer"), []*consul.View{passing, critical, passing, critical}, true},
		{"taken back without a leader between", dead, errors.New("no answer"), []*consul.View{critical, nil, passing}, true},
		{"not taken back", dead, errors.New("no answer"), []*consul.View{passing, critical, nil, critical}, false},
		{"seen by gossip", sightedEdge("e2", 35), errors.New("no answer"), []*consul.View{passing, critical, passing}, false},
		{"seen by probes", dead, nil, []*consul.View{passing, critical, passing}, false},
	} {
		probes := newDataProbes(time.Second, 1)
		s := newSightings("e1", probes, unheard, meetTime)
		now := time.Now()
		s.update([]federation.Edge{c.edge}, nil, now)
		probes.take(map[probeTarget]error{s.targets()[0]: c.probe})
		for _, view := range c.views {
			now = now.Add(time.Second)
			s.update([]federation.Edge{c.edge}, view, now)
		}
		if got := s.list()[0].Wavers; got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
		s.update([]federation.Edge{c.edge}, critical, now.Add(waversFor))
		if s.list()[0].Wavers {
			t.Errorf("%s: doubted for ever", c.what)
		}
	}
}

// TestFirstToKnow: a Consul leader that says that an edge is back is not doubted
// once this edge sees it, too, however soon it is dead again; a sign of life one
// way is not enough.
func TestFirstToKnow(t *testing.T) {
	passing := &consul.View{Entries: []consul.Reported{reportedEdge("e2", true)}}
	critical := &consul.View{Entries: []consul.Reported{reportedEdge("e2", false)}}
	alive, dead := sightedEdge("e2", 35), sightedEdge("e2", 35)
	dead.Status = federation.EdgeDead
	silent := errors.New("no answer")
	for _, c := range []struct {
		what  string
		edge  federation.Edge
		probe error
		want  bool
	}{
		{"reached", alive, nil, false},
		{"heard alone", alive, silent, true},
		{"probed alone", dead, nil, true},
	} {
		probes := newDataProbes(time.Second, 1)
		s := newSightings("e1", probes, unheard, meetTime)
		now := time.Now()
		see := func(edge federation.Edge, probe error, view *consul.View) {
			now = now.Add(time.Second)
			s.update([]federation.Edge{edge}, view, now)
			probes.take(map[probeTarget]error{s.targets()[0]: probe})
		}
		see(dead, silent, critical)
		see(dead, silent, passing)
		see(c.edge, c.probe, passing)
		see(c.edge, c.probe, passing)
		see(dead, silent, passing)
		see(dead, silent, critical)
		if got := s.list()[0].Wavers; got != c.want {
			t.Errorf("%s: doubted: %t", c.what, got)
		}
	}
}

// TestHeardOneWay: an edge that gossip holds for dead lives as long as its
// packets come.
func TestHeardOneWay(t *testing.T) {
	for _, status := range []federation.EdgeStatus{federation.EdgeDead, federation.EdgeLeft} {
		e := sightedEdge("e2", 35)
		e.Status = status
		for _, heard := range []bool{true, false} {
			s := newSightings("e1", newDataProbes(time.Second, 3), func(string) bool { return heard }, meetTime)
			s.update([]federation.Edge{e}, nil, time.Now())
			want := failover.Dead
			if heard && status == federation.EdgeDead {
				want = failover.Alive
			}
			if got := s.list()[0].Gossip; got != want {
				t.Errorf("%s, heard %t: %s", status, heard, got)
			}
		}
	}
}

// TestNeverMet: an edge that gossip has not met in all the time that it may take
// is dead to it, whoever else knows of it; one that is heard, was met or lives
// anew is not.
func TestNeverMet(t *testing.T) {
	const unknown, alive, dead = failover.VerdictUnknown, failover.Alive, failover.Dead
	edge := func(status federation.EdgeStatus, incarnation uint64) []federation.Edge {
		e := sightedEdge("e2", 0)
		e.Status, e.Incarnation = status, incarnation
		return []federation.Edge{e}
	}
	unmet := edge(federation.EdgeUnknown, 1)
	for _, c := range []struct {
		what         string
		first, later []federation.Edge
		heard        bool
		before, want failover.Verdict
	}{
		{"registered", unmet, unmet, false, unknown, dead},
		{"known to Consul alone", nil, nil, false, unknown, dead},
		{"registered no more", unmet, nil, false, unknown, dead},
		{"dead, and forgotten by gossip", edge(federation.EdgeDead, 1), nil, false, dead, dead},
		{"heard", unmet, unmet, true, unknown, unknown},
		{"met at last", unmet, edge(federation.EdgeAlive, 1), false, unknown, alive},
		{"met until now", edge(federation.EdgeAlive, 1), unmet, false, alive, unknown},
		{"started again", unmet, edge(federation.EdgeUnknown, 2), false, unknown, unknown},
	} {
		s := newSightings("e1", newDataProbes(time.Second, 3), func(string) bool { return c.heard }, meetTime)
		view := &consul.View{Entries: []consul.Reported{reportedEdge("e2", false)}}
		now := time.Now()
		s.update(c.first, view, now)
		s.update(c.first, view, now.Add(meetTime-1))
		if got := s.list()[0].Gossip; got != c.before {
			t.Errorf("%s: %s while gossip may yet meet it, want %s", c.what, got, c.before)
		}
		s.update(c.later, view, now.Add(meetTime))
		if got := s.list()[0].Gossip; got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
