package federation_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// runtime counts its closings: a leak or a double close of an endpoint's
// connections would show here.
type runtime struct{ closed int }

func (*runtime) InFlight() int64 { return 0 }
func (*runtime) Admits() bool    { return true }
func (r *runtime) Close()        { r.closed++ }

type fixture struct {
	*federation.Catalog
	made []*runtime
}

func newFixture() *fixture {
	f := &fixture{}
	f.Catalog = federation.NewCatalog(federation.CatalogOptions{
		Self: "edge-1",
		NewRuntime: func(*federation.Instance) federation.Runtime {
			r := &runtime{}
			f.made = append(f.made, r)
			return r
		},
		RecordTTL: 3 * time.Second,
	})
	return f
}

func instance(service, id, zone string, revision int64) *federation.Instance {
	i := &federation.Instance{
		Key:      federation.Key{Service: service, ID: id},
		Locality: federation.Locality{Zone: zone, Region: "east"},
		Address:  "127.0.0.1:1000",
		Weight:   100,
		Owner:    "edge-1",
		Revision: revision,
	}
	i.Fingerprint = federation.FingerprintOf(i.String(), revision, nil)
	return i
}

func put(i *federation.Instance) federation.Change {
	return federation.Change{Put: i, Key: i.Key, Revision: i.Revision}
}

func TestCatalogAnticipatesDraining(t *testing.T) {
	f := newFixture()
	f.Replace([]*federation.Instance{instance("s", "a", "az1", 5)}, 10)
	before := f.Snapshot()
	key := federation.Key{Service: "s", ID: "a"}
	drained := *before.Endpoint(key).Instance
	drained.Draining = true
	f.Anticipate(&drained)
	if e := f.Snapshot().Endpoint(key); !e.Draining || e.Usable() || before.Endpoint(key).Draining {
		t.Errorf("anticipated: %+v", e.Instance)
	}
	if now := f.Snapshot(); now.Digest != before.Digest || now.Revision != before.Revision || f.made[0].closed != 0 || len(f.made) != 1 {
		t.Error("what nobody has confirmed shows in digest, revision or runtime")
	}
	// The watch may repeat the revision that is known.
	f.Apply([]federation.Change{put(instance("s", "a", "az1", 5))}, 11)
	if !f.Snapshot().Endpoint(key).Draining {
		t.Error("a repeated event took it back")
	}
	f.Apply([]federation.Change{put(instance("s", "a", "az1", 12))}, 12)
	f.Anticipate(&drained) // of a revision that is no more
	if e := f.Snapshot().Endpoint(key); e.Draining {
		t.Errorf("a newer revision: %+v", e.Instance)
	}
	stranger := *instance("s", "b", "az1", 3)
	stranger.Draining = true
	if f.Anticipate(&stranger); f.Snapshot().Instances != 1 {
		t.Error("an instance that is not registered came up")
	}
}

func TestCatalogIgnoresWhatIsNotNewer(t *testing.T) {
	f := newFixture()
	f.Replace([]*federation.Instance{instance("s", "a", "az1", 5)}, 10)
	key := federation.Key{Service: "s", ID: "a"}

	f.Apply([]federation.Change{put(instance("s", "a", "stale", 4))}, 11)
	if zone := f.Snapshot().Endpoint(key).Zone; zone != "az1" {
		t.Errorf("an older put replaced a newer fact: zone %s", zone)
	}
	f.Apply([]federation.Change{{Key: key, Revision: 5}}, 11)
	if f.Snapshot().Endpoint(key) == nil {
		t.Error("a delete that is not newer than the put removed it")
	}
	f.Apply([]federation.Change{{Key: key, Revision: 12}}, 12)
	if f.Snapshot().Endpoint(key) != nil || f.Snapshot().Service("s") != nil {
		t.Error("a newer delete left the instance")
	}
	f.Apply([]federation.Change{put(instance("s", "a", "az1", 5))}, 12)
	if f.Snapshot().Endpoint(key) != nil {
		t.Error("a replayed put brought a deleted instance back")
	}
}

func TestCatalogSharesWhatDidNotChange(t *testing.T) {
	f := newFixture()
	var all []*federation.Instance
	for n := range 1000 {
		all = append(all, instance(fmt.Sprintf("s%d", n%50), fmt.Sprint(n), "az1", 1))
	}
	f.Replace(all, 1)
	before := f.Snapshot()
	f.Apply([]federation.Change{put(instance("s7", "new", "az1", 2))}, 2)
	after := f.Snapshot()
	for _, name := range after.Services() {
		if same := before.Service(name) == after.Service(name); same == (name == "s7") {
			t.Errorf("service %s: shared %v", name, same)
		}
	}
	if before.Endpoint(federation.Key{Service: "s7", ID: "new"}) != nil {
		t.Error("the old snapshot changed under its reader")
	}
	if after.Instances != 1001 {
		t.Errorf("counted %d instances, want 1001", after.Instances)
	}
}

