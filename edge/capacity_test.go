package edge

import (
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// TestZoneCapacity: what vanished is lost for ten minutes, other zones do not
// count, nor do upstreams that nobody registered.
func TestZoneCapacity(t *testing.T) {
	catalog := federation.NewCatalog(federation.CatalogOptions{
		Self: "az1-edge", RecordTTL: time.Hour,
		NewRuntime: func(*federation.Instance) federation.Runtime { return idle{} },
	})
	put := func(id, service, zone string, weight int, draining bool) *federation.Instance {
		return &federation.Instance{
			Key: federation.Key{Service: service, ID: id}, Locality: federation.Locality{Zone: zone},
			Address: "10.0.0.1:80", Weight: weight, Draining: draining, Owner: "az1-edge",
		}
	}
	now := time.Unix(1000, 0)
	z := newZoneCapacity("az1")
	var documents []*federation.Service
	expect := func(what string, capacity, healthy int64) {
		t.Helper()
		if c, h := z.look(catalog.Snapshot(), documents, now); c != capacity*100 || h != healthy*100 {
			t.Errorf("%s: capacity %d, healthy %d, want %d and %d", what, c, h, capacity*100, healthy*100)
		}
	}
	expect("nothing ever", 0, 0)
	revision := int64(0)
	apply := func(changes ...federation.Change) {
		revision++
		for n := range changes {
			changes[n].Revision = revision
			if put := changes[n].Put; put != nil {
				put.Revision = revision
			}
		}
		catalog.Apply(changes, revision)
	}
	a, b := put("a", "users", "az1", 100, false), put("b", "users", "az1", 50, false)
	apply(federation.Change{Put: a}, federation.Change{Put: b},
		federation.Change{Put: put("c", "users", "az2", 100, false)}, federation.Change{Put: put("d", "orders", "az1", 30, false)})
	expect("all well", 180, 180)
	catalog.ObserveHealth(now, federation.HealthRecord{
		Subject: a.Key, Observer: "az1-edge", Incarnation: 1, Seq: 1, Status: federation.Unhealthy, Received: now,
	})
	expect("one ejected", 180, 80)
	apply(federation.Change{Put: put("b", "users", "az1", 50, true)})
	expect("one drains", 180, 30)
	apply(federation.Change{Key: a.Key}, federation.Change{Key: b.Key})
	expect("two gone", 180, 30)
	now = now.Add(peakWindow)
	expect("still lost", 180, 30)
	now = now.Add(peakWindow)
	expect("forgotten", 30, 30)
	documents = []*federation.Service{{Name: "orders", ZoneCapacity: map[string]int{"az1": 60, "az2": 500}}}
	expect("declared", 60, 30)
}

// idle is a runtime that nothing goes through.
type idle struct{}

func (idle) InFlight() int64 { return 0 }
func (idle) Admits() bool    { return true }
func (idle) Close()          {}
