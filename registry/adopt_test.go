package registry

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// patient is for edges that must not take their turn within a test.
func patient(o *Options) { o.Timing.AdoptTier = time.Minute }

func TestSiblingOfTheZoneAdopts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a1, a2 := r.start("a1", "az1", "east", mortal), r.start("a2", "az1", "east")
	b, c := r.start("b", "az2", "east", patient), r.start("c", "az3", "south")
	const count = 40
	for n := range count {
		a1.put(instance(fmt.Sprintf("u%d", n), "az1"))
	}
	r.agree(a2, b, c)
	a1.kill()
	living := []*node{a2, b, c}
	for n := range count {
		id := fmt.Sprintf("u%d", n)
		for _, at := range living {
			eventually(t, id+" is adopted", at.ownedBy(id, "a2"))
			for _, e := range at.events.of(id) {
				switch e.Kind {
				case EventRegistered:
				case EventAdopted:
					if e.Previous != "a1" || e.Owner != "a2" {
						t.Errorf("%s was told %+v", at.self, e)
					}
				default:
					t.Errorf("%s was told %+v", at.self, e)
				}
			}
		}
	}
	r.agree(living...)
	eventually(t, "all are counted", func() bool { s := a2.Status(); return s.Adopted == count && s.Owned == count })
	// Adoption says nothing else about an instance: nobody lost a write.
	if lost := b.events.of("u0", EventSuperseded); len(lost) != 0 {
		t.Errorf("told %+v", lost)
	}
}

func TestEdgeOfTheRegionAdoptsWhereTheZoneHasNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b, c := r.start("a", "az1", "east", mortal), r.start("b", "az2", "east", patient), r.start("c", "az3", "south", patient)
	a.put(instance("u1", "az1"))
	r.agree(b, c)
	a.kill()
	eventually(t, "adopted", c.ownedBy("u1", "b"))
	r.agree(b, c)
}

// The zone's edge lives and cannot reach the instance; the region's can.
func TestEdgeOfTheRegionAdoptsWhatTheZoneCannotReach(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	unreached := func(o *Options) { o.Probe = func(context.Context, *federation.Instance) bool { return false } }
	a1 := r.start("a1", "az1", "east", mortal)
	a2, b := r.start("a2", "az1", "east", unreached), r.start("b", "az2", "east")
	a1.put(instance("u1", "az1"))
	r.agree(a2, b)
	a1.kill()
	eventually(t, "adopted", a2.ownedBy("u1", "b"))
}

func TestOrphanStaysUntilAnEdgeOfItsRegionComes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, c := r.start("a", "az1", "east", mortal), r.start("c", "az3", "south")
	a.put(instance("u1", "az1"))
	a.put(instance("u2", "az1"))
	r.agree(c)
	a.kill()
	for _, id := range []string{"u1", "u2"} {
		eventually(t, "orphaned", func() bool { i := c.get(id); return i != nil && !i.OrphanedAt.IsZero() && i.Owner == "a" })
	}
	if e := c.events.of("u1", EventOrphaned); len(e) != 1 {
		t.Errorf("told %+v", e)
	}
	if s := c.Status(); s.Orphans != 2 || s.Owned != 0 || s.Adopted != 0 {
		t.Errorf("status %+v", s)
	}
	// A heartbeat is adopted by any edge.
	if err := c.Heartbeat(context.Background(), key("u2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "adopted by heartbeat", c.ownedBy("u2", "c"))
	b := r.start("b", "az2", "east")
	eventually(t, "adopted by probe", c.ownedBy("u1", "b"))
	r.agree(b, c)
	if i := c.get("u2"); i.Owner != "c" {
		t.Errorf("%s took away what c owned", i.Owner)
	}
}

func TestOrphanEndsAfterItsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const ttl = time.Second
	a, c := r.start("a", "az1", "east", mortal), r.start("c", "az3", "south", func(o *Options) { o.OrphanTTL = ttl })
	a.put(instance("u1", "az1"))
	r.agree(c)
	a.kill()
	eventually(t, "removed", func() bool { return c.get("u1") == nil })
	orphaned, ended := c.events.of("u1", EventOrphaned), c.events.of("u1", EventExpiredOrphan)
	if len(orphaned) != 1 || len(ended) != 1 {
		t.Fatalf("told %+v and %+v", orphaned, ended)
	}
	if _, tombs, _ := r.stored(); tombs[key("u1")] == nil || tombs[key("u1")].Reason != EventExpiredOrphan {
		t.Errorf("etcd holds %+v", tombs[key("u1")])
	}
	r.agree(c)
}