func TestCatalogRuntimeFollowsTheAddress(t *testing.T) {
	f := newFixture()
	f.Replace([]*federation.Instance{instance("s", "a", "az1", 1)}, 1)
	drained := instance("s", "a", "az1", 2)
	drained.Draining = true
	f.Apply([]federation.Change{put(drained)}, 2)
	if len(f.made) != 1 || f.made[0].closed != 0 {
		t.Fatalf("a change of facts made %d runtimes, closed the first %d times", len(f.made), f.made[0].closed)
	}
	moved := instance("s", "a", "az1", 3)
	moved.Address = "127.0.0.1:2000"
	f.Apply([]federation.Change{put(moved)}, 3)
	if len(f.made) != 2 || f.made[0].closed != 1 || f.made[1].closed != 0 {
		t.Fatalf("a new address made %d runtimes, closed %d", len(f.made), f.made[0].closed)
	}
	f.Replace(nil, 4)
	if f.made[0].closed != 1 || f.made[1].closed != 1 {
		t.Errorf("a relist without it closed the runtimes %d and %d times, want once each", f.made[0].closed, f.made[1].closed)
	}
}

// TestCatalogDigestIsOfTheSet: whatever way leads to a set of facts, its digest
// and counts are those of a catalog that was given the set at once.
func TestCatalogDigestIsOfTheSet(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		f := newFixture()
		model := make(map[federation.Key]*federation.Instance)
		revision := int64(0)
		for range 200 {
			revision++
			i := instance(fmt.Sprintf("s%d", rng.IntN(4)), fmt.Sprint(rng.IntN(12)), "az1", revision)
			switch rng.IntN(10) {
			case 0:
				f.Replace(slices.Collect(maps.Values(model)), revision)
			case 1, 2, 3:
				delete(model, i.Key)
				f.Apply([]federation.Change{{Key: i.Key, Revision: revision}}, revision)
			default:
				model[i.Key] = i
				f.Apply([]federation.Change{put(i)}, revision)
			}
			if rng.IntN(4) == 0 {
				status := federation.Healthy
				if rng.IntN(2) == 0 {
					status = federation.Unhealthy
				}
				f.ObserveHealth(time.Unix(revision, 0), federation.HealthRecord{
					Subject: i.Key, Observer: "edge-1", Incarnation: 1, Seq: uint64(revision), Status: status,
				})
			}
		}
		fresh := newFixture()
		fresh.Replace(slices.Collect(maps.Values(model)), revision)
		got, want := f.Snapshot(), fresh.Snapshot()
		if got.Digest != want.Digest || got.Instances != len(model) || want.Instances != len(model) {
			t.Fatalf("seed %d: digest %s of %d, want %s of %d", seed, got.Digest, got.Instances, want.Digest, len(model))
		}
		unhealthy := 0
		for _, name := range got.Services() {
			for _, e := range got.Service(name).Endpoints {
				if e.Health.Status == federation.Unhealthy {
					unhealthy++
				}
			}
		}
		if got.Unhealthy != unhealthy {
			t.Fatalf("seed %d: says %d unhealthy, holds %d", seed, got.Unhealthy, unhealthy)
		}
	}
}

func TestLocalFactsStayOutsideTheDigestAndRelists(t *testing.T) {
	f := newFixture()
	local := instance("users.example:80", "10.0.0.1:80", "az1", 0)
	local.Fingerprint = federation.Fingerprint{}
	empty := f.Snapshot().Digest
	f.ReplaceLocal("dns/users.example:80", []*federation.Instance{local})
	f.Replace([]*federation.Instance{instance("s", "a", "az1", 1)}, 1)
	if f.Snapshot().Endpoint(local.Key) == nil {
		t.Error("a relist of the registry removed a local fact")
	}
	f.Replace(nil, 2)
	if f.Snapshot().Digest != empty {
		t.Error("a local fact is in the digest")
	}
	f.ReplaceLocal("dns/users.example:80", nil)
	if f.Snapshot().Endpoint(local.Key) != nil {
		t.Error("the source's empty answer left its fact")
	}
}

func TestSubscriptionMissesNothing(t *testing.T) {
	f := newFixture()
	sub := f.Subscribe()
	defer sub.Close()
	<-sub.C()
	if _, _, all := sub.Take(); !all {
		t.Error("a new subscription does not begin with everything")
	}
	f.Apply([]federation.Change{put(instance("s1", "a", "az1", 1))}, 1)
	f.Apply([]federation.Change{put(instance("s2", "a", "az1", 2))}, 2)
	<-sub.C()
	snap, changed, all := sub.Take()
	slices.Sort(changed)
	if all || !slices.Equal(changed, []string{"s1", "s2"}) || snap.Revision != 2 {
		t.Errorf("took %v (all %v) at revision %d", changed, all, snap.Revision)
	}
}

// An etcd that was restored, or another one, may have given the same revisions
// to other values.
func TestReplaceSeesOtherValuesOfTheSameRevision(t *testing.T) {
	f := newFixture()
	f.Replace([]*federation.Instance{instance("s", "a", "az1", 5)}, 10)
	other := instance("s", "a", "az1", 5)
	other.Address = "127.0.0.1:2000"
	other.Fingerprint = federation.FingerprintOf("another value", 5, nil)
	f.Replace([]*federation.Instance{other}, 10)
	if e := f.Snapshot().Endpoint(other.Key); e.Address != other.Address {
		t.Errorf("the endpoint is still at %s", e.Address)
	}
	if f.Snapshot().Digest != other.Fingerprint {
		t.Error("the digest is of the value before")
	}
}
