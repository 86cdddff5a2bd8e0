package edge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// TestZoneIsGivenUpWithItsEdge: what gossip says of a zone's only edge and what
// requests meet there take the zone off the ladder together, and the request
// that waits there is moved on; when the edge is back, so is the zone.
func TestZoneIsGivenUpWithItsEdge(t *testing.T) {
	etcd, _ := startEtcd(t)
	p1, p2 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd)
	meet(p1, p2)
	// Nothing but the zone's end moves requests.
	p1.Health.Ejection.ConnectFailures, p1.Health.Ejection.GatewayFailures = 1000, 1000
	p1.Upstream.ConnectTimeout = 5 * time.Second
	p1.Health.Probe.Interval, p1.Health.Probe.Failures, p1.Health.Ejection.WindowPercent = 5*time.Minute, 100, 100
	one, two := start(t, p1), startChild(t, p2)
	one.ready()
	two.ready()
	eventually(t, "the edges meet", func() error {
		if !one.edge.gossip.Alive("az2-edge") {
			return fmt.Errorf("az2-edge is not alive")
		}
		return nil
	})
	arrived, release := make(chan struct{}), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/users/waits" {
			return
		}
		close(arrived)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hanging.Close()
	defer close(release)
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "moved")
	}))
	defer moved.Close()
	ttl := federation.Duration(0)
	register := func(id, zone, version, address string) {
		t.Helper()
		if _, err := one.api.Register(t.Context(), federation.Key{Service: "users", ID: id}, api.Registration{
			Zone: zone, Region: "east", Address: address, Version: version, TTL: &ttl,
		}, api.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	register("hanging", "az2", "v2-beta", strings.TrimPrefix(hanging.URL, "http://"))
	register("moved", "az3", "v2-beta", strings.TrimPrefix(moved.URL, "http://"))
	register("gone", "az2", "v1", "127.0.0.1:"+freePort(t)) // nobody listens there
	eventually(t, "all are known", func() error {
		x, err := one.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1"})
		if err == nil && (x.Endpoint == nil || x.Endpoint.ID != "gone") {
			err = fmt.Errorf("%s", toJSON(x))
		}
		return err
	})
	answered := make(chan string, 1)
	go func() {
		status, body, _ := one.get("/users/waits", "v2-beta")
		answered <- fmt.Sprint(status, " ", body)
	}()
	<-arrived
	place := one.place()
	two.kill()
	demoted := make(chan struct{})
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for {
			select {
			case <-demoted:
				return
			case <-time.After(10 * time.Millisecond):
				_, _, _ = one.get("/users/1", "")
			}
		}
	}()
	one.told(place, "the zone is given up", func(e api.Event) bool { return e.Type == api.EventZoneDemoted && e.Zone == "az2" })
	close(demoted)
	<-asking
	select {
	case got := <-answered:
		if got != "200 moved" {
			t.Errorf("the request that waited there got %s", got)
		}
	case <-time.After(patience):
		t.Error("the request that waits there is not moved")
	}
	startChild(t, p2).ready()
	one.told(place, "the zone is back", func(e api.Event) bool { return e.Type == api.EventZoneRestored && e.Zone == "az2" })
}

// TestEjectionsAreTold: what this edge finds out about an instance, once each
// way.
func TestEjectionsAreTold(t *testing.T) {
	etcd, _ := startEtcd(t)
	p := settings(t, "az1", etcd)
	p.Health.Probe.Interval = 100 * time.Millisecond
	e := start(t, p)
	e.ready()
	place := e.place()
	well := make(chan bool, 1)
	well <- false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := <-well
		well <- now
		if !now {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "well")
	}))
	defer server.Close()
	ttl := federation.Duration(0)
	if _, err := e.api.Register(t.Context(), federation.Key{Service: "users", ID: "u1"}, api.Registration{
		Zone: "az1", Address: strings.TrimPrefix(server.URL, "http://"), Version: "v1", TTL: &ttl,
	}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	ejected := func(kind api.EventType) func(api.Event) bool {
		return func(e api.Event) bool {
			return e.Type == kind && e.Service == "users" && e.Instance == "u1"
		}
	}
	e.told(place, "ejected", ejected(api.EventInstanceEjected))
	<-well
	well <- true
	e.told(place, "readmitted", ejected(api.EventInstanceReadmitted))
}
