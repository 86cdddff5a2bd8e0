package registry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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
	a, b := r.start("a", "az1", "east"), r.start("b", "az1", "east", noProbe)
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
	a, b := r.start("a", "az1", "east", longer), r.start("b", "az1", "east")
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

func TestUnknownFieldsOutliveRewrites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	b := r.start("b", "az1", "east")
	a.put(instance("u1", "az1"))
	name := r.keys.instance(key("u1"))
	got, err := r.raw.Get(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	r.write(name, strings.Replace(string(got.Kvs[0].Value), `{"schema":1`, `{"schema":1,"mesh":{"mtls":true}`, 1))
	r.agree(a)

	a.put(instance("u1", "az1"))
	if _, err := b.Drain(context.Background(), key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.kill()
	eventually(t, "adopted", b.ownedBy("u1", "b"))
	stored, _, _ := r.stored()
	if got := string(stored[key("u1")].Unknown["mesh"]); got != `{"mtls":true}` {
		t.Errorf("after registration, drain and adoption the unknown field is %q", got)
	}
}

func TestNewerSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	const newer = `{"schema":2,"tombstone":{"everything":"different"}}`
	r.write(r.keys.instance(key("u1")), newer)
	_, err := a.Register(context.Background(), instance("u1", "az1"), PutOptions{})
	if !errors.Is(err, federation.ErrSchema) {
		t.Errorf("register over it: %v", err)
	}
	got, err := r.raw.Get(context.Background(), r.keys.instance(key("u1")))
	if err != nil || string(got.Kvs[0].Value) != newer {
		t.Errorf("etcd holds %s, %v", got.Kvs[0].Value, err)
	}
}

func TestMalformedValuesAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := map[string]string{
		r.keys.instance(key("not-json")):             `{"schema":1,`,
		r.keys.instance(key("no-schema")):            `{}`,
		r.keys.instance(key("of-another")):           encoded(t, instance("x", "az1")),
		r.keys.instance(key("no-owner")):             strings.Replace(encoded(t, instance("no-owner", "az1")), `"owner":"x"`, `"owner":""`, 1),
		r.keys.instances + "no-slash":                `{}`,
		r.keys.instances + "bad service/id":          `{}`,
		r.keys.edges + "ghost":                       `nonsense`,
		r.keys.instance(key("bad-tomb")):             `{"schema":1,"tombstone":{"service":"user-service","id":"bad-tomb"}}`,
		r.keys.instance(key("newer")):                `{"schema":99}`,
		r.keys.instance(key("tombstone-in-a-field")): strings.Replace(encoded(t, instance("tombstone-in-a-field", "az1")), `{"schema":1`, `{"schema":1,"x":"\"tombstone\""`, 1),
	}
	const good = 1 // the last one
	put := func() {
		for name, value := range bad {
			r.write(name, value)
		}
	}
	put()
	listed := r.start("a", "az1", "east")
	if got := listed.Status().Malformed; got != uint64(len(bad)-good) {
		t.Errorf("the list counted %d, want %d", got, len(bad)-good)
	}
	if listed.get("tombstone-in-a-field") == nil {
		t.Error("a good value was skipped")
	}
	put()
	eventually(t, "the watch counts them too", func() bool { return listed.Status().Malformed == 2*uint64(len(bad)-good) })
	listed.put(instance("u1", "az1"))
	eventually(t, "life goes on", listed.has("u1"))

	// What was last read stands until the key is readable or gone.
	r.write(r.keys.instance(key("u1")), "nonsense")
	eventually(t, "noticed", func() bool { return listed.Status().Malformed == 2*uint64(len(bad)-good)+1 })
	if listed.get("u1") == nil {
		t.Error("an unreadable value took the instance away")
	}
	if _, err := r.raw.Delete(context.Background(), r.keys.instance(key("u1"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return listed.get("u1") == nil })
}

func encoded(t *testing.T, i federation.Instance) string {
	t.Helper()
	i.Owner, i.Stamp = "x", federation.Stamp{Lamport: 1, Origin: "x"}
	data, err := federation.EncodeInstance(&i)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryWriteLeavesAnAuditEntry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	i := instance("u1", "az1")
	stored, err := a.Register(ctx, i, PutOptions{Actor: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Drain(ctx, key("u1"), PutOptions{Actor: strings.Repeat("x", 300)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Deregister(ctx, key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	resp, err := r.raw.Get(ctx, r.keys.audit+"a/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ action, actor string }{{"register", "alice"}, {"drain", strings.Repeat("x", 256)}, {"deregister", "edge a"}}
	if len(resp.Kvs) != len(want) {
		t.Fatalf("%d entries, want %d", len(resp.Kvs), len(want))
	}
	for n, kv := range resp.Kvs {
		var e AuditEntry
		if err := json.Unmarshal(kv.Value, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action != want[n].action || e.Actor != want[n].actor || e.Key != key("u1") || e.Stamp.Origin != "a" || e.At.IsZero() || e.Schema != federation.Schema {
			t.Errorf("entry %d: %+v", n, e)
		}
		if kv.Lease == 0 {
			t.Error("an entry stays for ever")
		}
		if n == 0 && (e.Stamp != stored.Stamp || kv.ModRevision != stored.Revision) {
			t.Errorf("the entry of %s at %d is %s at %d", stored.Stamp, stored.Revision, e.Stamp, kv.ModRevision)
		}
	}
}

func noProbe(o *Options) { o.Probe = nil }
