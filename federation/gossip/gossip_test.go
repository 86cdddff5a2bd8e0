package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestDeviationsReachAllAndAreWithdrawn(t *testing.T) {
	nodes := startCluster(t, 5, nil, nil)
	nodes[0].gossip.PublishHealth(unhealthy(subject, 1))
	for _, n := range nodes[1:] {
		eventually(t, "record known", func() bool { return n.record("e0", subject).Status == federation.Unhealthy })
		if r := n.record("e0", subject); r.Reason != "probe: 3 failures" || r.Seq != 1 || r.Incarnation != nodes[0].gossip.opts.Self.Incarnation {
			t.Errorf("record %+v", r)
		}
	}

	late := startNode(t, "late", func(o *Options) { o.Peers = []string{nodes[3].gossip.Address()} })
	eventually(t, "newcomer learns", func() bool { return late.record("e0", subject).Status == federation.Unhealthy })

	healthy := unhealthy(subject, 2)
	healthy.Status = federation.Healthy
	nodes[0].gossip.PublishHealth(healthy)
	for _, n := range append(nodes[1:], late) {
		eventually(t, "withdrawn", func() bool {
			// A withdrawal that came by a whole set, since its own message was
			// lost, has the number of what it withdraws.
			r := n.record("e0", subject)
			return r.Status == federation.HealthUnknown && r.Seq != 0
		})
	}
}

// A record that nobody withdraws holds for much longer than its time to live,
// and whoever keeps it is told so again and again.
func TestDeviationsAreRepeated(t *testing.T) {
	nodes := startCluster(t, 2, nil, func(o *Options) { o.Timing.PushPullInterval = time.Hour })
	nodes[0].gossip.PublishHealth(unhealthy(subject, 1))
	eventually(t, "record known", func() bool { return nodes[1].record("e0", subject).Status == federation.Unhealthy })
	first := nodes[1].record("e0", subject).Received
	ttl := nodes[1].gossip.opts.Timing.RecordTTL()
	eventually(t, "repeated beyond its time", func() bool {
		r := nodes[1].record("e0", subject)
		if r.Status != federation.Unhealthy {
			t.Fatalf("lost: %+v", r)
		}
		return r.Received.Sub(first) > 2*ttl
	})
	if s := nodes[1].gossip.Stats(); s.Syncs != 0 {
		t.Errorf("%d whole sets were asked for, though nothing was lost", s.Syncs)
	}
}

func TestHealthyIsNotSent(t *testing.T) {
	nodes := startCluster(t, 2, nil, nil)
	healthy := unhealthy(subject, 1)
	healthy.Status = federation.Healthy
	nodes[0].gossip.PublishHealth(healthy)
	other := federation.Key{Service: "user-service", ID: "u2"}
	nodes[0].gossip.PublishHealth(unhealthy(other, 2))
	eventually(t, "the later record arrives", func() bool { return nodes[1].record("e0", other).Seq == 2 })
	if r := nodes[1].record("e0", subject); r.Seq != 0 {
		t.Errorf("a healthy endpoint was gossiped: %+v", r)
	}
}

func TestKilledEdgeIsKnownToAllAndItsRecordsAreVoid(t *testing.T) {
	net := newNetwork()
	nodes := startCluster(t, 5, net, nil)
	victim := nodes[2]
	victim.gossip.PublishHealth(unhealthy(subject, 1))
	for _, n := range nodes {
		if n != victim {
			eventually(t, "record known", func() bool { return n.record("e2", subject).Status == federation.Unhealthy })
		}
	}
	killed := time.Now()
	net.cut(1, victim)
	for _, n := range nodes {
		if n == victim {
			continue
		}
		eventually(t, "death known", func() bool { return n.edge("e2").Status == federation.EdgeDead })
		eventually(t, "records void", func() bool { return n.record("e2", subject).Status == federation.HealthUnknown })
	}
	t.Logf("known to all after %s", time.Since(killed))
}

