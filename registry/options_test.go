package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

func TestNewRefusesBadOptions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good := r.node("a", "az1", "east").opts
	for want, spoil := range map[string]func(*Options){
		"client, clock and sink": func(o *Options) { o.Sink = nil },
		"prefix":                 func(o *Options) { o.Prefix = "//" },
		"edge id":                func(o *Options) { o.Self.ID = "a/b" },
		"and zone":               func(o *Options) { o.Self.Zone = "" },
		"incarnation":            func(o *Options) { o.Self.Incarnation = 0 },
		"whole seconds":          func(o *Options) { o.Timing.EdgeLease = 1500 * time.Millisecond },
		"orphan TTL":             func(o *Options) { o.OrphanTTL = -1 },
		"write":                  func(o *Options) { o.Timing.Write = -1 },
	} {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	reg := prometheus.NewRegistry()
	a := r.start("a", "az1", "east", func(o *Options) { o.Registerer = reg })
	a.put(instance("u1", "az1"))
	r.write(r.keys.instance(key("bad")), "nonsense")
	r.agree(a)
	got := make(map[string]float64)
	eventually(t, "fresh", func() bool {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			got[f.GetName()] = f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
		}
		return got["grayfed_registry_stale"] == 0
	})
	for name, want := range map[string]float64{
		"grayfed_registry_instances": 1, "grayfed_registry_owned_instances": 1, "grayfed_registry_malformed_values_total": 1,
		"grayfed_registry_registered": 1, "grayfed_registry_queued_writes": 0,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, there, want)
		}
	}
	if got["grayfed_registry_revision"] < float64(a.get("u1").Revision) {
		t.Errorf("revision %v", got["grayfed_registry_revision"])
	}
	taken := a.opts
	if _, err := New(taken); err == nil {
		t.Error("two registries took one registerer")
	}
}

func TestKeyspace(t *testing.T) {
	t.Parallel()
	k := newKeyspace("/grayfed/")
	if got := k.instance(federation.Key{Service: "s", ID: "i"}); got != "/grayfed/v1/instances/s/i" {
		t.Errorf("instance at %s", got)
	}
	for _, name := range []string{k.edge("a"), k.instance(key("z"))} {
		if name < k.edges || name >= k.end {
			t.Errorf("%s is outside of what is watched, %s to %s", name, k.edges, k.end)
		}
	}
	if name := k.auditSlot("a", 7); name >= k.edges && name < k.end {
		t.Errorf("the audit at %s is watched", name)
	}
	for _, name := range []string{"/grayfed/v1/instances/s", "/grayfed/v1/instances/s/i/j", "/grayfed/v1/instances//i", "/other/v1/instances/s/i"} {
		if got, err := k.instanceKey(name); err == nil {
			t.Errorf("%s names %s", name, got)
		}
	}
}
