package registry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// brief is for writes that are to time out.
func brief(o *Options) { o.Timing.Write = 250 * time.Millisecond }

// outage is an edge that owns some instances and has lost etcd.
func outage(t *testing.T, r *rig, ids []string, edits ...func(*Options)) *node {
	t.Helper()
	a := r.start("a", "az1", "east", append([]func(*Options){brief}, edits...)...)
	for _, id := range ids {
		eventually(t, "registered", func() bool {
			_, err := a.Register(context.Background(), instance(id, "az1"), PutOptions{})
			return err == nil && a.Status().Queued == 0
		})
	}
	r.agree(a)
	a.gate.shut()
	eventually(t, "stale", func() bool { return !a.Status().StaleSince.IsZero() })
	return a
}

func versioned(id, version string) federation.Instance {
	i := instance(id, "az1")
	i.Version = version
	return i
}

func TestWritesWaitForEtcd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := outage(t, r, []string{"u1", "u2", "u3", "u4"})
	if a.get("u1") == nil || a.catalog.Snapshot().Instances != 4 {
		t.Error("the last snapshot is gone")
	}
	if err := a.Heartbeat(ctx, key("u1")); err != nil {
		t.Errorf("heartbeat: %v", err)
	}

	same, err := a.Register(ctx, instance("u1", "az1"), PutOptions{})
	if err != nil || same.Revision == 0 || a.Status().Queued != 0 {
		t.Errorf("a registration that says nothing new: %+v, %v, %d queued", same, err, a.Status().Queued)
	}
	first, err := a.Register(ctx, versioned("u1", "v2"), PutOptions{})
	if err != nil || first.Revision != 0 || first.Version != "v2" || first.Stamp.Compare(same.Stamp) <= 0 {
		t.Errorf("queued as %+v, %v", first, err)
	}
	second, err := a.Register(ctx, versioned("u1", "v3"), PutOptions{})
	if err != nil || second.Stamp.Compare(first.Stamp) <= 0 {
		t.Errorf("queued as %+v, %v", second, err)
	}
	drained, err := a.Drain(ctx, key("u1"), PutOptions{})
	if err != nil || !drained.Draining || drained.Version != "v3" {
		t.Errorf("drained %+v, %v", drained, err)
	}
	if again, err := a.Drain(ctx, key("u1"), PutOptions{}); err != nil || again.Stamp != drained.Stamp {
		t.Errorf("drained again: %+v, %v", again, err)
	}
	if _, err := a.Drain(ctx, key("u2"), PutOptions{}); err != nil {
		t.Errorf("drain: %v", err)
	}
	if err := a.Deregister(ctx, key("u3"), PutOptions{}); err != nil {
		t.Errorf("deregister: %v", err)
	}
	if err := a.Deregister(ctx, key("u3"), PutOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("deregister again: %v", err)
	}
	if err := a.Deregister(ctx, key("u4"), PutOptions{}); err != nil {
		t.Errorf("deregister: %v", err)
	}
	if _, err := a.Register(ctx, versioned("u4", "v4"), PutOptions{}); err != nil {
		t.Errorf("register after delete: %v", err)
	}

	if _, err := a.Register(ctx, instance("new", "az1"), PutOptions{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an instance that is not this edge's: %v", err)
	}
	if _, err := a.Register(ctx, instance("u2", "az1"), PutOptions{IfMatch: 5}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("what depends on etcd's revision: %v", err)
	}
	if err := a.Heartbeat(ctx, key("new")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("heartbeat of an unknown instance: %v", err)
	}
	if s := a.Status(); s.Queued != 4 || s.Instances != 4 {
		t.Errorf("status %+v", s)
	}

	a.gate.reopen(r.etcd)
	eventually(t, "replayed", func() bool { return a.Status().Queued == 0 })
	r.agree(a)
	stored, tombs, _ := r.stored()
	if i := stored[key("u1")]; i == nil || i.Version != "v3" || !i.Draining || i.Stamp != drained.Stamp {
		t.Errorf("u1 is %+v", i)
	}
	if i := stored[key("u2")]; i == nil || !i.Draining || i.Version != "v1" {
		t.Errorf("u2 is %+v", i)
	}
	if stored[key("u3")] != nil || tombs[key("u3")] == nil {
		t.Errorf("u3 is %+v, its tombstone %+v", stored[key("u3")], tombs[key("u3")])
	}
	if i := stored[key("u4")]; i == nil || i.Version != "v4" {
		t.Errorf("u4 is %+v", i)
	}
	// In the order in which they were taken.
	if order := []int64{stored[key("u1")].Revision, stored[key("u2")].Revision, tombs3(t, r), stored[key("u4")].Revision}; order[0] >= order[1] || order[1] >= order[2] || order[2] >= order[3] {
		t.Errorf("replayed at %v", order)
	}
	if s := a.Status(); s.ReplaysRefused != 0 || s.Owned != 3 {
		t.Errorf("status %+v", s)
	}
}

