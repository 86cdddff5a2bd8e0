package consul

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

func TestEntryFollowsDecisions(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	// Nobody else takes a port of the cluster's address meanwhile.
	address := strings.TrimSuffix(strings.TrimPrefix(cluster.Address(0), "http://"), ":8500") + ":8081"
	answer := func() *http.Server {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		return server
	}
	alive := answer()
	entry := entryOf("edge-1", failover.Primary)
	a := start(t, Options{
		Address: cluster.Address(0), Edge: "edge-1", Entry: entry, CheckURL: "http://" + address,
		Meta: map[string]string{"release": "v7"},
	})

	// Nothing was decided: it is there, and out.
	first := a.sees("edge-1", 50, false)
	if first.Role != failover.Primary || first.Zone != "az1" || first.Port != 8081 || !slices.Equal(first.Addresses, entry.Addresses) {
		t.Fatalf("published %+v, want %+v", first.Entry, entry)
	}
	client := cluster.Client(0)
	if got := service(t, client, "grayfed-gateway-edge-1"); got.Service.Meta["release"] != "v7" ||
		!slices.Equal(got.Service.Tags, []string{"az1", "primary"}) || got.Service.Address != "203.0.113.5" {
		t.Fatalf("Consul holds %+v", got.Service)
	}

	for _, d := range []failover.Decision{
		{In: true, Weight: 30, Reason: "serving"},
		{In: true, Weight: 60, Reason: "serving"},
		{In: false, Weight: 60, Reason: "draining"},
		{In: true, Weight: 5, Reason: "climbing"},
		{In: false, Weight: 7, Reason: "draining"},
		{In: true, Weight: 8, Reason: "serving"},
	} {
		a.Set(d)
		a.sees("edge-1", d.Weight, d.In)
	}

	// Its weight is brought into what Consul takes.
	a.Set(failover.Decision{In: true, Weight: 0})
	a.sees("edge-1", 1, true)
	a.Set(failover.Decision{In: true, Weight: failover.MaxWeight + 1})
	a.sees("edge-1", failover.MaxWeight, true)
	if s := a.Status(); !s.Registered || !s.Leader || s.Error != "" || time.Since(s.Confirmed) > LeaderFor {
		t.Errorf("status is %+v", s)
	}
	if err := a.Run(t.Context()); !errors.Is(err, errStarted) {
		t.Errorf("a second Run: %v, want %v", err, errStarted)
	}

	// What an operator has taken out stays out, whatever is decided.
	if err := client.Agent().EnableServiceMaintenance("grayfed-gateway-edge-1", "by hand"); err != nil {
		t.Fatal(err)
	}
	a.sees("edge-1", failover.MaxWeight, false)
	a.Set(failover.Decision{In: true, Weight: 12})
	a.sees("edge-1", 12, false)
	if err := client.Agent().DisableServiceMaintenance("grayfed-gateway-edge-1"); err != nil {
		t.Fatal(err)
	}
	a.Set(failover.Decision{In: true, Weight: failover.MaxWeight})
	a.sees("edge-1", failover.MaxWeight, true)

	// An edge that no longer answers is out, whatever it decided; one that
	// answers again is in.
	_ = alive.Close()
	a.sees("edge-1", failover.MaxWeight, false)
	answer()
	a.sees("edge-1", failover.MaxWeight, true)

	a.stop()
	until(t, "the entry is gone", func() bool { return service(t, client, "grayfed-gateway-edge-1") == nil })
	if a.Status().Registered {
		t.Error("status says that it is registered, after Run")
	}
}

func TestEdgesLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	client := cluster.Client(0)
	a := start(t, Options{Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary)})
	// The id of one begins with that of the other.
	b := start(t, Options{Address: cluster.Address(0), Edge: "a-held", Entry: entryOf("a-held", failover.Standby)})
	b.Set(failover.Decision{In: true, Weight: 9})
	a.sees("a-held", 9, true)
	other := &api.AgentServiceRegistration{ID: "grayfed-gateway", Name: "another", Port: 1}
	if err := client.Agent().ServiceRegister(other); err != nil {
		t.Fatal(err)
	}
	before := service(t, client, "grayfed-gateway-a-held")

	for weight := 1; weight < 4; weight++ {
		a.Set(failover.Decision{In: weight%2 == 1, Weight: weight})
		b.sees("a", weight, weight%2 == 1)
	}
	a.stop()
	b.missing("a")

	b.confirmed()
	after := service(t, client, "grayfed-gateway-a-held")
	if after.Service.ModifyIndex != before.Service.ModifyIndex {
		t.Errorf("another edge's service was written: index %d, then %d", before.Service.ModifyIndex, after.Service.ModifyIndex)
	}
	for i, check := range after.Checks {
		if check.ModifyIndex != before.Checks[i].ModifyIndex {
			t.Errorf("another edge's check %s was written", check.CheckID)
		}
	}
	if services, err := client.Agent().Services(); err != nil || services["grayfed-gateway"] == nil {
		t.Errorf("another service is gone: %v, %v", services, err)
	}
}

func TestAgentComesAndGoes(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	cluster.Kill(0)

	// Without an agent nothing is known, and Run goes on.
	a := start(t, Options{Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary)})
	a.Set(failover.Decision{In: true, Weight: 40})
	until(t, "both the failures are told", func() bool {
		s := a.Status()
		return strings.Contains(s.Error, "register service") && strings.Contains(s.Error, "read service")
	})
	if s := a.Status(); s.Registered || s.Leader || !s.Confirmed.IsZero() {
		t.Fatalf("status is %+v without an agent", s)
	}
	cluster.Restart(0)
	a.sees("a", 40, true)

	// One that lost its data is told all again.
	cluster.Kill(0)
	cluster.Wipe(0)
	cluster.Restart(0)
	cluster.WaitLeader(0)
	a.confirmed()
	a.sees("a", 40, true)

	// While it is frozen, deciding goes on; it is told the last of it.
	cluster.Freeze(0)
	for weight := 1; weight <= 1000; weight++ {
		a.Set(failover.Decision{In: true, Weight: weight})
	}
	until(t, "the view is confirmed no more", func() bool { return !a.Status().Leader })
	cluster.Thaw(0)
	a.sees("a", 1000, true)
	until(t, "all is well", func() bool { s := a.Status(); return s.Leader && s.Registered && s.Error == "" })

	// The end does not wait for an agent that is gone.
	cluster.Kill(0)
	a.stop()
}

// Five servers survive two; without a majority an agent still answers, but
// nothing that it says counts.
func TestQuorum(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 5, consultest.Options{})
	a := start(t, Options{Address: cluster.Address(4), Edge: "a", Entry: entryOf("a", failover.Standby)})
	a.Set(failover.Decision{In: true, Weight: 10})
	a.sees("a", 10, true)

	cluster.Kill(0)
	cluster.Kill(1)
	a.confirmed()
	a.Set(failover.Decision{In: true, Weight: 20})
	a.sees("a", 20, true)

	cluster.Kill(2)
	until(t, "no leader is known", func() bool { return !a.Status().Leader })
	last := a.last.Load().Confirmed
	stale, meta, err := cluster.Client(4).Health().Service(defaultService, "", false, &api.QueryOptions{AllowStale: true})
	if err != nil || len(stale) != 1 {
		t.Fatalf("an agent without a leader has nothing to say, so the test shows nothing: %v, %v", stale, err)
	}
	if got := a.last.Load(); !got.Confirmed.Equal(last) || len(got.Entries) != 1 {
		t.Errorf("without a leader (known: %v) the view became %+v", meta.KnownLeader, got)
	}
	// The agent keeps the entry, and takes what is decided meanwhile.
	a.Set(failover.Decision{In: true, Weight: 30})
	until(t, "the agent holds what was decided without a leader", func() bool {
		held, _, err := cluster.Client(4).Agent().Service("grayfed-gateway-a", nil)
		return err == nil && held.Weights.Passing == 30
	})
	if !a.Status().Registered {
		t.Errorf("the entry is not registered without a leader: %+v", a.Status())
	}

	cluster.Restart(2)
	a.confirmed()
	a.sees("a", 30, true)
}

func TestRunEndsAtOnce(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	p, err := New(Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
}
