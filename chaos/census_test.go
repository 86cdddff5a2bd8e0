package chaos

import (
	"testing"

	"github.com/grayfed/grayfed/edge/api"
)

// TestSignsAreAboutZones, by the names that the target has for them.
func TestSignsAreAboutZones(t *testing.T) {
	s := newSite(t, "az1", "az2")
	who, err := takeCensus(t.Context(), s.target)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		event  api.Event
		by, of string
	}{
		{api.Event{Type: api.EventEdge, Edge: "az1-edge", Status: "dead"}, "gossip", "az1"},
		{api.Event{Type: api.EventEdge, Edge: "az1-edge", Status: "alive"}, "", "az1"},
		{api.Event{Type: api.EventEdge, Edge: "az9-edge", Status: "dead"}, "gossip", "dc-az9"},
		{api.Event{Type: api.EventEdge, Edge: "stranger", Status: "dead"}, "gossip", ""},
		{api.Event{Type: api.EventFailover, Edge: "az1-edge", Zone: "dc-az1", Status: "out"}, "failover", "az1"},
		{api.Event{Type: api.EventZoneDemoted, Zone: "dc-az1"}, "requests", "az1"},
		{api.Event{Type: api.EventZoneRestored, Zone: "dc-az1"}, "", "az1"},
		{api.Event{Type: api.EventInstanceEjected, Service: "users", Instance: "i2"}, "health", "az2"},
		{api.Event{Type: api.EventInstanceEjected, Service: "crowd", Instance: "i2"}, "health", ""},
		{api.Event{Type: api.EventInstanceExpired, Service: "users", Instance: "i1"}, "registry", "az1"},
		{api.Event{Type: api.EventDocumentsRefused}, "configuration", "az2"},
	} {
		by, _ := sign(&c.event)
		if of := who.about(&c.event, "az2"); by != c.by || of != c.of {
			t.Errorf("%+v: by %q about %q, want %q and %q", c.event, by, of, c.by, c.of)
		}
	}
}
