package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// counters gathers the counters of a registry, as text formats write them.
func counters(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetCounter().GetValue() == 0 {
				continue
			}
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			out = append(out, fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), metric.GetCounter().GetValue()))
		}
	}
	slices.Sort(out)
	return out
}

// What a request leaves behind: a line in the access log and counts.
func TestEvidence(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Registerer = reg
		var names []string
		for rung := range route.Rung(route.RungCount) {
			names = append(names, rung.String())
		}
		requests, err := observe.NewRequests(reg, names)
		if err != nil {
			t.Fatal(err)
		}
		o.Requests = requests
	})
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"a", "az1", "v2", nil}, place{"b", "az2", "v2", answering("canary")}, place{"c", "az1", "v1", respondWith(unavailable)})
	r.as("192.0.2.1")
	// A line is written after its answer: wait for each, or the next request's may come first.
	logged := func(lines int) {
		eventually(t, fmt.Sprintf("%d lines", lines), func() bool { return strings.Count(r.log.String(), "\n") == lines })
	}
	r.ask("GET", "/users/1?q=1", tagged, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect(t, 200, "canary")
	logged(1)
	r.ask("POST", "/users/1", "x-release-tag: unknown").expect(t, 503, "busy")
	logged(2)
	r.ask("GET", "/users/..%2f..", "x-release-tag: a b").expect(t, 400, "malformed-tag")
	logged(3)

	want := []map[string]any{
		{"route": "users", "service": "users", "release": "v2-beta", "subset": "v2-beta", "zone": "az2", "rung": "canary-elsewhere",
			"reason": "in-release", "upstream": "b", "status": 200.0, "retries": 1.0, "client": "192.0.2.1", "method": "GET",
			"trace_id": "0af7651916cd43dd8448eb211c80319c", "response_bytes": 6.0, "path": "/users/1", "error": nil},
		{"route": "users", "release": "", "subset": "baseline", "zone": "az1", "rung": "baseline-here", "reason": "unknown-tag",
			"upstream": "c", "status": 503.0, "retries": 0.0, "error": nil},
		{"route": "users", "subset": "none", "rung": "none", "reason": "malformed-tag", "upstream": "", "status": 400.0},
	}
	for n, line := range strings.Split(strings.TrimSpace(r.log.String()), "\n") {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		for name, value := range want[n] {
			if got[name] != value {
				t.Errorf("line %d: %s is %v, want %v", n, name, got[name], value)
			}
		}
	}
	got := counters(t, reg)
	for _, counted := range []string{
		"grayfed_requests_total{code=2xx,route=users,rung=canary-elsewhere,subset=v2-beta} 1",
		"grayfed_requests_total{code=5xx,route=users,rung=baseline-here,subset=baseline} 1",
		"grayfed_requests_total{code=4xx,route=users,rung=none,subset=none} 1",
		"grayfed_request_retries_total{route=users,subset=v2-beta} 1",
		"grayfed_attempts_repeated_total{why=unwritten} 1",
	} {
		if !slices.Contains(got, counted) {
			t.Errorf("%s is not among %q", counted, got)
		}
	}
	// A route that is gone takes its series along.
	r.configure(Config{})
	for _, counted := range counters(t, reg) {
		if strings.Contains(counted, "route=users") {
			t.Errorf("still there: %s", counted)
		}
	}
}

// Instances that vanished count as lost capacity for ten minutes, and no
// longer: only the clock brings that about.
func TestRefreshForgetsLostCapacity(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := newRig(t, func(o *Options) { o.Now = func() time.Time { return now } })
	r.configure(usersConfig(federation.Strict))
	full := func() int { return r.gateway.Explain(Query{Path: "/"}).Steps[0].Full }
	r.register(instance("a", "az1", "v1", "10.0.0.1:80"), instance("b", "az1", "v1", "10.0.0.2:80"))
	r.register(instance("a", "az1", "v1", "10.0.0.1:80"))
	now = now.Add(9 * time.Minute)
	r.gateway.Refresh(now)
	if got := full(); got != 200 {
		t.Errorf("full capacity %d after nine minutes, want 200", got)
	}
	now = now.Add(2 * time.Minute)
	r.gateway.Refresh(now)
	if got := full(); got != 100 {
		t.Errorf("full capacity %d after eleven minutes, want 100", got)
	}
}
