package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/registry/etcdtest"
)

// preload writes instances n = from..to-1 straight into etcd, many in a
// transaction, as if an edge called "loader" owned them.
func (r *rig) preload(from, to int) {
	r.Helper()
	const batch = 100
	for ; from < to; from += batch {
		var ops []clientv3.Op
		for n := from; n < min(from+batch, to); n++ {
			i := instance(fmt.Sprintf("u%06d", n), "az1")
			i.Service = fmt.Sprintf("service-%d", n%97)
			i.Owner, i.Stamp = "loader", federation.Stamp{Lamport: uint64(n + 1), Origin: "loader"}
			i.Tags = map[string]string{"team": "payments", "track": "stable"}
			data, err := federation.EncodeInstance(&i)
			if err != nil {
				r.Fatal(err)
			}
			ops = append(ops, clientv3.OpPut(r.keys.instance(i.Key), string(data)))
		}
		if _, err := r.raw.Txn(context.Background()).Then(ops...).Commit(); err != nil {
			r.Fatal(err)
		}
	}
}

func TestEventsThatAreKnownAreDropped(t *testing.T) {
	t.Parallel()
	var events []*clientv3.Event
	for _, mod := range []int64{5, 5, 6, 9} {
		events = append(events, &clientv3.Event{Kv: &mvccpb.KeyValue{ModRevision: mod}})
	}
	for revision, left := range map[int64]int{4: 4, 5: 2, 8: 1, 9: 0} {
		if got := after(events, revision); len(got) != left {
			t.Errorf("after %d there are %d events, want %d", revision, len(got), left)
		}
	}
}

// Nothing is missed and nothing is seen twice between the list and the watch,
// however many pages the list has and whatever is written meanwhile.
func TestListThenWatchLeavesNoGap(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const preloaded = listPage + 500
	r.preload(0, preloaded)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	writer := r.start("w", "az1", "east", noProbe, patient)

	// No write is cut off: it might come through after all was compared.
	var enough atomic.Bool
	var writing sync.WaitGroup
	defer writing.Wait()
	defer enough.Store(true)
	for w := range 2 {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		writing.Go(func() {
			for !enough.Load() {
				<-pace.C
				i := instance(fmt.Sprintf("v%d", rnd.IntN(40)), "az1")
				i.Weight = rnd.IntN(100)
				if rnd.IntN(3) == 0 {
					_ = writer.Deregister(context.Background(), i.Key, PutOptions{})
				} else {
					_, _ = writer.Register(context.Background(), i, PutOptions{})
				}
			}
		})
	}
	nodes := []*node{writer}
	for n := range 4 {
		late := r.start(fmt.Sprintf("late%d", n), "az2", "east", noProbe, patient)
		nodes = append(nodes, late)
		before := late.catalog.Snapshot().Revision
		eventually(t, "the watch follows", func() bool { return late.catalog.Snapshot().Revision > before+20 })
	}
	enough.Store(true)
	writing.Wait()
	r.agree(nodes...)
}