// TestOrphanIsAgedByTheWallClock: all edges agree on it, whoever marked it.
func TestOrphanIsAgedByTheWallClock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var ahead atomic.Int64
	a, c := r.start("a", "az1", "east", mortal), r.start("c", "az3", "south", func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	a.put(instance("u1", "az1"))
	r.agree(c)
	a.kill()
	eventually(t, "orphaned", func() bool { i := c.get("u1"); return i != nil && !i.OrphanedAt.IsZero() })
	ahead.Store(int64(25 * time.Hour))
	eventually(t, "removed", func() bool { return c.get("u1") == nil })
}

func TestProbeThatFailsPreventsAdoption(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var reached atomic.Bool
	var probes atomic.Int64
	a := r.start("a", "az1", "east", mortal)
	b := r.start("b", "az1", "east", func(o *Options) {
		o.Probe = func(_ context.Context, i *federation.Instance) bool {
			if i.Key != key("u1") || i.Address == "" {
				t.Errorf("asked about %+v", i)
			}
			probes.Add(1)
			return reached.Load()
		}
	})
	a.put(instance("u1", "az1"))
	r.agree(b)
	a.kill()
	eventually(t, "orphaned", func() bool { i := b.get("u1"); return i != nil && !i.OrphanedAt.IsZero() })
	before := probes.Load()
	if before == 0 {
		t.Error("orphaned without a probe")
	}
	eventually(t, "probed again and again", func() bool { return probes.Load() > before+1 })
	if b.Status().Adopted != 0 {
		t.Error("adopted without being reached")
	}
	reached.Store(true)
	eventually(t, "adopted", b.ownedBy("u1", "b"))
}

func TestNewOwnerGrantsOneFullTTL(t *testing.T) {
	t.Parallel()
	const ttl = 2500 * time.Millisecond
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east")
	i := instance("u1", "az1")
	i.TTL = federation.Duration(ttl)
	a.put(i)
	i.Key = key("u2")
	a.put(i)
	r.agree(b)
	a.kill()
	// Its lease takes most of the TTL to end, so that what is left of it would
	// not do.
	eventually(t, "adopted", func() bool { return b.ownedBy("u1", "b")() && b.ownedBy("u2", "b")() })
	beats := time.NewTicker(50 * time.Millisecond)
	defer beats.Stop()
	eventually(t, "expired", func() bool {
		select {
		case <-beats.C:
			if err := b.Heartbeat(ctx, key("u2")); err != nil {
				t.Fatal(err)
			}
		default:
		}
		return b.get("u1") == nil
	})
	adopted, expired := b.events.of("u1", EventAdopted), b.events.of("u1", EventExpired)
	if len(adopted) != 1 || len(expired) != 1 {
		t.Fatalf("told %+v", b.events.of("u1"))
	}
	// What was left of the old one is next to nothing, since the lease had to
	// end first.
	if lived := expired[0].Time.Sub(adopted[0].Time); lived < ttl/2 {
		t.Errorf("it was given %s of %s", lived, ttl)
	}
	if b.get("u2") == nil {
		t.Error("heartbeats at the new owner did not count")
	}
}

