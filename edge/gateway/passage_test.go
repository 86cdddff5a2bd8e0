package gateway

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// fakeEdge is another edge as its transport shows it.
type fakeEdge struct {
	id     string
	answer func(x *exchange.Exchange) error
	now    atomic.Pointer[func(x *exchange.Exchange) error] // instead of answer
	closed atomic.Bool
	asked  atomic.Int32
}

func (e *fakeEdge) RoundTrip(x *exchange.Exchange) error {
	if e.closed.Load() {
		return &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrClosed}
	}
	e.asked.Add(1)
	if now := e.now.Load(); now != nil {
		return (*now)(x)
	}
	return e.answer(x)
}

// answers changes what it does from now on.
func (e *fakeEdge) answers(answer func(x *exchange.Exchange) error) { e.now.Store(&answer) }

func (e *fakeEdge) Close() error { e.closed.Store(true); return nil }

// says answers with a verdict.
func says(status int, verdict string) func(*exchange.Exchange) error {
	return func(x *exchange.Exchange) error {
		x.Response.Reset()
		x.Response.Status = status
		x.Response.Header.Add("x-gray-hop", verdict)
		return nil
	}
}

// unreachable is an edge that nobody can connect to.
func unreachable(*exchange.Exchange) error {
	return &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultUpstream, Err: fmt.Errorf("connection refused")}
}

// silent is an edge that answers nothing until the request is taken back.
func silent(waiting chan<- struct{}) func(*exchange.Exchange) error {
	return silentUntil(waiting, nil)
}

// silentUntil is one that serves those that still wait when it is released.
func silentUntil(waiting chan<- struct{}, release <-chan struct{}) func(*exchange.Exchange) error {
	return func(x *exchange.Exchange) error {
		interrupted := make(interruption, 1)
		if cause := x.Await(interrupted); cause != nil {
			return &exchange.Error{Fault: exchange.FaultGateway, Wrote: true, Err: cause}
		}
		waiting <- struct{}{}
		select {
		case <-release:
			_ = x.Await(nil)
			return says(200, "served;instance=canary")(x)
		case <-interrupted:
		}
		_ = x.Await(nil)
		return &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultGateway, Wrote: true, Err: x.Cause()}
	}
}

// peered is a rig in az1 that reaches az2 through its edges.
func peered(t *testing.T, edges ...*fakeEdge) *rig {
	t.Helper()
	byID := make(map[string]*fakeEdge)
	for _, e := range edges {
		byID[e.id] = e
	}
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Edge = "az1-edge"
		o.Through = func(zone string) bool { return zone == "az2" }
		o.NewPeer = func(e *federation.Edge) (Upstream, error) { return byID[e.ID], nil }
	})
	for _, e := range edges {
		r.gateway.SetPeer(edgeOf(e.id, federation.EdgeAlive), false)
	}
	return r
}

func edgeOf(id string, status federation.EdgeStatus) federation.Edge {
	return federation.Edge{ID: id, Locality: federation.Locality{Zone: "az2", Region: "east"}, Incarnation: 1, Peer: "192.0.2.1:7443", Status: status}
}

// TestOtherEdgeOfTheZone: an edge that cannot be reached is passed over for
// another one of its zone, then for the rest of the ladder.
func TestOtherEdgeOfTheZone(t *testing.T) {
	dead, well := &fakeEdge{id: "a", answer: unreachable}, &fakeEdge{id: "b", answer: says(200, "served;instance=canary")}
	r := peered(t, dead, well)
	r.configure(usersConfig(federation.Permissive))
	stable := newOrigin(t, answering("stable"))
	r.register(instance("canary", "az2", "v2", "192.0.2.9:80"), instance("stable", "az1", "v1", stable.address))
	for n := range 10 {
		r.ask("GET", "/", tagged).expect(t, 200, "")
		if n == peerFailures-1 {
			// However slow the machine is, its pause does not end in here.
			r.gateway.peersByID()["a"].closedUntil.Store(math.MaxInt64)
		}
	}
	if dead.asked.Load() != peerFailures || well.asked.Load() != 10 {
		t.Errorf("asked %d and %d times", dead.asked.Load(), well.asked.Load())
	}
	well.answers(unreachable)
	a := r.ask("POST", "/", tagged, explain, "Content-Length: 0")
	a.expect(t, 200, "stable")
	if decision := a.Header.Get("x-gray-decision"); decision != "rung=baseline-here; reason=no-canary-usable; release=v2-beta; zone=az1; instance=stable" {
		t.Errorf("decision %q", decision)
	}
	if r.endpoint("canary").tracker.Ejected() {
		t.Error("the endpoint was blamed")
	}
}

