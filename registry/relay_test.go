package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// An edge that alone has lost etcd goes on hearing its instances. Whoever has
// adopted them does not, and must not take them for dead.
func TestHeartbeatsAtAnEdgeWithoutEtcdReachWhoAdopted(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	ctx := context.Background()
	r := newRig(t)
	a, b := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east")
	for id, ttl := range map[string]time.Duration{"heard": ttl, "silent": ttl} {
		i := instance(id, "az1")
		i.TTL = federation.Duration(ttl)
		a.put(i)
	}
	r.agree(b)
	relayed := make(chan federation.Key, 1000)
	a.SetRelay(func(_ context.Context, key federation.Key) error {
		relayed <- key
		b.RelayedHeartbeat(key)
		return nil
	})
	if err := a.Heartbeat(ctx, key("heard")); err != nil || len(relayed) != 0 {
		t.Fatalf("an edge with its lease relayed %d heartbeats, %v", len(relayed), err)
	}
	a.gate.shut()
	beats := time.NewTicker(100 * time.Millisecond)
	defer beats.Stop()
	heartbeat := func() {
		select {
		case <-beats.C:
			if err := a.Heartbeat(ctx, key("heard")); err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	eventually(t, "both are adopted, and what nobody hears of expires", func() bool {
		heartbeat()
		return len(b.events.of("silent", EventExpired)) == 1
	})
	eventually(t, "another TTL goes by", func() bool {
		heartbeat()
		adopted := b.events.of("heard", EventAdopted)
		return len(adopted) == 1 && time.Since(adopted[0].Time) > 2*ttl
	})
	if i := b.get("heard"); i == nil || i.Owner != "b" {
		t.Errorf("adopted, alive and heard: %+v, told %+v", i, b.events.of("heard"))
	}
	if s := a.Status(); s.Relayed == 0 {
		t.Errorf("status %+v", s)
	}
	// Both have etcd again: the heartbeats go the usual way.
	a.gate.reopen(r.etcd)
	eventually(t, "a has its lease and knows the new owner", func() bool { return a.Status().Registered && a.ownedBy("heard", "b")() })
	forwarded := 0
	a.SetForward(func(_ context.Context, owner string, _ federation.Key) error {
		if owner == "b" {
			forwarded++
		}
		return nil
	})
	if err := a.Heartbeat(ctx, key("heard")); err != nil || forwarded != 1 {
		t.Errorf("heartbeat: %v, forwarded %d times", err, forwarded)
	}
}

// A heartbeat is relayed once: an edge that is cut off as well keeps it.
func TestRelayedHeartbeatsStopAtTheSecondEdge(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east", mortal)
	a.put(instance("u1", "az1"))
	calls := make(chan federation.Key, 10)
	a.SetRelay(func(_ context.Context, key federation.Key) error {
		calls <- key
		return errors.New("nobody has etcd")
	})
	a.gate.shut()
	eventually(t, "the lease ends", func() bool { return !a.Status().Registered })
	a.RelayedHeartbeat(key("u1"))
	eventually(t, "it is taken", func() bool { return len(a.relayed) == 0 })
	// What is not relayed to anybody is kept all the same.
	if err := a.Heartbeat(ctx, key("u1")); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if len(calls) != 1 {
		t.Errorf("relayed %d times, want once: only what came from the instance itself", len(calls))
	}
	if s := a.Status(); s.Relayed != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestTooManyRelayedHeartbeatsAreDropped(t *testing.T) {
	t.Parallel()
	n := newRig(t).node("a", "az1", "east") // not run: nobody takes them
	for range relayedQueue + 3 {
		n.RelayedHeartbeat(key("u1"))
	}
	if lost := n.counters.lostRelays.Load(); lost != 3 {
		t.Errorf("%d are counted as lost, want 3", lost)
	}
}
