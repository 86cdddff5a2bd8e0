package edge

import (
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestPeersJoinRegistryAndGossip(t *testing.T) {
	now := time.Unix(1000, 0)
	shown := make(map[string]federation.Edge)
	p := newPeers(func() time.Time { return now }, func(e federation.Edge, gone bool) {
		if gone {
			delete(shown, e.ID)
			return
		}
		shown[e.ID] = e
	})
	az2 := federation.Locality{Zone: "az2"}
	registered := federation.Edge{ID: "e2", Locality: az2, Incarnation: 2, Admin: "http://e2:9081", Gossip: "e2:7946"}
	p.PutEdge(registered)
	if e := shown["e2"]; e.Status != federation.EdgeUnknown || e.Admin == "" {
		t.Errorf("registered, never met: %+v", e)
	}
	p.hear(federation.Edge{ID: "e2", Locality: az2, Incarnation: 2, Status: federation.EdgeAlive, Revision: 7, Share: 35})
	if e := shown["e2"]; e.Status != federation.EdgeAlive || e.Revision != 7 || e.Share != 35 || e.Admin == "" {
		t.Errorf("registered and alive: %+v", e)
	}
	if p.zoneLost("az2") || p.zoneLost("az9") {
		t.Error("a zone with a live edge, or with none ever, counts as lost")
	}
	p.hear(federation.Edge{ID: "e2", Locality: az2, Incarnation: 2, Status: federation.EdgeDead})
	if !p.zoneLost("az2") {
		t.Error("a zone whose only edge is dead does not count as lost")
	}
	p.PutEdge(federation.Edge{ID: "e2", Locality: az2, Incarnation: 3, Gossip: "e2:7946"})
	if p.zoneLost("az2") {
		t.Error("news of an edge's former life counts against its new one")
	}
	if all := p.all(); len(all) != 1 || all[0].Share != 0 || all[0].Incarnation != 3 {
		t.Errorf("what an edge asked for in its former life counts: %+v", all)
	}
	if got := p.addresses("e1"); !slices.Equal(got, []string{"e2:7946"}) || len(p.addresses("e2")) != 0 {
		t.Errorf("addresses to rejoin: %v", got)
	}
	p.hear(federation.Edge{ID: "e2", Locality: az2, Incarnation: 3, Status: federation.EdgeDead})
	p.RemoveEdge("e2")
	p.expire()
	if _, still := shown["e2"]; !still {
		t.Error("a dead edge is not shown to people")
	}
	now = now.Add(forgetAfter + 1)
	p.expire()
	if len(shown) != 0 || len(p.known) != 0 {
		t.Errorf("a long dead edge is kept: %v", shown)
	}
}

func TestPeersForgetsARegistrationThatGossipNeverMet(t *testing.T) {
	gone := ""
	p := newPeers(time.Now, func(e federation.Edge, g bool) {
		if g {
			gone = e.ID
		}
	})
	p.PutEdge(federation.Edge{ID: "e2"})
	p.RemoveEdge("e2")
	if gone != "e2" {
		t.Error("the end of the registration was not told")
	}
}

// An edge that was replaced is remembered for a while, and must not keep its
// zone from counting as lost when its successor dies.
func TestPeersAZoneIsLostBesidesAnEdgeThatLeft(t *testing.T) {
	p := newPeers(time.Now, func(federation.Edge, bool) {})
	edge := func(id string, status federation.EdgeStatus) federation.Edge {
		return federation.Edge{ID: id, Locality: federation.Locality{Zone: "az2"}, Incarnation: 1, Status: status}
	}
	p.hear(edge("old", federation.EdgeLeft))
	if p.zoneLost("az2") {
		t.Error("a zone whose only edge left on purpose counts as lost")
	}
	p.hear(edge("new", federation.EdgeAlive))
	if p.zoneLost("az2") {
		t.Error("a zone with a live edge counts as lost")
	}
	p.hear(edge("new", federation.EdgeDead))
	if !p.zoneLost("az2") {
		t.Error("the edge that left stands for its dead successor")
	}
}

// The registry and gossip bring news of one edge at the same time: whoever is
// slower must not have the last word with what is no longer so.
func TestPeersTellsInOrder(t *testing.T) {
	var p *peers
	var told []federation.EdgeStatus
	dead := federation.Edge{ID: "e2", Incarnation: 1, Status: federation.EdgeDead}
	heard := false
	p = newPeers(time.Now, func(e federation.Edge, _ bool) {
		if e.Status == federation.EdgeAlive && !heard {
			// Gossip comes between the joining of the view and its telling.
			heard = true
			other := make(chan struct{})
			go func() {
				defer close(other)
				p.hear(dead)
			}()
			<-other
		}
		told = append(told, e.Status)
	})
	p.hear(federation.Edge{ID: "e2", Incarnation: 1, Status: federation.EdgeAlive})
	if len(told) == 0 || told[len(told)-1] != federation.EdgeDead {
		t.Errorf("told %v, and gossip's last word is dead", told)
	}
}

func TestPeersNearestFreshEdge(t *testing.T) {
	p := newPeers(time.Now, func(federation.Edge, bool) {})
	hear := func(id, zone, region string, status federation.EdgeStatus, lag time.Duration) {
		p.hear(federation.Edge{
			ID: id, Locality: federation.Locality{Zone: zone, Region: region}, Incarnation: 1,
			Status: status, Revision: 7, Lag: federation.Duration(lag),
		})
	}
	self := federation.Edge{ID: "self", Locality: federation.Locality{Zone: "az1", Region: "east"}}
	expect := func(want string) {
		t.Helper()
		if got := p.nearestFresh(&self); got != want {
			t.Errorf("nearest is %q, want %q", got, want)
		}
	}
	hear("self", "az1", "east", federation.EdgeAlive, 0)
	expect("")
	hear("far", "az3", "south", federation.EdgeAlive, time.Second)
	expect("far")
	hear("east-b", "az2", "east", federation.EdgeAlive, time.Second)
	hear("east-a", "az2", "east", federation.EdgeAlive, time.Second)
	expect("east-a")
	hear("zone", "az1", "east", federation.EdgeAlive, time.Second)
	expect("zone")
	hear("zone", "az1", "east", federation.EdgeAlive, freshLag+1)
	hear("east-a", "az2", "east", federation.EdgeDead, 0)
	expect("east-b")
	hear("east-b", "az2", "east", federation.EdgeAlive, time.Minute)
	hear("far", "az3", "south", federation.EdgeAlive, time.Minute)
	expect("")
}
