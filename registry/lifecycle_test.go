package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestAnInstanceLives(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az2", "east")

	first := a.put(instance("u1", "az1"))
	if first.Owner != "a" || first.Stamp.Origin != "a" || first.Stamp.Lamport == 0 || first.Revision == 0 {
		t.Errorf("stored %+v", first)
	}
	r.agree(a, b)
	if got := b.get("u1"); got.Owner != "a" || got.Version != "v1" || got.Weight != 100 {
		t.Errorf("the other edge has %+v", got)
	}

	next := instance("u1", "az1")
	next.Version = "v2"
	second := a.put(next)
	if second.Stamp.Compare(first.Stamp) <= 0 || second.Revision <= first.Revision {
		t.Errorf("the second write is %s at %d, the first %s at %d", second.Stamp, second.Revision, first.Stamp, first.Revision)
	}

	drained, err := b.Drain(ctx, key("u1"), PutOptions{Actor: "ops"})
	if err != nil || !drained.Draining || drained.Owner != "a" || drained.Version != "v2" || drained.Stamp.Origin != "b" {
		t.Errorf("drained %+v, %v", drained, err)
	}
	again, err := b.Drain(ctx, key("u1"), PutOptions{})
	if err != nil || again.Revision != drained.Revision {
		t.Errorf("drained again at %d, %v; first at %d", again.Revision, err, drained.Revision)
	}
	r.agree(a, b)

	if err := b.Deregister(ctx, key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r.agree(a, b)
	if instances, tombs, _ := r.stored(); len(instances) != 0 || tombs[key("u1")] == nil || tombs[key("u1")].Owner != "a" {
		t.Errorf("etcd holds %v, %+v", instances, tombs)
	}
	if err := a.Deregister(ctx, key("u1"), PutOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("deregistered twice: %v", err)
	}
	if _, err := a.Drain(ctx, key("u1"), PutOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("drained what is gone: %v", err)
	}
	if err := a.Heartbeat(ctx, key("u1")); !errors.Is(err, ErrNotFound) {
		t.Errorf("heartbeat of what is gone: %v", err)
	}
	want := []EventKind{EventRegistered, EventUpdated, EventDraining, EventDeregistered}
	for _, n := range []*node{a, b} {
		eventually(t, "all told", func() bool { return len(n.events.of("u1")) >= len(want) })
		for i, e := range n.events.of("u1") {
			if i >= len(want) || e.Kind != want[i] || e.Revision == 0 || e.Stamp.IsZero() {
				t.Errorf("%s was told %+v as number %d", n.self, e, i)
			}
		}
	}

	back := a.put(instance("u1", "az1"))
	if back.Stamp.Compare(drained.Stamp) <= 0 {
		t.Errorf("it came back at %s, not after the tombstone", back.Stamp)
	}
	r.agree(a, b)
}

func TestIllFormedInstanceIsNotStored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	bad := instance("u1", "az1")
	bad.Address = "example.com:80"
	_, err := a.Register(context.Background(), bad, PutOptions{})
	if wrong, ok := errors.AsType[federation.FieldErrors](err); !ok || wrong[0].Field != "address" {
		t.Errorf("got %v", err)
	}
	if instances, tombs, _ := r.stored(); len(instances)+len(tombs) != 0 {
		t.Errorf("etcd holds %v, %v", instances, tombs)
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	if _, err := a.Register(ctx, instance("u1", "az1"), PutOptions{IfMatch: 7}); !errors.Is(err, ErrPreconditionFailed) {
		t.Errorf("nothing matched revision 7: %v", err)
	}
	old := a.put(instance("u1", "az1"))
	now, err := a.Register(ctx, instance("u1", "az1"), PutOptions{IfMatch: old.Revision})
	if err != nil {
		t.Fatal(err)
	}
	stale := PutOptions{IfMatch: old.Revision}
	if _, err := a.Register(ctx, instance("u1", "az1"), stale); !errors.Is(err, ErrPreconditionFailed) {
		t.Errorf("register: %v", err)
	}
	if _, err := a.Drain(ctx, key("u1"), stale); !errors.Is(err, ErrPreconditionFailed) {
		t.Errorf("drain: %v", err)
	}
	if err := a.Deregister(ctx, key("u1"), stale); !errors.Is(err, ErrPreconditionFailed) {
		t.Errorf("deregister: %v", err)
	}
	if got, _, _ := r.stored(); got[key("u1")].Revision != now.Revision {
		t.Errorf("etcd is at %d, the write that matched at %d", got[key("u1")].Revision, now.Revision)
	}
	if _, err := a.Drain(ctx, key("u1"), PutOptions{IfMatch: now.Revision}); err != nil {
		t.Errorf("drain that matches: %v", err)
	}
}

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az2", "east")
	for _, n := range []*node{a, b} {
		n.SetForward(func(_ context.Context, owner string, k federation.Key) error {
			map[string]*node{"a": a, "b": b}[owner].HeartbeatFromPeer(k)
			return nil
		})
	}
	const ttl = 3 * time.Second
	for id, ttl := range map[string]time.Duration{"silent": time.Second, "own": ttl, "passed-on": ttl, "static": 0} {
		i := instance(id, "az1")
		i.TTL = federation.Duration(ttl)
		a.put(i)
	}
	registered := time.Now()
	r.agree(a, b)
	beats := time.NewTicker(100 * time.Millisecond)
	defer beats.Stop()
	eventually(t, "the silent one expires and the others live for longer than their TTL", func() bool {
		select {
		case <-beats.C:
			if err := a.Heartbeat(ctx, key("own")); err != nil {
				t.Fatal(err)
			}
			if err := b.Heartbeat(ctx, key("passed-on")); err != nil {
				t.Fatal(err)
			}
		default:
		}
		return a.get("silent") == nil && time.Since(registered) > ttl+ttl/4
	})
	r.agree(a, b)
	for _, id := range []string{"own", "passed-on", "static"} {
		if a.get(id) == nil {
			t.Errorf("%s did not live on", id)
		}
	}
	eventually(t, "both are told", func() bool {
		return len(a.events.of("silent", EventExpired)) == 1 && len(b.events.of("silent", EventExpired)) == 1
	})
	if s := a.Status(); s.Expired != 1 || s.Owned != 3 {
		t.Errorf("status %+v", s)
	}
	if s := b.Status(); s.Forwarded == 0 || s.Owned != 0 {
		t.Errorf("status %+v", s)
	}
	b.HeartbeatFromPeer(key("own"))
	if s := b.Status(); s.StrayHeartbeats != 1 {
		t.Errorf("a heartbeat for somebody else's instance counted as %d", s.StrayHeartbeats)
	}
}

func TestLiveIDOfAnotherOwnerIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east", noProbe)
	stored := a.put(instance("u1", "az1"))
	_, err := b.Register(ctx, instance("u1", "az1"), PutOptions{})
	if owned, ok := errors.AsType[*OwnedError](err); !ok || owned.Owner != "a" {
		t.Fatalf("got %v", err)
	}
	if got, _, _ := r.stored(); got[key("u1")].Revision != stored.Revision {
		t.Error("the refused write was stored")
	}
	a.kill()
	eventually(t, "the owner's lease ends", func() bool { return b.edge("a") == nil })
	moved := b.put(instance("u1", "az1"))
	if moved.Owner != "b" || moved.Stamp.Compare(stored.Stamp) <= 0 {
		t.Errorf("moved as %+v", moved)
	}
	eventually(t, "the move is told", func() bool {
		e := b.events.of("u1", EventAdopted)
		return len(e) == 1 && e[0].Previous == "a" && e[0].Owner == "b"
	})
}

// Gossip knows of a death before the lease ends.
func TestInstanceMovesWhenItsOwnerIsDeadByGossip(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	longer := func(o *Options) { o.Timing.EdgeLease = time.Minute }
	a, b := r.start("a", "az1", "east", longer), r.start("b", "az1", "east", mortal)
	a.put(instance("u1", "az1"))
	a.put(instance("u2", "az1"))
	r.agree(a, b)
	a.kill()
	alive := true
	b.SetEdgeAlive(func(string) bool { return alive })
	ctx := context.Background()
	if _, err := b.Register(ctx, instance("u1", "az1"), PutOptions{}); err == nil {
		t.Error("moved away from an owner that lives by lease and gossip")
	}
	if err := b.Heartbeat(ctx, key("u2")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("heartbeat without a way to the owner: %v", err)
	}
	alive = false
	// Gossip counts once the edge was seen for longer than a lease.
	eventually(t, "moved by registration", func() bool {
		_, err := b.Register(ctx, instance("u1", "az1"), PutOptions{})
		return err == nil
	})
	if err := b.Heartbeat(ctx, key("u2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both moved", func() bool { return b.ownedBy("u1", "b")() && b.ownedBy("u2", "b")() })
	if b.edge("a") == nil {
		t.Error("the lease ended, so this tested nothing")
	}
}

// An edge that has not yet seen that the owner is back must not take its
// instances: the transaction says so, not the view.
func TestOwnerThatIsBackKeepsItsInstances(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az1", "east")
	forwarded := 0
	b.SetForward(func(_ context.Context, owner string, _ federation.Key) error {
		if owner == "a" {
			forwarded++
		}
		return nil
	})
	a.put(instance("u1", "az1"))
	r.agree(a, b)
	b.mu.Lock()
	delete(b.view.edges, "a")
	b.mu.Unlock()
	_, err := b.Register(ctx, instance("u1", "az1"), PutOptions{})
	if owned, ok := errors.AsType[*OwnedError](err); !ok || owned.Owner != "a" {
		t.Errorf("register: %v", err)
	}
	if err := b.Heartbeat(ctx, key("u1")); err != nil || forwarded != 1 {
		t.Errorf("heartbeat: %v, passed on %d times", err, forwarded)
	}
	if err := b.adopt(ctx, b.get("u1"), "test"); err == nil {
		t.Error("adopted")
	}
	if stored, _, _ := r.stored(); stored[key("u1")].Owner != "a" {
		t.Errorf("etcd holds %+v", stored[key("u1")])
	}
}

// A heartbeat that comes while a lapsed instance is being removed saves it, and
// only the owner removes it.
func TestExpireLooksAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az1", "east")
	a.put(instance("u1", "az1"))
	r.agree(a, b)
	for _, n := range []*node{a, b} {
		n.expire(context.Background(), n.get("u1"))
		if stored, _, _ := r.stored(); stored[key("u1")] == nil {
			t.Fatalf("%s removed an instance whose time is not over", n.self)
		}
	}
}

func noProbe(o *Options) { o.Probe = nil }