// An edge that ends on purpose ends its lease, so nobody waits for it.
func TestGoodbyeHandsOverAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east", func(o *Options) { o.Timing.EdgeLease = 10 * time.Minute })
	b := r.start("b", "az1", "east")
	a.put(instance("u1", "az1"))
	r.agree(b)
	a.stop()
	if a.err != nil {
		t.Errorf("run: %v", a.err)
	}
	eventually(t, "adopted", b.ownedBy("u1", "b"))
}

func TestDuplicateEdgeIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start("a", "az1", "east", mortal)
	first.put(instance("u1", "az1"))
	second := r.node("a", "az2", "east", func(o *Options) { o.Lives = []uint64{o.Self.Incarnation - 1e6} })
	second.run()
	<-second.done
	if !errors.Is(second.err, ErrDuplicateEdge) {
		t.Fatalf("the second edge ended with %v", second.err)
	}
	if !first.Status().Registered || first.edge("a").Zone != "az1" {
		t.Error("the first edge suffered")
	}
	r.agree(first)
}

func TestRestartedEdgeTakesItsInstancesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slow := func(o *Options) { o.Timing.AdoptGrace = time.Minute }
	a, b := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east", slow)
	a.put(instance("u1", "az1"))
	r.agree(b)
	a.kill()
	again := r.start("a", "az1", "east") // its own lease is still there and has to end
	if s := again.Status(); s.Owned != 1 {
		t.Errorf("status %+v", s)
	}
	if err := again.Heartbeat(context.Background(), key("u1")); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if e := b.events.of("u1"); len(e) != 1 {
		t.Errorf("the restart showed as %+v", e)
	}
}

// An edge that knows that its earlier life has ended does not wait for the lease
// of that one: this one would outlast the test.
func TestRestartedEdgeReplacesTheLeaseOfItsEarlierLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east", func(o *Options) { o.Timing.EdgeLease = 10 * time.Minute })
	b := r.start("b", "az1", "east")
	a.put(instance("u1", "az1"))
	r.agree(b)
	a.kill()
	life := a.opts.Self.Incarnation
	again := r.start("a", "az1", "east", func(o *Options) { o.Lives = []uint64{life - 1, life} })
	if s := again.Status(); s.Owned != 1 {
		t.Errorf("status %+v", s)
	}
	eventually(t, "its new life is known", func() bool { e := b.edge("a"); return e != nil && e.Incarnation > life })
	if e := b.events.of("u1"); len(e) != 1 {
		t.Errorf("the restart showed as %+v", e)
	}
}

// A lease is one for the whole life of an edge, and its key hangs on it.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east", func(o *Options) { o.Timing.EdgeLease = 5 * time.Second })
	state := func() (clientv3.LeaseID, time.Time) {
		a.lease.mu.Lock()
		defer a.lease.mu.Unlock()
		return a.lease.id, a.lease.until
	}
	id, first := state()
	eventually(t, "renewed for longer than a lease", func() bool {
		_, until := state()
		return until.Sub(first) > a.timing.EdgeLease
	})
	if now, _ := state(); now != id {
		t.Errorf("the lease was %x and is %x", id, now)
	}
	got, err := r.raw.Get(context.Background(), r.keys.edge("a"))
	if err != nil || got.Kvs[0].Lease != int64(id) || got.Kvs[0].Version != 1 {
		t.Errorf("its key is %+v, %v", got.Kvs[0], err)
	}
}

// An edge that loses its lease without having died gets a new one.
func TestLostLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az2", "east")
	got, err := r.raw.Get(ctx, r.keys.edge("a"))
	if err != nil {
		t.Fatal(err)
	}
	before := got.Kvs[0].Lease
	if _, err := r.raw.Revoke(ctx, clientv3.LeaseID(before)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new lease", func() bool {
		got, err := r.raw.Get(ctx, r.keys.edge("a"))
		return err == nil && len(got.Kvs) == 1 && got.Kvs[0].Lease != before
	})
	a.put(instance("u1", "az1"))
	r.agree(a, b)
	if b.edge("a") == nil {
		t.Error("the edge is gone for others")
	}
}
