package admin

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// populate registers four instances of two services: one full, one draining,
// one unhealthy.
func populate(t *testing.T, r *rig) {
	t.Helper()
	for _, i := range []struct {
		service, id string
		api.Registration
	}{
		{"user-service", "u-1", api.Registration{Zone: "az1", Address: "10.0.0.1:80", Version: "v1"}},
		{"user-service", "u-2", api.Registration{Zone: "az1", Address: "10.0.0.2:80", Version: "v2-beta", Capacity: 1}},
		{"user-service", "u-3", api.Registration{Zone: "az2", Address: "10.0.0.3:80", Version: "v2-beta", Draining: true}},
		{"user-service", "u-4", api.Registration{Zone: "az2", Address: "10.0.0.4:80", Version: "v2-beta"}},
		{"orders", "o-1", api.Registration{Zone: "az1", Address: "10.0.1.1:80"}},
	} {
		if _, err := r.client().Register(t.Context(), federation.Key{Service: i.service, ID: i.id}, i.Registration, api.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.catalog.ObserveHealth(time.Now(), federation.HealthRecord{
		Subject: federation.Key{Service: "orders", ID: "o-1"}, Observer: "az1-edge", Incarnation: 1, Seq: 1,
		Status: federation.Unhealthy, Received: time.Now(),
	})
	r.state.services = []*federation.Service{
		{Name: "billing"},
		{Name: "user-service", Baseline: &federation.Selector{Version: "v1"}},
	}
	r.state.releases = []*federation.Release{
		{Name: "none-yet", Fallback: federation.Strict, Paused: true, Services: map[string]federation.Selector{"search": {Version: "v9"}}},
		{Name: "v2-beta", Fallback: federation.Permissive, Services: map[string]federation.Selector{"user-service": {Version: "v2-beta"}}},
	}
}

func TestServices(t *testing.T) {
	r := newRig(t, nil)
	populate(t, r)
	got, err := r.client().Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &api.Services{Revision: 5, Services: []api.Service{
		{Name: "billing", Zones: map[string]int{}, Versions: map[string]int{}},
		{Name: "orders", Instances: 1, Unhealthy: 1, Zones: map[string]int{"az1": 1}, Versions: map[string]int{"": 1}},
		{Name: "search", Zones: map[string]int{}, Versions: map[string]int{}, Releases: []string{"none-yet"}},
		{
			Name: "user-service", Instances: 4, Usable: 2, Draining: 1, Zones: map[string]int{"az1": 2, "az2": 2},
			Versions: map[string]int{"v1": 1, "v2-beta": 3}, Baseline: &federation.Selector{Version: "v1"}, Releases: []string{"v2-beta"},
		},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReleases(t *testing.T) {
	r := newRig(t, nil)
	if got := string(r.send(http.MethodGet, "/v1/releases", "").body); got != `{"revision":0,"releases":[]}`+"\n" {
		t.Errorf("without a release: %s", got)
	}
	populate(t, r)
	beta := api.Release{Name: "v2-beta", Fallback: federation.Permissive, Services: map[string]api.Canaries{
		"user-service": {Selector: federation.Selector{Version: "v2-beta"}, Instances: 3, Usable: 1, Zones: map[string]int{"az1": 0, "az2": 1}},
	}}
	all, err := r.client().Releases(t.Context())
	if err != nil || len(all.Releases) != 2 || !reflect.DeepEqual(all.Releases[1], beta) || !all.Releases[0].Paused {
		t.Errorf("all: %+v, %v", all, err)
	}
	one, err := r.client().Release(t.Context(), "v2-beta")
	if err != nil || !reflect.DeepEqual(*one, beta) {
		t.Errorf("one: %+v, %v", one, err)
	}
	_, err = r.client().Release(t.Context(), "v3")
	if p := problemOfError(t, err); p.Status != http.StatusNotFound || p.Type != api.ProblemNoRelease {
		t.Errorf("none: %v", err)
	}
}

func TestRoutes(t *testing.T) {
	r := newRig(t, nil)
	if got := string(r.send(http.MethodGet, "/v1/routes", "").body); got != `{"config":"","routes":[]}`+"\n" {
		t.Errorf("without a route: %s", got)
	}
	r.state.routes = api.Routes{Config: "abc", Routes: []api.Route{{ID: "api", Path: "/api/**", Service: "user-service", RateLimit: &api.RateLimit{RPM: 10, Burst: 2}}}}
	got, err := r.client().Routes(t.Context())
	if err != nil || !reflect.DeepEqual(*got, r.state.routes) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFederation(t *testing.T) {
	certificates := []api.Certificate{
		{Listener: "tls", File: "/a.crt", NotAfter: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{Listener: "tls", File: "/b.crt", Error: "expired"},
	}
	r := newRig(t, func(o *Options) { o.Certificates = func() []api.Certificate { return certificates } })
	populate(t, r)
	r.catalog.PutEdge(federation.Edge{
		ID: "az1-edge", Locality: federation.Locality{Zone: "az1", Region: "east"}, Status: federation.EdgeAlive, Incarnation: 3,
		Revision: 5, Clock: 4711, Digest: "d1", Config: "abc", Lag: federation.Duration(1500 * time.Microsecond), Admin: "http://127.0.0.1:9081",
	})
	r.catalog.PutEdge(federation.Edge{ID: "az2-edge", Locality: federation.Locality{Zone: "az2"}})
	got, err := r.client().Federation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &api.Federation{
		Edge: "az1-edge", Revision: 5, Digest: r.catalog.Snapshot().Digest.String(), Clock: 4711, Instances: 5, Unhealthy: 1,
		Edges: []api.Edge{
			{ID: "az1-edge", Zone: "az1", Region: "east", Status: "alive", Incarnation: 3, Revision: 5, Clock: 4711, Digest: "d1", Config: "abc", LagMS: 1, Admin: "http://127.0.0.1:9081"},
			{ID: "az2-edge", Zone: "az2", Status: "unknown"},
		},
		Registry:  api.Registry{Synced: true, Owned: 3, Queued: 1},
		Documents: api.Documents{Hash: "abc"}, Certificates: certificates,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The contract's names, whatever the Go type says.
	var plain struct {
		Revision, Clock json.Number
		Edges           []map[string]any
	}
	if err := json.Unmarshal(r.send(http.MethodGet, "/v1/federation", "").body, &plain); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "zone", "region", "status", "revision", "clock", "digest", "config", "lag_ms"} {
		for _, edge := range plain.Edges {
			if _, there := edge[name]; !there {
				t.Errorf("edge %v has no %s", edge["id"], name)
			}
		}
	}
}

func TestOrphanIsShown(t *testing.T) {
	r := newRig(t, nil)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	orphan := &federation.Instance{Key: key1, Locality: federation.Locality{Zone: "az1"}, Address: "10.0.0.1:80", Owner: "dead-edge", OrphanedAt: since, Revision: 9}
	r.catalog.Apply([]federation.Change{{Put: orphan, Revision: 9}}, 9)
	got, err := r.client().Instances(t.Context(), "user-service")
	if err != nil || len(got.Instances) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if i := got.Instances[0]; !i.Orphaned || !i.OrphanedSince.Equal(since) || i.Owner != "dead-edge" || i.Protocol != "http/1.1" {
		t.Errorf("shown as %+v", i)
	}
}

func TestExplain(t *testing.T) {
	r := newRig(t, nil)
	got, err := r.client().Explain(t.Context(), api.ExplainRequest{Path: "/a%20b", Host: "h:80", Query: "a=b&c", Tag: "v2-beta", Headers: map[string]string{"X-A": "b c"}, ClientIP: "::1"})
	if err != nil || got.Outcome != api.OutcomeNoRoute || got.Steps == nil || got.Next == nil {
		t.Errorf("answer %+v, %v", got, err)
	}
	want := api.ExplainRequest{Method: "GET", Path: "/a%20b", Host: "h:80", Query: "a=b&c", Tag: "v2-beta", Headers: map[string]string{"X-A": "b c"}, ClientIP: "::1"}
	if !reflect.DeepEqual(r.state.asked, want) {
		t.Errorf("asked %+v, want %+v", r.state.asked, want)
	}
	// An ill-formed tag is the explanation's to tell.
	if _, err := r.client().Explain(t.Context(), api.ExplainRequest{Method: "OPTIONS", Path: "*", Tag: "a b"}); err != nil {
		t.Error(err)
	}
	for body, field := range map[string]string{
		`{}`:                                                     "path",
		`{"path":"a"}`:                                           "path",
		`{"path":"/a?b=c"}`:                                      "path",
		`{"path":"/a b"}`:                                        "path",
		`{"path":"/\r\n"}`:                                       "path",
		`{"path":"*/"}`:                                          "path",
		`{"path":"/","method":"G T"}`:                            "method",
		`{"path":"/","host":"a b"}`:                              "host",
		`{"path":"/","query":"a\nb"}`:                            "query",
		`{"path":"/","tag":"a\r\nb"}`:                            "tag",
		`{"path":"/","client_ip":"here"}`:                        "client_ip",
		`{"path":"/","client_ip":"fe80::1%lo"}`:                  "client_ip",
		`{"path":"/","headers":{"a b":"c"}}`:                     "headers",
		`{"path":"/","headers":{"a":"b\u0000"}}`:                 "headers.a",
		`{"path":"/","headers":{"a":["b"]}}`:                     "headers.a",
		`{"path":"/","headers":{"a":"1","A":"2"}}`:               "headers.a",
		`{"path":"/","headers":{"X-Release-Tag":"a"},"tag":"b"}`: "tag",
		`{"path":"/","service":"x"}`:                             "service",
	} {
		p := r.send(http.MethodPost, "/v1/explain", body).problem(t)
		if p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != field {
			t.Errorf("%s: %v, want %s", body, p, field)
		}
	}
	if p := r.send(http.MethodPost, "/v1/explain", "").problem(t); p.Status != http.StatusBadRequest {
		t.Errorf("no body: %v", p)
	}
}
