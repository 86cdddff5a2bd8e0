package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// Two edges write one instance at once, many times: each may, because gossip
// says that the other is dead. There is one order, the same at every edge, and
// whoever was overwritten by another edge is told so, by whom.
func TestConcurrentWritesHaveOneOrder(t *testing.T) {
	t.Parallel()
	const rounds = 60
	r := newRig(t)
	a, b, c := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east", mortal), r.start("c", "az3", "south")
	for _, n := range []*node{a, b} {
		n.SetEdgeAlive(func(string) bool { return false })
	}
	a.put(instance("u1", "az1"))
	for _, n := range []*node{b, a} {
		eventually(t, "gossip counts", func() bool {
			_, err := n.Register(context.Background(), instance("u1", "az1"), PutOptions{})
			return err == nil
		})
	}

	versions := make(map[federation.Stamp]string)
	for round := range rounds {
		var writing sync.WaitGroup
		var stored [2]federation.Instance
		for n, at := range []*node{a, b} {
			writing.Go(func() {
				i := instance("u1", "az1")
				i.Version = fmt.Sprintf("v%d-%s", round, at.self)
				var err error
				stored[n], err = at.Register(context.Background(), i, PutOptions{})
				// An edge that has just got a new lease counts as alive.
				if _, refused := errors.AsType[*OwnedError](err); err != nil && !refused {
					t.Errorf("register at %s: %v", at.self, err)
				}
			})
		}
		writing.Wait()
		for _, s := range stored {
			if !s.Stamp.IsZero() {
				versions[s.Stamp] = s.Version
			}
		}
	}
	r.agree(a, b, c)
	if n := a.Status().Conflicts + b.Status().Conflicts; n == 0 {
		t.Error("no write ever met another: this tested nothing")
	}
	final, _, _ := r.stored()
	if got := final[key("u1")]; versions[got.Stamp] != got.Version {
		t.Errorf("the last write %s says %s, written was %s", got.Stamp, got.Version, versions[got.Stamp])
	}

	order := c.events.shared()
	for _, n := range []*node{a, b} {
		eventually(t, "all events are there", func() bool { return len(n.events.shared()) == len(order) })
		if !slices.Equal(n.events.shared(), order) {
			t.Errorf("%s saw\n%v\nc saw\n%v", n.self, n.events.shared(), order)
		}
	}
	history := c.events.of("u1")
	for n := 1; n < len(history); n++ {
		lost, won := history[n-1], history[n]
		if won.Stamp.Compare(lost.Stamp) <= 0 {
			t.Errorf("%s at %d comes after %s at %d", won.Stamp, won.Revision, lost.Stamp, lost.Revision)
		}
		if lost.Stamp.Origin == won.Stamp.Origin || versions[lost.Stamp] == "" || versions[won.Stamp] == "" {
			continue
		}
		loser := map[string]*node{"a": a, "b": b}[lost.Stamp.Origin]
		told := slices.ContainsFunc(loser.events.of("u1", EventSuperseded), func(e Event) bool {
			return e.Stamp == lost.Stamp && e.By == won.Stamp && e.Revision == won.Revision
		})
		if !told {
			t.Errorf("%s was not told that %s was overwritten by %s", loser.self, lost.Stamp, won.Stamp)
		}
	}
	if told := c.events.of("u1", EventSuperseded); len(told) != 0 {
		t.Errorf("c wrote nothing and was told %+v", told)
	}
}

// Both registrations of a new id come at once: one edge has it, the other is
// refused.
func TestOneOfTwoFirstRegistrationsIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nodes := []*node{r.start("a", "az1", "east"), r.start("b", "az1", "east")}
	for round := range 30 {
		id := fmt.Sprintf("u%d", round)
		var writing sync.WaitGroup
		var errs [2]error
		for n, at := range nodes {
			writing.Go(func() { _, errs[n] = at.Register(context.Background(), instance(id, "az1"), PutOptions{}) })
		}
		writing.Wait()
		stored, _, _ := r.stored()
		if stored[key(id)] == nil {
			t.Fatalf("nobody has %s: %v", id, errs)
		}
		owner := stored[key(id)].Owner
		for n, at := range nodes {
			refused, _ := errors.AsType[*OwnedError](errs[n])
			if won := at.self == owner; won != (errs[n] == nil) || !won && (refused == nil || refused.Owner != owner) {
				t.Errorf("%s is owned by %s, and %s got %v", id, owner, at.self, errs[n])
			}
		}
	}
	r.agree(nodes...)
}