// The partition lasts until memberlist has forgotten the other side, as it has
// after a minute with the default intervals: what heals it is rejoin.
func TestPartitionHealsByItself(t *testing.T) {
	net := newNetwork()
	nodes := startCluster(t, 5, net, func(o *Options) { o.Timing.PushPullInterval = 200 * time.Millisecond })
	left, right := nodes[:2], nodes[2:]
	net.cut(1, left...)
	net.cut(2, right...)
	for _, a := range left {
		for _, b := range right {
			eventually(t, "sides lose each other", func() bool {
				return !a.gossip.Alive(b.gossip.opts.Self.ID) && !b.gossip.Alive(a.gossip.opts.Self.ID)
			})
		}
	}
	for _, n := range nodes {
		before := n.gossip.Stats().Rejoins
		eventually(t, "many attempts in vain", func() bool { return n.gossip.Stats().Rejoins > before+30 })
	}
	// Said while cut off; it must arrive after.
	left[1].gossip.PublishHealth(unhealthy(subject, 7))
	net.heal()
	for _, n := range nodes {
		eventually(t, "all alive again", func() bool { return n.alive(nodes...) })
		if n != left[1] {
			eventually(t, "record of the other side", func() bool { return n.record("e1", subject).Seq == 7 })
		}
	}
}

func TestStateReachesAll(t *testing.T) {
	nodes := startCluster(t, 3, nil, nil)
	nodes[1].gossip.SetState(State{Revision: 42, Clock: 17, Digest: "abcd", Config: "c0ffee", Lag: 3 * time.Millisecond})
	for _, n := range nodes {
		eventually(t, "state known", func() bool {
			e := n.edge("e1")
			return e.Revision == 42 && e.Clock == 17 && e.Digest == "abcd" && e.Config == "c0ffee" &&
				time.Duration(e.Lag) == 3*time.Millisecond && e.Zone == "zone-e1" && e.Admin != "" && e.Gossip == nodes[1].gossip.Address()
		})
	}
}

func TestImplausibleClockIsDropped(t *testing.T) {
	clock, err := federation.OpenClock("e0", "")
	if err != nil {
		t.Fatal(err)
	}
	n0 := startNode(t, "e0", func(o *Options) { o.Clock, o.MaxJump = clock, 1000 })
	n1 := startNode(t, "e1", func(o *Options) { o.Peers = []string{n0.gossip.Address()} })
	n1.gossip.SetState(State{Clock: 500})
	eventually(t, "plausible clock witnessed", func() bool { return clock.Now() == 500 })
	n1.gossip.SetState(State{Clock: 1 << 60, Revision: 9})
	eventually(t, "counted", func() bool { return n0.gossip.Stats().Implausible > 0 })
	if e := n0.edge("e1"); e.Clock != 500 || e.Revision != 0 || clock.Now() != 500 {
		t.Errorf("implausible beat changed state: %+v, clock %d", e, clock.Now())
	}
}

func TestHeartbeatIsForwarded(t *testing.T) {
	nodes := startCluster(t, 2, nil, nil)
	if err := nodes[0].gossip.ForwardHeartbeat(context.Background(), "e1", subject); err != nil {
		t.Fatal(err)
	}
	eventually(t, "heartbeat arrives", func() bool {
		nodes[1].mu.Lock()
		defer nodes[1].mu.Unlock()
		return len(nodes[1].heartbeats) == 1 && nodes[1].heartbeats[0] == subject
	})
	if err := nodes[0].gossip.RelayHeartbeat(context.Background(), "e1", subject); err != nil {
		t.Fatal(err)
	}
	eventually(t, "relayed heartbeat arrives, as such", func() bool {
		nodes[1].mu.Lock()
		defer nodes[1].mu.Unlock()
		return len(nodes[1].relays) == 1 && nodes[1].relays[0] == subject && len(nodes[1].heartbeats) == 1
	})
	if err := nodes[0].gossip.ForwardHeartbeat(context.Background(), "nobody", subject); !errors.Is(err, ErrNotAlive) {
		t.Errorf("forward to nobody: %v", err)
	}
}

func TestLoadIsToldAndEndsWithItsEdge(t *testing.T) {
	net := newNetwork()
	nodes := startCluster(t, 3, net, nil)
	load := func(n *node) int64 {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.loads["e0 "+subject.String()]
	}
	nodes[0].gossip.PublishLoad(subject, 3)
	nodes[0].gossip.PublishLoad(subject, 12)
	for _, n := range nodes[1:] {
		eventually(t, "load known", func() bool { return load(n) == 12 })
	}
	nodes[0].gossip.PublishLoad(subject, 0)
	for _, n := range nodes[1:] {
		eventually(t, "load ended", func() bool { return load(n) == 0 })
	}
	nodes[0].gossip.PublishLoad(subject, 5)
	for _, n := range nodes[1:] {
		eventually(t, "load known", func() bool { return load(n) == 5 })
	}
	net.cut(1, nodes[0])
	for _, n := range nodes[1:] {
		eventually(t, "load of the dead is void", func() bool { return load(n) == 0 })
	}
}