// TestVerdicts: what another edge says decides what comes next.
func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*exchange.Exchange) error
		method string
		status int // of the answer
		asked  int32
		rest   string // how often the baseline was asked
	}{
		"served":                       {says(200, "served;instance=canary"), "POST", 200, 1, "0"},
		"served by one not known here": {says(200, "served;instance=new"), "POST", 200, 1, "0"},
		"an endpoint's own 503":        {says(503, "served;instance=canary"), "POST", 503, 1, "0"},
		"an endpoint's 503, again":     {says(503, "served;instance=canary"), "GET", 503, 1, "0"}, // in its lane there is no other
		"not processed":                {says(503, "not-processed;reason=no-endpoint"), "POST", 200, 1, "1"},
		"failed, not to be repeated":   {says(502, "failed;instance=canary"), "POST", 502, 1, "0"},
		"failed, again":                {says(502, "failed;instance=canary"), "GET", 200, 1, "1"},
		"too late, not again":          {says(504, "failed;timeout=1"), "POST", 504, 1, "0"},
		"closed as it was used":        {says(502, "failed;instance=canary;reused=1"), "GET", 502, 2, "0"}, // tried there again
		"no word":                      {says(200, ""), "POST", 502, 1, "0"},
		"an unknown word":              {says(200, "perhaps"), "POST", 502, 1, "0"},
		"refused for its form":         {says(431, ""), "POST", 200, 1, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			edge := &fakeEdge{id: "a", answer: c.answer}
			r := peered(t, edge)
			r.configure(usersConfig(federation.Permissive))
			stable := newOrigin(t, answering("stable"))
			r.register(instance("canary", "az2", "v2", "192.0.2.9:80"), instance("stable", "az1", "v1", stable.address))
			r.ask(c.method, "/", tagged, "Content-Length: 0").expect(t, c.status, "")
			if edge.asked.Load() != c.asked || fmt.Sprint(stable.heads.Load()) != c.rest {
				t.Errorf("the edge was asked %d times, the baseline %d times; want %d and %s", edge.asked.Load(), stable.heads.Load(), c.asked, c.rest)
			}
			r.settled()
			if rt := r.endpoint("canary"); rt.tracker.Ejected() {
				t.Error("the endpoint was blamed")
			}
		})
	}
}

// TestNotProcessedAnywhere: of many zones, however many endpoints they have, as
// many are asked as a request has attempts, and one of those is for the lane that
// it falls back to.
func TestNotProcessedAnywhere(t *testing.T) {
	zones := []string{"az2", "az4", "az5", "az6", "az7"}
	edges := make(map[string]*fakeEdge)
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Edge = "az1-edge"
		o.Through = func(string) bool { return true }
		o.NewPeer = func(e *federation.Edge) (Upstream, error) { return edges[e.ID], nil }
	})
	stable := newOrigin(t, answering("stable"))
	instances := []*federation.Instance{instance("stable", "az1", "v1", stable.address)}
	for _, zone := range zones {
		edges[zone] = &fakeEdge{id: zone, answer: says(503, "not-processed;reason=no-endpoint")}
		edge := edgeOf(zone, federation.EdgeAlive)
		edge.Zone = zone
		r.gateway.SetPeer(edge, false)
		for n := range 3 {
			instances = append(instances, instance(fmt.Sprintf("canary-%s-%d", zone, n), zone, "v2", "192.0.2.9:80"))
		}
	}
	r.register(instances...)
	for _, fallback := range []federation.Fallback{federation.Permissive, federation.Strict} {
		r.configure(usersConfig(fallback))
		a := r.ask("POST", "/", tagged, "Content-Length: 0")
		if fallback == federation.Permissive {
			a.expect(t, 200, "stable")
		} else {
			a.expect(t, 503, "no-canary-usable")
		}
		asked, want := int32(0), int32(maxUnwritten)
		if fallback == federation.Permissive {
			want--
		}
		for zone, edge := range edges {
			n := edge.asked.Swap(0)
			if asked += n; n > 1 {
				t.Errorf("%s: the edge of %s was asked %d times", fallback, zone, n)
			}
		}
		if asked != want {
			t.Errorf("%s: %d edges were asked, want %d", fallback, asked, want)
		}
	}
}

// TestEdgeDiesWhileRequestsWait: they are moved on, once gossip says so.
func TestEdgeDiesWhileRequestsWait(t *testing.T) {
	waiting := make(chan struct{}, 1)
	frozen := &fakeEdge{id: "a", answer: silent(waiting)}
	r := peered(t, frozen)
	r.configure(usersConfig(federation.Strict))
	other := newOrigin(t, answering("az3"))
	r.register(instance("canary", "az2", "v2", "192.0.2.9:80"), instance("far", "az3", "v2", other.address))
	answered := make(chan answer, 1)
	go func() { answered <- r.ask("GET", "/", tagged) }()
	<-waiting
	r.gateway.SetPeer(edgeOf("a", federation.EdgeSuspect), false) // that alone moves nothing
	if frozen.closed.Load() {
		t.Error("an edge was given up on a suspicion")
	}
	r.gateway.SetPeer(edgeOf("a", federation.EdgeDead), false)
	(<-answered).expect(t, 200, "az3")
	if !frozen.closed.Load() {
		t.Error("the transport to a dead edge stays open")
	}
	r.ask("GET", "/", tagged).expect(t, 200, "az3")
	if n := frozen.asked.Load(); n != 1 {
		t.Errorf("a dead edge was asked %d times", n)
	}
	// It comes back in another life.
	again := edgeOf("a", federation.EdgeAlive)
	again.Incarnation = 2
	frozen.closed.Store(false)
	frozen.answers(says(200, "served;instance=canary"))
	r.gateway.SetPeer(again, false)
	r.ask("GET", "/", tagged).expect(t, 200, "")
	if n := frozen.asked.Load(); n != 2 {
		t.Errorf("the edge is back and was asked %d times", n)
	}
}

