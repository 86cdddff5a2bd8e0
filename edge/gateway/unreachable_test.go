package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// silence has an origin take no connection any more, while those that stand
// stay as they are.
func (o *origin) silence() { _ = o.listener.Close() }

func TestUnreachable(t *testing.T) {
	// eject has requests fail to connect to "a" until it is ejected; spent: what
	// they add to the retry budget is taken out of it.
	eject := func(r *rig, spent bool) {
		for range patientFailures - 10 {
			r.endpoint("a").tracker.ConnectFailure(time.Now().UnixNano())
		}
		eventually(t, "a is ejected", func() bool {
			if spent {
				for r.gateway.routing.Load().services["users"].budget.take() {
				}
			}
			r.send(request{method: "GET", tag: "v2-beta"})
			return r.endpoint("a").tracker.Ejected()
		})
	}

	t.Run("what waits is tried elsewhere", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		put := r.asking(origins["a"], request{method: "PUT", tag: "v2-beta", body: "hello"})
		origins["a"].silence()
		eject(r, false)
		(<-get).expect(t, 200, "moved")
		(<-put).expect(t, 200, "moved")
		if n := origins["a"].heads.Load(); n != 2 {
			t.Errorf("a was asked %d times", n)
		}
	})

	t.Run("what is not replayable waits on", func(t *testing.T) {
		r, origins := zoneStage(t)
		post := r.asking(origins["a"], request{method: "POST", tag: "v2-beta", body: "hello"})
		origins["a"].silence()
		eject(r, false)
		if n := r.endpoint("a").InFlight(); n != 1 {
			t.Errorf("%d wait", n)
		}
		origins["a"].kill()
		(<-post).expect(t, 502, "upstream-failed")
	})

	t.Run("where there is nothing else, all waits on", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(usersConfig(federation.Strict))
		waits, open := gate("after all")
		origins := r.stage(place{"a", "az2", "v2", waits}, place{"c", "az1", "v1", answering("baseline")})
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, false)
		close(open)
		(<-get).expect(t, 200, "after all")
	})

	t.Run("another edge leads to the only endpoint", func(t *testing.T) {
		waiting, release := make(chan struct{}, 1), make(chan struct{})
		a := &fakeEdge{id: "a", answer: silentUntil(waiting, release)}
		b := &fakeEdge{id: "b", answer: says(200, "served;instance=canary")}
		r := peered(t, a, b)
		r.configure(usersConfig(federation.Strict))
		r.register(instance("canary", "az2", "v2", "192.0.2.9:80"))
		get, post := make(chan answer, 1), make(chan answer, 1)
		go func() { get <- r.ask("GET", "/", tagged, explain) }()
		<-waiting
		r.gateway.SetPeer(edgeOf("b", federation.EdgeSuspect), false) // all else goes to a
		go func() { post <- r.ask("POST", "/", tagged, explain, "Content-Length: 0") }()
		<-waiting
		a.answers(unreachable)
		for range peerFailures {
			r.ask("GET", "/", tagged).expect(t, 200, "")
		}
		eventually(t, "the GET leaves a", func() bool { return r.gateway.peersByID()["a"].standIn.inFlight.Load() == 1 })
		got := <-get
		got.expect(t, 200, "")
		if decision := got.Header.Get("x-gray-decision"); !strings.HasSuffix(decision, "instance=canary; through=b") {
			t.Errorf("the GET: %s", decision)
		}
		close(release) // what cannot be sent again has waited on
		got = <-post
		got.expect(t, 200, "")
		if decision := got.Header.Get("x-gray-decision"); !strings.HasSuffix(decision, "through=a") {
			t.Errorf("the POST: %s", decision)
		}
	})

	t.Run("where no other edge lets it in, it waits on", func(t *testing.T) {
		waiting, release := make(chan struct{}, 1), make(chan struct{})
		a := &fakeEdge{id: "a", answer: silentUntil(waiting, release)}
		b := &fakeEdge{id: "b", answer: unreachable}
		r := peered(t, a, b)
		r.configure(usersConfig(federation.Strict))
		r.register(instance("canary", "az2", "v2", "192.0.2.9:80"))
		get := make(chan answer, 1)
		go func() { get <- r.ask("GET", "/", tagged, explain) }()
		<-waiting
		a.answers(unreachable)
		for range peerFailures { // b is the less busy one, so that its door closes first
			r.ask("GET", "/", tagged).expect(t, 502, "connect-failed")
		}
		close(release)
		got := <-get
		got.expect(t, 200, "")
		if decision := got.Header.Get("x-gray-decision"); !strings.HasSuffix(decision, "through=a") {
			t.Errorf("decision %s", decision)
		}
	})

	t.Run("what no retry is left for waits on", func(t *testing.T) {
		r := newRig(t, patient(t))
		config := usersConfig(federation.Strict)
		config.Routes[0].Retries = 0
		r.configure(config)
		waits, open := gate("after all")
		origins := r.stage(
			place{"a", "az2", "v2", waits}, place{"b", "az3", "v2", answering("moved")}, place{"c", "az1", "v1", answering("baseline")},
		)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, false)
		close(open)
		(<-get).expect(t, 200, "after all")
	})

	t.Run("without a budget all waits on, until the zone is lost", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		origins["a"].silence()
		eject(r, true)
		if n := r.endpoint("a").InFlight(); n != 1 {
			t.Errorf("%d wait", n)
		}
		r.gateway.SetZoneLost("az2", true)
		(<-get).expect(t, 200, "moved")
	})
}