// What was written while an edge was cut off comes in batches, of which etcd
// says a revision that is ahead of them.
func TestWatchCatchesUpInBatches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, w := r.start("a", "az1", "east", noProbe), r.start("w", "az1", "east", noProbe)
	a.gate.shut()
	const count = 3500
	var writing sync.WaitGroup
	for part := range 8 {
		writing.Go(func() {
			for n := part; n < count; n += 8 {
				i := instance(fmt.Sprintf("u%d", n), "az1")
				i.Owner, i.Stamp = "w", federation.Stamp{Lamport: uint64(n + 1), Origin: "w"}
				data, err := federation.EncodeInstance(&i)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := r.raw.Put(context.Background(), r.keys.instance(i.Key), string(data)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	a.gate.reopen(r.etcd)
	r.agree(a, w)
	if n := a.Status().Relists; n != 0 {
		t.Errorf("%d relists, so the watch was not what caught up", n)
	}
	registered := 0
	for n := range count {
		registered += len(a.events.of(fmt.Sprintf("u%d", n), EventRegistered))
	}
	if registered != count {
		t.Errorf("%d registrations were told, want %d", registered, count)
	}
}

// An etcd of its own for what must not happen to the one that others use.
func (r *rig) compact() {
	r.Helper()
	_, _, revision := r.stored()
	if _, err := r.raw.Compact(context.Background(), revision, clientv3.WithCompactPhysical()); err != nil {
		r.Fatal(err)
	}
}

func TestCompactionWhileCutOffIsMadeUpByAList(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := startEtcd(t, t.TempDir(), nil)
	t.Cleanup(server.Close)
	r := newRigAt(t, etcdtest.Address(server))
	longer := func(o *Options) { o.Timing.EdgeLease = time.Minute }
	a, b := r.start("a", "az1", "east", longer), r.start("b", "az2", "east")
	for _, id := range []string{"removed", "changed", "kept"} {
		b.put(instance(id, "az1"))
	}
	b.put(instance("removed-unseen", "az1"))
	r.agree(a, b)
	a.gate.shut()
	for _, id := range []string{"removed", "removed-unseen", "came-and-went"} {
		if id == "came-and-went" {
			b.put(instance(id, "az1"))
		}
		if err := b.Deregister(ctx, key(id), PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Its tombstone has run out as well.
	if _, err := r.raw.Delete(ctx, r.keys.instance(key("removed-unseen"))); err != nil {
		t.Fatal(err)
	}
	changed := instance("changed", "az1")
	changed.Version = "v2"
	b.put(changed)
	b.put(instance("new", "az1"))
	r.compact()
	a.gate.reopen(r.etcd)
	r.agree(a, b)
	if n := a.Status().Relists; n != 1 {
		t.Errorf("%d relists, want 1", n)
	}
	for id, want := range map[string]EventKind{
		"removed": EventDeregistered, "removed-unseen": EventDeregistered, "changed": EventUpdated, "new": EventRegistered,
	} {
		told := a.events.of(id)
		if len(told) == 0 {
			t.Errorf("%s: nothing was told", id)
			continue
		}
		last := told[len(told)-1]
		if last.Kind != want {
			t.Errorf("%s was told as %+v, want %s", id, last, want)
		}
		if there := b.events.of(id); id != "removed-unseen" && last.Revision != there[len(there)-1].Revision {
			t.Errorf("%s at %d, the other edge saw it at %d", id, last.Revision, there[len(there)-1].Revision)
		}
	}
	for _, id := range []string{"came-and-went", "kept"} {
		if told := a.events.of(id); len(told) > 1 {
			t.Errorf("%s was told as %+v", id, told)
		}
	}
}

// While nothing is written at all, the view is fresh all the same, and a
// stream that breaks changes that for a moment only.
func TestIdleEtcdIsFresh(t *testing.T) {
	t.Parallel()
	server := startEtcd(t, t.TempDir(), nil)
	t.Cleanup(server.Close)
	r := newRigAt(t, etcdtest.Address(server))
	a := r.start("a", "az1", "east")
	confirmed := func() time.Time {
		a.state.mu.Lock()
		defer a.state.mu.Unlock()
		return a.state.confirmed
	}
	for range 2 {
		for range 5 {
			before := confirmed()
			eventually(t, "confirmed again", func() bool { return confirmed().After(before) })
		}
		a.gate.shut()
		eventually(t, "stale", func() bool { return !a.Status().StaleSince.IsZero() })
		a.gate.reopen(r.etcd)
		eventually(t, "fresh", func() bool { return a.Status().StaleSince.IsZero() })
	}
	if _, _, revision := r.stored(); revision != a.Status().Revision || len(a.events.of("u1")) != 0 || a.Status().Relists != 0 {
		t.Errorf("etcd is at %d: not idle, or status %+v", revision, a.Status())
	}
}

func TestEtcdRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := startEtcd(t, dir, nil)
	t.Cleanup(func() { server.Close() })
	r := newRigAt(t, etcdtest.Address(server))
	a, b := r.start("a", "az1", "east"), r.start("b", "az2", "east", noProbe, patient)
	a.put(instance("u1", "az1"))
	r.agree(a, b)
	for _, n := range []*node{a, b} {
		n.gate.shut() // etcd would wait for its watches to end
	}
	server.Close()
	for _, n := range []*node{a, b} {
		eventually(t, "stale", func() bool { return !n.Status().StaleSince.IsZero() })
		if n.get("u1") == nil {
			t.Error("the last snapshot is gone")
		}
	}
	server = startEtcd(t, dir, nil)
	r.raw.SetEndpoints("http://" + etcdtest.Address(server))
	for _, n := range []*node{a, b} {
		n.gate.reopen(etcdtest.Address(server))
	}
	for _, n := range []*node{a, b} {
		eventually(t, "fresh and registered", func() bool {
			s := n.Status()
			return s.StaleSince.IsZero() && s.Registered && s.Err == ""
		})
	}
	b.put(instance("u2", "az2"))
	r.agree(a, b)
	if got := a.events.of("u1"); len(got) != 1 {
		t.Errorf("the restart showed as %+v", got)
	}
}

// An etcd that was set back to a backup, or is another one, is believed.
func TestAnotherEtcdIsBelieved(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{"set back": "", "another cluster": "other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := startEtcd(t, t.TempDir(), nil)
			second := startEtcd(t, t.TempDir(), func(c *embed.Config) {
				if token != "" {
					c.InitialClusterToken = token
				}
			})
			t.Cleanup(second.Close)
			t.Cleanup(first.Close)
			r := newRigAt(t, etcdtest.Address(first))
			a := r.start("a", "az1", "east", noProbe)
			for n := range 30 {
				a.put(instance(fmt.Sprintf("u%d", n), "az1"))
			}
			r.agree(a)
			a.gate.shut()
			r.raw.SetEndpoints("http://" + etcdtest.Address(second))
			r.preload(0, 3)
			a.gate.reopen(etcdtest.Address(second))
			eventually(t, "what the other etcd has", func() bool { return a.catalog.Snapshot().Instances == 3 })
			eventually(t, "registered there", func() bool { return a.Status().Registered })
			if err := a.Heartbeat(context.Background(), key("u7")); !errors.Is(err, ErrNotFound) {
				t.Errorf("heartbeat of what this etcd has never heard of: %v", err)
			}
			a.put(instance("u1", "az1"))
			eventually(t, "life goes on", a.has("u1"))
			if s := a.Status(); s.Owned != 1 {
				t.Errorf("status %+v", s)
			}
			if a.Status().Relists == 0 {
				t.Error("no relist")
			}
		})
	}
}

func TestStatusWithoutEtcd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.node("a", "az1", "east", mortal, brief)
	n.gate.shut()
	n.run()
	eventually(t, "it says so", func() bool { return n.Status().Err != "" })
	if s := n.Status(); s.Synced || s.Registered || s.FromCache {
		t.Errorf("status %+v", s)
	}
	select {
	case <-n.Ready():
		t.Error("ready without a snapshot")
	default:
	}
	if _, err := n.Register(shortly(t), instance("u1", "az1"), PutOptions{}); err == nil {
		t.Error("registered without etcd")
	}
	n.gate.reopen(r.etcd)
	eventually(t, "all is well", func() bool { s := n.Status(); return s.Synced && s.Registered && s.Err == "" })
	<-n.Ready()
	if lines := n.log.count("level=WARN"); lines != 1 {
		t.Errorf("one trouble made %d lines of log:\n%s", lines, n.log.text())
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.buf.String())
}
