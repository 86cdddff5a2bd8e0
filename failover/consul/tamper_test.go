package consul

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

// What others do to the entry is undone, whichever way they did it.
func TestTamperedEntryIsPutRight(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	client := cluster.Client(0)
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(alive.Close)
	// Each way has a victim of its own.
	type victim struct{ id string }
	rival := func(v victim, weight int) *api.AgentService {
		held := service(t, client, v.id).Service
		held.Weights = api.AgentWeights{Passing: weight, Warning: weight}
		return held
	}
	catalog := func(s *api.AgentService) error {
		return second(client.Catalog().Register(&api.CatalogRegistration{Node: cluster.Node(0), SkipNodeUpdate: true, Service: s}, nil))
	}
	for edge, tamper := range map[string]func(victim) error{
		"weight-in-the-catalog": func(v victim) error { return catalog(rival(v, 999)) },
		"weight-at-the-agent": func(v victim) error {
			s := rival(v, 998)
			return client.Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: s.ID, Name: s.Service, Address: s.Address, Port: s.Port, Tags: s.Tags, Meta: s.Meta, Weights: &s.Weights,
			})
		},
		"addresses": func(v victim) error {
			s := rival(v, 20)
			s.Meta[metaAddresses] = "192.0.2.66"
			return catalog(s)
		},
		"state": func(v victim) error { return client.Agent().UpdateTTL(holdID(v.id), "", api.HealthPassing) },
		"state-in-the-catalog": func(v victim) error {
			// This client's own type has a field that the agent does not know.
			return second(client.Raw().Write("/v1/catalog/register", map[string]any{
				"Node": cluster.Node(0), "SkipNodeUpdate": true,
				"Check": map[string]string{"Node": cluster.Node(0), "CheckID": holdID(v.id), "ServiceID": v.id, "Status": api.HealthPassing},
			}, nil, nil))
		},
		"without-own-check":   func(v victim) error { return client.Agent().CheckDeregister(holdID(v.id)) },
		"without-HTTP-check":  func(v victim) error { return client.Agent().CheckDeregister(httpID(v.id)) },
		"gone-from-the-agent": func(v victim) error { return client.Agent().ServiceDeregister(v.id) },
		"gone-from-the-catalog": func(v victim) error {
			return second(client.Catalog().Deregister(&api.CatalogDeregistration{Node: cluster.Node(0), ServiceID: v.id}, nil))
		},
	} {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			metrics := prometheus.NewRegistry()
			a := start(t, Options{
				Address: cluster.Address(0), Edge: edge, Entry: entryOf(edge, failover.Standby),
				CheckURL: alive.URL, Registerer: metrics,
			})
			a.Set(failover.Decision{Weight: 20})
			a.sees(edge, 20, false)
			v := victim{a.id}
			before := service(t, client, v.id)
			if err := tamper(v); err != nil {
				t.Fatal(err)
			}
			want := &publication{weight: 20}
			until(t, "it is put right", func() bool {
				now := service(t, client, v.id)
				return now != nil && sum(now) > sum(before) && a.opts.holds(asHeld(now), want)
			})
			if got, err := metrics.Gather(); err != nil || len(got) != 9 {
				t.Errorf("there are %d metrics, want 9: %v", len(got), err)
			}

			// Left in peace it writes nothing more, once what was under way is
			// done.
			a.confirmed()
			a.confirmed()
			quiet, registrations := service(t, client, v.id), a.counters.registrations.Load()
			for range 4 {
				a.confirmed()
			}
			if after := service(t, client, v.id); after.Service.ModifyIndex != quiet.Service.ModifyIndex || a.counters.registrations.Load() != registrations {
				t.Error("the entry was written again for nothing")
			}
		})
	}
}

// sum grows with each write of the service or one of its checks.
func sum(f *api.ServiceEntry) uint64 {
	indexes := f.Service.ModifyIndex
	for _, c := range f.Checks {
		indexes += c.ModifyIndex
	}
	return indexes
}

func asHeld(f *api.ServiceEntry) *held {
	var h held
	s := &h.Service
	s.ID, s.Tags, s.Meta, s.Address, s.Port, s.Weights = f.Service.ID, f.Service.Tags, f.Service.Meta, f.Service.Address, f.Service.Port, f.Service.Weights
	for _, c := range f.Checks {
		h.Checks = append(h.Checks, check{c.CheckID, c.ServiceID, c.Status})
	}
	return &h
}