func TestConcurrentWritesOfOneEdge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	for round := range 200 {
		var writing sync.WaitGroup
		for n := range 2 {
			writing.Go(func() {
				i := instance("u1", "az1")
				i.Version = fmt.Sprintf("v%d-%d", round, n)
				if _, err := a.Register(context.Background(), i, PutOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		writing.Wait()
		if len(a.events.of("u1", EventSuperseded)) > 0 {
			break
		}
	}
	lost := a.events.of("u1", EventSuperseded)
	if len(lost) == 0 {
		t.Fatal("of two writes at once neither was told that it lost")
	}
	if e := lost[0]; e.By.Compare(e.Stamp) <= 0 || e.Stamp.Origin != "a" || e.Owner != "a" {
		t.Errorf("told %+v", e)
	}
	r.agree(a)
}

// A drain by one edge that another edge's registration takes back is lost, and
// the edge that wrote it is told.
func TestDrainThatIsOverwrittenIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start("a", "az1", "east"), r.start("b", "az2", "east")
	a.put(instance("u1", "az1"))
	drained, err := b.Drain(context.Background(), key("u1"), PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a.put(instance("u1", "az1"))
	eventually(t, "b is told", func() bool {
		told := b.events.of("u1", EventSuperseded)
		return len(told) == 1 && told[0].Stamp == drained.Stamp
	})
}

// Writes go on when etcd has lost the leases that tombstones and audit entries
// hang on.
func TestSharedLeaseIsReplacedWhenItIsLost(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	remove := func() {
		t.Helper()
		a.put(instance("u1", "az1"))
		if err := a.Deregister(ctx, key("u1"), PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	for _, lease := range []*sharedLease{&a.tombstones, &a.audits} {
		id, err := lease.get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		life, err := r.raw.TimeToLive(ctx, id)
		if err != nil || time.Duration(life.TTL)*time.Second < lease.life {
			t.Errorf("%+v, %v: a key put on it now must live for %s", life, err, lease.life)
		}
		if _, err := r.raw.Revoke(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	if _, tombs, _ := r.stored(); tombs[key("u1")] == nil {
		t.Error("no tombstone")
	}
}

// A writer that others are always faster than gives up and says so.
func TestWritesThatAlwaysConflictEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	a.put(instance("u1", "az1"))
	name := a.keys.instance(key("u1"))
	got, err := r.raw.Get(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	value, tries := string(got.Kvs[0].Value), 0
	_, err = a.perform(context.Background(), key("u1"), write{
		action: "test",
		decide: func(current record, _ func(string) bool) (decision, error) {
			tries++
			r.write(name, value)
			return decision{next: record{instance: current.instance}}, nil
		},
	})
	if !errors.Is(err, ErrConflict) || tries != maxTries {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// The end of an edge's lease must not take an instance with it, and no replay
// may find a tombstone gone.
func TestOnlyTombstonesHangOnALease(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	lease := func() int64 {
		t.Helper()
		got, err := r.raw.Get(ctx, a.keys.instance(key("u1")))
		if err != nil || len(got.Kvs) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		return got.Kvs[0].Lease
	}
	a.put(instance("u1", "az1"))
	if id := lease(); id != 0 {
		t.Errorf("the instance hangs on lease %x", id)
	}
	if err := a.Deregister(ctx, key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	life, err := r.raw.TimeToLive(ctx, clientv3.LeaseID(lease()))
	if err != nil || time.Duration(life.TTL)*time.Second <= a.timing.ReplayAge {
		t.Errorf("the tombstone lives for %+v, %v; a replay may be %s old", life, err, a.timing.ReplayAge)
	}
	// Registered again, it is nobody's to take along.
	a.put(instance("u1", "az1"))
	if id := lease(); id != 0 {
		t.Errorf("the instance hangs on lease %x, its tombstone's", id)
	}
}