func TestLeavingIsNotDying(t *testing.T) {
	nodes := startCluster(t, 3, nil, nil)
	nodes[2].shutdown(t)
	for _, n := range nodes[:2] {
		eventually(t, "leave known", func() bool { return n.edge("e2").Status == federation.EdgeLeft })
		n.mu.Lock()
		for _, e := range n.edges {
			if e.ID == "e2" && e.Status == federation.EdgeDead {
				t.Error("an edge that left was told dead")
			}
		}
		n.mu.Unlock()
	}
}

func TestRestartReplacesTheOldLife(t *testing.T) {
	net := newNetwork()
	nodes := startCluster(t, 3, net, nil)
	old := nodes[1].gossip.opts.Self.Incarnation
	nodes[1].gossip.PublishHealth(unhealthy(subject, 1))
	for _, n := range []*node{nodes[0], nodes[2]} {
		eventually(t, "record known", func() bool { return n.record("e1", subject).Seq == 1 })
	}
	net.cut(1, nodes[1]) // killed: the others do not know yet
	again := startNode(t, "e1", func(o *Options) { o.Peers = []string{nodes[0].gossip.Address()}; o.wrap = net.wrap() })
	for _, n := range []*node{nodes[0], nodes[2], again} {
		eventually(t, "new life alive", func() bool {
			e := n.edge("e1")
			return e.Status == federation.EdgeAlive && e.Incarnation > old && e.Gossip == again.gossip.Address()
		})
	}
	for _, n := range []*node{nodes[0], nodes[2]} {
		if r := n.record("e1", subject); r.Status != federation.HealthUnknown {
			t.Errorf("a record outlived its observer: %+v", r)
		}
	}
}