// TestNoLivingEdge: without one the zone's endpoints are not usable, whatever is
// known of them.
func TestNoLivingEdge(t *testing.T) {
	r := peered(t)
	r.configure(usersConfig(federation.Strict))
	r.register(instance("canary", "az2", "v2", "192.0.2.9:80"))
	for _, test := range []struct {
		edge   federation.Edge
		gone   bool
		usable bool
	}{
		{edgeOf("a", federation.EdgeUnknown), false, true}, // registered, never met
		{edgeOf("a", federation.EdgeDead), false, false},
		{edgeOf("a", federation.EdgeAlive), false, true},
		{edgeOf("a", federation.EdgeLeft), false, false},
		{edgeOf("a", federation.EdgeAlive), true, false},
		{federation.Edge{ID: "b", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeAlive}, false, false}, // no listener for edges
		{federation.Edge{ID: "c", Locality: federation.Locality{Zone: "az3"}, Peer: "192.0.2.1:1", Status: federation.EdgeAlive}, false, false},
		{federation.Edge{ID: "az1-edge", Locality: federation.Locality{Zone: "az2"}, Peer: "192.0.2.1:1", Status: federation.EdgeAlive}, false, false}, // itself
	} {
		r.gateway.opts.NewPeer = func(*federation.Edge) (Upstream, error) { return &fakeEdge{}, nil }
		r.gateway.SetPeer(test.edge, test.gone)
		x := r.gateway.Explain(Query{Path: "/", Header: []exchange.Field{{Name: "x-release-tag", Value: "v2-beta", ID: exchange.FieldXReleaseTag}}})
		if (x.Chosen != nil) != test.usable || test.usable == (x.Steps[1].Unreachable == 1) {
			t.Errorf("edge %s %q, gone %t: %+v", test.edge.ID, test.edge.Status, test.gone, x.Steps)
		}
	}
}

// TestDoorsOfEdges: one that fails is left alone, and tried again by a single
// request after each pause, which grows.
func TestDoorsOfEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p passage
		a, b := &peer{edge: federation.Edge{ID: "a"}}, &peer{edge: federation.Edge{ID: "b"}}
		p.peers.Store(&[]*peer{a, b})
		expect := func(what string, want *peer) {
			t.Helper()
			if got := p.next(nil, true); got != want {
				t.Errorf("%s: the wrong edge", what)
			}
		}
		b.doubtful.Store(true)
		expect("b is doubtful", a)
		b.doubtful.Store(false)
		a.standIn.inFlight.Store(1)
		expect("b is less busy", b)
		a.standIn.inFlight.Store(0)
		b.standIn.inFlight.Store(2)
		for n := range peerFailures {
			expect("a is well", a)
			if closed := a.failed(time.Now()); closed != (n == peerFailures-1) {
				t.Errorf("failure %d closes the door: %t", n+1, closed)
			}
		}
		expect("a is closed", b)
		if p.next(b, true) != nil {
			t.Error("a closed door is open")
		}
		time.Sleep(peerPause)
		for range 2 {
			if p.next(nil, false) != a {
				t.Error("who only looks takes the trial")
			}
		}
		if p.hasOther(b) || !p.hasOther(a) {
			t.Error("a lets in whatever comes, or b does not")
		}
		expect("trial", a)
		expect("the trial is under way", b)
		a.failed(time.Now())
		time.Sleep(peerPause)
		expect("the second pause is longer", b)
		time.Sleep(peerPause)
		expect("second trial", a)
		a.worked()
		expect("a is well again", a)
		for range 100 {
			b.failed(time.Now())
		}
		if pause := b.pause(); pause != peerPauseMost {
			t.Errorf("the pause grows to %s", pause)
		}
	})
}

// TestZonesAreTold: of a demotion and of its end, without locks.
func TestZonesAreTold(t *testing.T) {
	var mu sync.Mutex
	var told []string // mu
	var r *rig
	r = newRig(t, func(o *Options) {
		firstByID(o)
		o.OnZone = func(zone string, demoted bool) {
			r.gateway.Refresh(time.Now()) // takes the lock of the plans
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(zone, demoted))
		}
	})
	r.configure(usersConfig(federation.Strict))
	r.register(instance("canary", "az2", "v2", refusingAddress(t)))
	r.gateway.SetZoneLost("az2", true)
	expect := func(want string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if got := fmt.Sprint(told); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
	expect("[]") // no endpoint has failed
	r.ask("GET", "/", tagged).expect(t, 502, "")
	r.gateway.SetZoneLost("az2", true)
	r.gateway.SetZoneLost("az2", false)
	r.gateway.SetZoneLost("az2", false)
	expect("[az2true az2false]")
}