// tombs3 is the revision of u3's tombstone.
func tombs3(t *testing.T, r *rig) int64 {
	t.Helper()
	got, err := r.raw.Get(context.Background(), r.keys.instance(key("u3")))
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	return got.Kvs[0].ModRevision
}

// While one edge was cut off from etcd, another wrote: what is newer by its
// stamp stands, whichever came first.
func TestReplayIsRefusedUnlessNewer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	b := r.start("b", "az3", "south")
	a := outage(t, r, []string{"gone", "drained", "untouched", "taken"}, func(o *Options) { o.Timing.EdgeLease = time.Minute })
	for _, id := range []string{"gone", "drained", "untouched", "taken"} {
		if _, err := a.Register(ctx, versioned(id, "v2"), PutOptions{}); err != nil {
			t.Fatalf("queue: %v", err)
		}
	}
	// Newer than anything that a has minted.
	b.opts.Clock.Witness(a.opts.Clock.Now())
	if err := b.Deregister(ctx, key("gone"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	drained, err := b.Drain(ctx, key("drained"), PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Older by its stamp, but another edge's by now.
	i := instance("taken", "az1")
	i.Owner, i.Stamp = "b", federation.Stamp{Lamport: 1, Origin: "b"}
	data, err := federation.EncodeInstance(&i)
	if err != nil {
		t.Fatal(err)
	}
	r.write(r.keys.instance(key("taken")), string(data))

	a.gate.reopen(r.etcd)
	eventually(t, "replayed", func() bool { return a.Status().Queued == 0 })
	r.agree(a, b)
	stored, tombs, _ := r.stored()
	if stored[key("gone")] != nil || tombs[key("gone")] == nil {
		t.Error("a replay brought a deleted instance back")
	}
	if i := stored[key("drained")]; !i.Draining || i.Version != "v1" || i.Stamp != drained.Stamp {
		t.Errorf("a replay overwrote what is newer: %+v", i)
	}
	if i := stored[key("untouched")]; i.Version != "v2" {
		t.Errorf("a replay that is newer was not written: %+v", i)
	}
	if i := stored[key("taken")]; i.Owner != "b" {
		t.Errorf("a replay took an instance away from its owner: %+v", i)
	}
	for _, id := range []string{"gone", "drained", "taken"} {
		told := a.events.of(id, EventReplayRefused)
		if len(told) != 1 || told[0].Stamp.Origin != "a" || told[0].By.Origin != "b" || told[0].Revision == 0 {
			t.Errorf("of %s a was told %+v", id, told)
		}
	}
	if told := a.events.of("untouched", EventReplayRefused); len(told) != 0 {
		t.Errorf("told %+v", told)
	}
	if s := a.Status(); s.ReplaysRefused != 3 {
		t.Errorf("status %+v", s)
	}
}

func TestReplayThatIsTooOldIsDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := outage(t, r, []string{"u1"}, func(o *Options) { o.Timing.ReplayAge = time.Millisecond })
	queued, err := a.Register(context.Background(), versioned("u1", "v2"), PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "dropped", func() bool { return a.Status().Queued == 0 })
	told := a.events.of("u1", EventReplayExpired)
	if len(told) != 1 || told[0].Stamp != queued.Stamp {
		t.Errorf("told %+v", told)
	}
	if stored, _, _ := r.stored(); stored[key("u1")].Version != "v1" {
		t.Error("it was written all the same")
	}
}

func TestReplayOfAClockThatJumpedIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := outage(t, r, []string{"u1", "u2"})
	if _, err := a.Register(ctx, versioned("u1", "v2"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.opts.Clock.Witness(1 << 40)
	if _, err := a.Register(ctx, versioned("u2", "v2"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "replayed", func() bool { return a.Status().Queued == 0 })
	stored, _, _ := r.stored()
	if stored[key("u1")].Version != "v2" || stored[key("u2")].Version != "v1" {
		t.Errorf("etcd holds %+v and %+v", stored[key("u1")], stored[key("u2")])
	}
	if told := a.events.of("u2", EventReplayRefused); len(told) != 1 {
		t.Errorf("told %+v", told)
	}
}

// A write that reaches etcd while an older one waits makes that one void.
func TestNewerWriteOvertakesTheQueue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := outage(t, r, []string{"u1"})
	if _, err := a.Register(ctx, versioned("u1", "v2"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "written", func() bool {
		stored, err := a.Register(ctx, versioned("u1", "v3"), PutOptions{})
		return err == nil && stored.Revision != 0
	})
	eventually(t, "nothing waits", func() bool { return a.Status().Queued == 0 })
	if stored, _, _ := r.stored(); stored[key("u1")].Version != "v3" {
		t.Errorf("etcd holds %+v", stored[key("u1")])
	}
	r.agree(a)
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	var q replayQueue
	q.init()
	add := func(n int) error {
		k := key(fmt.Sprintf("u%d", n))
		_, err := q.add(q.held(k), &queuedWrite{key: k, stamp: federation.Stamp{Lamport: uint64(n + 1), Origin: "a"}})
		return err
	}
	for n := range maxQueued {
		if err := add(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(maxQueued); !errors.Is(err, ErrUnavailable) {
		t.Errorf("one more: %v", err)
	}
	if err := add(7); err != nil {
		t.Errorf("another write of a key that waits: %v", err)
	}
	if queued, overflow := q.len(); queued != maxQueued || overflow != 1 {
		t.Errorf("%d queued, %d refused", queued, overflow)
	}
	// A writer that did not see what waits has to look again.
	if added, err := q.add(nil, &queuedWrite{key: key("u7")}); added || err != nil {
		t.Errorf("added %v, %v", added, err)
	}
	q.drop(key("u7"), federation.Stamp{Lamport: 7, Origin: "a"})
	if q.held(key("u7")) == nil {
		t.Error("an older write dropped a newer one")
	}
	q.drop(key("u7"), federation.Stamp{Lamport: 8, Origin: "a"})
	if q.held(key("u7")) != nil {
		t.Error("what is confirmed still waits")
	}
	all := q.inOrder()
	for n := 1; n < len(all); n++ {
		if all[n-1].stamp.Compare(all[n].stamp) >= 0 {
			t.Fatalf("%s before %s", all[n-1].stamp, all[n].stamp)
		}
	}
}

// Who drains or deregisters while etcd is away wants no more requests now.
func TestQueuedDrainTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := outage(t, r, []string{"u1", "u2", "u3", "u4"})
	before := a.catalog.Snapshot()
	draining := func(id string) bool { i := a.get(id); return i != nil && i.Draining }
	if _, err := a.Drain(ctx, key("u1"), PutOptions{}); err != nil || !draining("u1") {
		t.Errorf("drained: %+v, %v", a.get("u1"), err)
	}
	if err := a.Deregister(ctx, key("u2"), PutOptions{}); err != nil || !draining("u2") {
		t.Errorf("deregistered: %+v, %v", a.get("u2"), err)
	}
	if _, err := a.Drain(ctx, key("u3"), PutOptions{}); err != nil || !draining("u3") {
		t.Errorf("drained: %+v, %v", a.get("u3"), err)
	}
	if _, err := a.Register(ctx, versioned("u3", "v2"), PutOptions{}); err != nil || draining("u3") {
		t.Errorf("registered again, not draining: %+v, %v", a.get("u3"), err)
	}
	if draining("u4") {
		t.Errorf("drains unasked: %+v", a.get("u4"))
	}
	if after := a.catalog.Snapshot(); after.Digest != before.Digest || after.Revision != before.Revision {
		t.Errorf("digest %s at %d became %s at %d, though etcd has confirmed nothing", before.Digest, before.Revision, after.Digest, after.Revision)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "replayed", func() bool { return a.Status().Queued == 0 })
	r.agree(a)
	if !draining("u1") || a.get("u2") != nil || draining("u3") || a.get("u3").Version != "v2" {
		t.Errorf("after the replay: %+v, %+v, %+v", a.get("u1"), a.get("u2"), a.get("u3"))
	}
}

func TestRefusedDrainIsTakenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := outage(t, r, []string{"u1"}, func(o *Options) { o.Timing.ReplayAge = time.Nanosecond })
	if _, err := a.Drain(context.Background(), key("u1"), PutOptions{}); err != nil || !a.get("u1").Draining {
		t.Errorf("drained: %+v, %v", a.get("u1"), err)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "too old to be replayed", func() bool { return len(a.events.of("u1", EventReplayExpired)) == 1 && !a.get("u1").Draining })
	r.agree(a)
}