func TestTwoEdgesWithOneID(t *testing.T) {
	n0 := startNode(t, "e0", nil)
	n1 := startNode(t, "same", func(o *Options) { o.Peers = []string{n0.gossip.Address()} })
	eventually(t, "first of its name", func() bool { return n0.gossip.Alive("same") })
	startNode(t, "same", func(o *Options) { o.Peers = []string{n0.gossip.Address()} })
	eventually(t, "conflict counted", func() bool { return n0.gossip.Stats().Conflicts > 0 })
	if e := n0.edge("same"); e.Gossip != n1.gossip.Address() {
		t.Errorf("the living edge lost its id to %s", e.Gossip)
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	n0 := startNode(t, "e0", nil)
	for name, keys := range map[string][][]byte{"wrong": {[]byte("ffffffffffffffff")}, "none": nil} {
		stranger := startNode(t, name, func(o *Options) { o.Keys, o.Peers = keys, []string{n0.gossip.Address()} })
		eventually(t, "tried more than once", func() bool { return stranger.gossip.Stats().Rejoins > 1 })
		if n0.gossip.Alive(name) || stranger.gossip.Alive("e0") {
			t.Errorf("key %s: met", name)
		}
	}
	if n0.gossip.Stats().Rejected == 0 {
		t.Error("rejected messages were not counted")
	}
}

func TestKeyRotation(t *testing.T) {
	other := []byte("ffffffffffffffff")
	n0 := startNode(t, "e0", func(o *Options) { o.Keys = [][]byte{testKey, other} })
	n1 := startNode(t, "e1", func(o *Options) { o.Keys, o.Peers = [][]byte{other, testKey}, []string{n0.gossip.Address()} })
	eventually(t, "both keys are read", func() bool { return n0.gossip.Alive("e1") && n1.gossip.Alive("e0") })
}

func TestAnotherFederationIsRefused(t *testing.T) {
	n0 := startNode(t, "e0", nil)
	n1 := startNode(t, "e1", func(o *Options) { o.Federation, o.Peers = "blue", []string{n0.gossip.Address()} })
	eventually(t, "refused", func() bool { return n1.gossip.Stats().Refused > 0 && n0.gossip.Stats().Refused > 0 })
	if n0.gossip.Alive("e1") || n1.gossip.Alive("e0") {
		t.Error("edges of two federations met")
	}
}

func TestProbeTimeoutBelowThreeRoundTripsIsRefused(t *testing.T) {
	n0 := startNode(t, "e0", nil)
	net := newNetwork()
	g, err := New(Options{
		Self: federation.Edge{ID: "far", Incarnation: 1}, Bind: "127.0.0.1:0", Keys: [][]byte{testKey},
		Peers: []string{n0.gossip.Address()}, Timing: Timing{ProbeTimeout: 10 * time.Millisecond},
		wrap: slow(net, 20*time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(context.Background())
	var short *ProbeTimeoutError
	if !errors.As(err, &short) {
		t.Fatalf("run: %v", err)
	}
	if short.Peer != n0.gossip.Address() || short.RTT < 20*time.Millisecond || short.Smallest != 3*short.RTT {
		t.Errorf("error %+v", short)
	}
	if n0.gossip.Alive("far") {
		t.Error("it joined all the same")
	}
}

func TestLostDeltasAreMadeUpFor(t *testing.T) {
	const count = 300
	nodes := startCluster(t, 2, nil, func(o *Options) { o.QueueLimit, o.Timing.PushPullInterval = 16, time.Hour })
	for i := range uint64(count) {
		key := federation.Key{Service: "user-service", ID: fmt.Sprintf("u%d", i)}
		nodes[0].gossip.PublishHealth(unhealthy(key, i+1))
	}
	eventually(t, "all records known", func() bool {
		nodes[1].mu.Lock()
		defer nodes[1].mu.Unlock()
		return len(nodes[1].health) == count
	})
	if s := nodes[0].gossip.Stats(); s.QueueFull == 0 {
		t.Errorf("nothing was dropped, so nothing was proved: %+v", s)
	}
}

// BenchmarkDeath shows how long it takes until all of five know that one was
// killed.
func BenchmarkDeath(b *testing.B) {
	var all []time.Duration
	for b.Loop() {
		net := newNetwork()
		nodes := startCluster(b, 5, net, func(o *Options) { o.Timing = Timing{} })
		killed := time.Now()
		net.cut(1, nodes[4])
		for _, n := range nodes[:4] {
			eventually(b, "death known", func() bool { return n.edge("e4").Status == federation.EdgeDead })
		}
		all = append(all, time.Since(killed))
		for _, n := range nodes {
			n.shutdown(b)
		}
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(all[len(all)-1].Milliseconds()), "max-ms")
}

// The registry's edges come out of a map: another order is no news, and must not
// have the absent ones tried without the pause between two attempts.
func TestKnownAddressesInAnotherOrderAreNoNews(t *testing.T) {
	g, err := New(Options{Self: federation.Edge{ID: "e0", Incarnation: 1}, Bind: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	kicked := func() bool {
		select {
		case <-g.kick:
			return true
		default:
			return false
		}
	}
	g.SetKnown([]string{"10.0.0.2:7946", "10.0.0.1:7946"})
	if !kicked() {
		t.Error("new addresses are not tried")
	}
	g.SetKnown([]string{"10.0.0.1:7946", "10.0.0.2:7946"})
	if kicked() {
		t.Error("the same addresses count as new")
	}
	g.SetKnown([]string{"10.0.0.1:7946", "10.0.0.3:7946"})
	if !kicked() {
		t.Error("a new address is not tried")
	}
}

// An edge whose packets come, while none gets to it, is dead by membership and
// heard all the same; one that is silent is not.
func TestOneWayEdgesAreHeard(t *testing.T) {
	net := newNetwork()
	// Regular beats, which memberlist sends the dead for a while, are seldom.
	nodes := startCluster(t, 2, net, func(o *Options) { o.Timing.RefreshInterval = time.Hour })
	net.cutOneWay(nodes[1].gossip.Address(), nodes[0].gossip.Address())
	eventually(t, "both hold each other for dead", func() bool {
		return nodes[0].edge("e1").Status == federation.EdgeDead && nodes[1].edge("e0").Status == federation.EdgeDead
	})
	cut := time.Now()
	eventually(t, "e0 is heard", func() bool { return nodes[1].gossip.Heard("e0").Sub(cut) > 2*SignInterval })
	if heard := nodes[0].gossip.Heard("e1"); heard.After(cut) {
		t.Errorf("e1 was heard %s after it was cut off", heard.Sub(cut))
	}
	if nodes[0].gossip.Heard("e0") != (time.Time{}) || nodes[0].gossip.Heard("nobody") != (time.Time{}) {
		t.Error("heard of who cannot be")
	}
}
