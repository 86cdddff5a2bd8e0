package gateway

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// In these tests az2 has the first canaries by id and az1, this edge's zone,
// has none: "a" hangs in az2, "b" answers in az3.
func zoneStage(t *testing.T) (*rig, map[string]*origin) {
	t.Helper()
	r := newRig(t, patient(t))
	r.configure(usersConfig(federation.Strict))
	origins := r.stage(
		place{"a", "az2", "v2", hang},
		place{"b", "az3", "v2", answering("moved")},
		place{"c", "az1", "v1", answering("baseline")},
	)
	return r, origins
}

// asking sends a request, waits until it is at the origin, and returns where its
// answer will be.
func (r *rig) asking(at *origin, q request) <-chan answer {
	got := make(chan answer, 1)
	before := at.heads.Load()
	go func() { got <- r.send(q) }()
	eventually(r.t, "the request is at the origin", func() bool { return at.heads.Load() > before })
	return got
}

// fail has an endpoint of az2 fail.
func (r *rig) fail() { r.gateway.zoneFailed(r.gateway.zone("az2"), time.Now()) }

func canaryZone(g *Gateway) string {
	e := g.Explain(Query{Path: "/", Header: []exchange.Field{{Name: "x-release-tag", Value: "v2-beta"}}})
	if e.Chosen == nil {
		return ""
	}
	return e.Chosen.Instance.Zone
}

func TestZoneLost(t *testing.T) {
	t.Run("dead edges and a failure move what waits", func(t *testing.T) {
		r, origins := zoneStage(t)
		first := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		second := r.asking(origins["a"], request{method: "PUT", tag: "v2-beta", body: "hello"})
		r.gateway.SetZoneLost("az2", true)
		if zone := canaryZone(r.gateway); zone != "az2" {
			t.Fatalf("demoted by gossip alone: %q", zone)
		}
		r.fail()
		for _, got := range []<-chan answer{first, second} {
			a := <-got
			a.expect(t, 200, "moved")
			if decision := a.Header.Get("x-gray-decision"); decision != "rung=canary-elsewhere; reason=in-release; release=v2-beta; zone=az3; instance=b" {
				t.Errorf("decision %q", decision)
			}
		}
		r.settled()
		if origins["a"].heads.Load() != 2 || origins["b"].heads.Load() != 2 {
			t.Errorf("asked %d and %d times", origins["a"].heads.Load(), origins["b"].heads.Load())
		}
		// From now on nothing begins there, until gossip sees an edge of it.
		if zone := canaryZone(r.gateway); zone != "az3" {
			t.Errorf("canaries still of %q", zone)
		}
		r.send(request{method: "GET", tag: "v2-beta"}).expect(t, 200, "moved")
		r.gateway.SetZoneLost("az2", false)
		if zone := canaryZone(r.gateway); zone != "az2" {
			t.Errorf("the zone is back, but canaries are of %q", zone)
		}
	})

	t.Run("what is not replayable stays", func(t *testing.T) {
		r, origins := zoneStage(t)
		post := r.asking(origins["a"], request{method: "POST", tag: "v2-beta", body: "hello"})
		upload := r.asking(origins["a"], request{method: "PUT", tag: "v2-beta", body: "hello", stream: true})
		r.gateway.SetZoneLost("az2", true)
		r.fail()
		if n := r.endpoint("a").InFlight(); n != 2 {
			t.Errorf("%d of 2 still wait", n)
		}
		origins["a"].kill()
		(<-post).expect(t, 502, "upstream-failed")
		(<-upload).expect(t, 502, "upstream-failed")
		if n := origins["b"].heads.Load(); n != 0 {
			t.Errorf("%d requests were sent again", n)
		}
	})

	t.Run("a failure alone demotes nothing", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		r.fail()
		if n := r.endpoint("a").InFlight(); n != 1 || canaryZone(r.gateway) != "az2" {
			t.Errorf("%d wait, canaries of %q", n, canaryZone(r.gateway))
		}
		origins["a"].kill()
		(<-get).expect(t, 200, "moved") // by an ordinary retry
	})

	t.Run("the failure may come first", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		r.fail()
		r.gateway.SetZoneLost("az2", true)
		(<-get).expect(t, 200, "moved")
	})

	t.Run("another zone's failure is none of its", func(t *testing.T) {
		r, origins := zoneStage(t)
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		r.gateway.SetZoneLost("az2", true)
		r.gateway.zoneFailed(r.gateway.zone("az3"), time.Now())
		if n := r.endpoint("a").InFlight(); n != 1 {
			t.Errorf("%d wait", n)
		}
		origins["a"].kill()
		<-get
	})

	t.Run("what waits in another zone stays", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(usersConfig(federation.Strict))
		waits, open := gate("here")
		origins := r.stage(place{"a", "az2", "v2", waits}, place{"b", "az3", "v2", answering("moved")})
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		r.gateway.SetZoneLost("az3", true)
		r.gateway.zoneFailed(r.gateway.zone("az3"), time.Now())
		if !r.gateway.zone("az3").demoted.Load() {
			t.Error("not demoted")
		}
		close(open)
		(<-get).expect(t, 200, "here")
		if n := origins["a"].heads.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
	})

	// Whoever demotes a zone looks for waiting requests before plans are made
	// anew: a request that begins in between must not wait there unseen.
	t.Run("what begins meanwhile goes elsewhere", func(t *testing.T) {
		r, origins := zoneStage(t)
		z := r.gateway.zone("az2")
		z.dead.Store(true)
		z.demoted.Store(true)
		r.send(request{method: "GET", tag: "v2-beta"}).expect(t, 200, "moved")
		if n := origins["a"].heads.Load(); n != 0 {
			t.Errorf("the lost zone was asked %d times", n)
		}
	})

	t.Run("this edge's own zone is never lost", func(t *testing.T) {
		r, _ := zoneStage(t)
		r.gateway.SetZoneLost("az1", true)
		r.gateway.zoneFailed(r.gateway.zone("az1"), time.Now())
		if r.gateway.zone("az1").demoted.Load() {
			t.Error("demoted")
		}
	})

	t.Run("real failures count", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(usersConfig(federation.Strict))
		r.stage(place{"a", "az2", "v2", nil}, place{"b", "az3", "v2", answering("moved")})
		r.gateway.SetZoneLost("az2", true)
		r.send(request{method: "POST", tag: "v2-beta"}).expect(t, 200, "moved")
		if !r.gateway.zone("az2").demoted.Load() {
			t.Error("a refused connection is no failure")
		}
	})

	t.Run("where there is nothing else the lost zone serves", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(usersConfig(federation.Strict))
		released := make(chan struct{})
		var asked atomic.Int64
		origins := r.stage(place{"a", "az2", "v2", func(_ *origin, nc net.Conn, _ string) bool {
			if asked.Add(1) == 1 {
				return hang(nil, nc, "")
			}
			<-released
			_, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback")
			return err == nil
		}})
		get := r.asking(origins["a"], request{method: "GET", tag: "v2-beta"})
		r.gateway.SetZoneLost("az2", true)
		r.fail()
		eventually(t, "it is asked again", func() bool { return asked.Load() == 2 })
		close(released)
		(<-get).expect(t, 200, "back")
	})
}
