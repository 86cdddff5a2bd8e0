package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// network cuts real sockets: what a cut edge sends to another side, by either
// transport, does not arrive.
type network struct {
	mu    sync.Mutex
	sides map[string]int     // mu; by address; edges talk within one side
	ways  map[[2]string]bool // mu; cut one way, from and to
}

func newNetwork() *network {
	return &network{sides: make(map[string]int), ways: make(map[[2]string]bool)}
}

// cutOneWay drops what goes from one address to another.
func (n *network) cutOneWay(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[[2]string{from, to}] = true
}

func (n *network) cut(side int, nodes ...*node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range nodes {
		n.sides[node.gossip.Address()] = side
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.sides)
	clear(n.ways)
}

func (n *network) cuts(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sides[a] != n.sides[b] || n.ways[[2]string{a, b}]
}

type cutTransport struct {
	memberlist.NodeAwareTransport
	network *network
	self    func() string
}

var errCut = errors.New("network is cut")

func (c *cutTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.network.cuts(c.self(), a.Addr) {
		return time.Now(), nil
	}
	return c.NodeAwareTransport.WriteToAddress(b, a)
}

func (c *cutTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	// A connection needs both ways.
	if c.network.cuts(c.self(), a.Addr) || c.network.cuts(a.Addr, c.self()) {
		return nil, errCut
	}
	return c.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

func (c *cutTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// node is one running edge and what its callbacks were told.
type node struct {
	gossip *Gossip
	stop   context.CancelFunc
	done   chan error

	mu         sync.Mutex
	health     map[string]federation.HealthRecord // mu; by observer and subject
	heartbeats []federation.Key                   // mu
	relays     []federation.Key                   // mu
	loads      map[string]int64                   // mu
	edges      []federation.Edge                  // mu
}

func (n *node) record(observer string, key federation.Key) federation.HealthRecord {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.health[observer+" "+key.String()]
}

var incarnations atomic.Uint64

func startNode(t testing.TB, id string, change func(*Options)) *node {
	t.Helper()
	n := &node{done: make(chan error, 1), health: make(map[string]federation.HealthRecord), loads: make(map[string]int64)}
	opts := Options{
		Self: federation.Edge{
			ID: id, Locality: federation.Locality{Zone: "zone-" + id, Region: "east"},
			Incarnation: incarnations.Add(1), Data: "127.0.0.1:1", Admin: "http://127.0.0.1:2",
		},
		Bind: "127.0.0.1:0",
		Keys: [][]byte{testKey},
		Timing: Timing{
			RefreshInterval: 300 * time.Millisecond, RejoinMin: 100 * time.Millisecond, RejoinMax: 300 * time.Millisecond,
			StreamTimeout: time.Second,
		},
		Log: slog.New(slog.DiscardHandler),
		OnHealth: func(records []federation.HealthRecord) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, r := range records {
				n.health[r.Observer+" "+r.Subject.String()] = r
			}
		},
		OnHeartbeat: func(key federation.Key) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.heartbeats = append(n.heartbeats, key)
		},
		OnRelay: func(key federation.Key) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.relays = append(n.relays, key)
		},
		OnLoad: func(edge string, key federation.Key, inFlight int64) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.loads[edge+" "+key.String()] = inFlight
		},
		OnEdge: func(edge federation.Edge) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.edges = append(n.edges, edge)
			if edge.Status == federation.EdgeDead || edge.Status == federation.EdgeLeft {
				for name, r := range n.health {
					if r.Observer == edge.ID {
						delete(n.health, name)
					}
				}
			}
		},
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if n.gossip, err = New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- n.gossip.Run(ctx) }()
	select {
	case <-n.gossip.Ready():
	case err := <-n.done:
		cancel()
		t.Fatalf("edge %s: %v", id, err)
	}
	t.Cleanup(func() { n.shutdown(t) })
	return n
}

// shutdown ends the node and waits for it; it may be called twice.
func (n *node) shutdown(t testing.TB) {
	n.stop()
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
		n.done <- nil
	case <-time.After(10 * time.Second):
		t.Error("run did not end within 10s of its context")
	}
}

// startCluster starts edges e0, e1, ... that know the first one's address.
func startCluster(t testing.TB, count int, net *network, change func(*Options)) []*node {
	t.Helper()
	var nodes []*node
	for i := range count {
		n := startNode(t, fmt.Sprintf("e%d", i), func(o *Options) {
			if i > 0 {
				o.Peers = []string{nodes[0].gossip.Address()}
			}
			if net != nil {
				o.wrap = net.wrap()
			}
			if change != nil {
				change(o)
			}
		})
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		eventually(t, "all alive", func() bool { return n.alive(nodes...) })
	}
	return nodes
}

func (n *network) wrap() func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	return func(inner memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
		port := inner.(*transport).GetAutoBindPort()
		self := fmt.Sprintf("127.0.0.1:%d", port)
		return &cutTransport{NodeAwareTransport: inner, network: n, self: func() string { return self }}
	}
}

func (n *node) alive(others ...*node) bool {
	for _, o := range others {
		if !n.gossip.Alive(o.gossip.opts.Self.ID) {
			return false
		}
	}
	return true
}

func (n *node) edge(id string) federation.Edge {
	for _, e := range n.gossip.Edges() {
		if e.ID == id {
			return e
		}
	}
	return federation.Edge{}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

var subject = federation.Key{Service: "user-service", ID: "u1"}

func unhealthy(key federation.Key, seq uint64) federation.HealthRecord {
	return federation.HealthRecord{Subject: key, Seq: seq, Status: federation.Unhealthy, Reason: "probe: 3 failures"}
}

// slow makes connecting take a while.
func slow(n *network, d time.Duration) func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	return func(inner memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
		return &slowTransport{NodeAwareTransport: n.wrap()(inner), delay: d}
	}
}

type slowTransport struct {
	memberlist.NodeAwareTransport
	delay time.Duration
}

func (s *slowTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	time.Sleep(s.delay)
	return s.NodeAwareTransport.DialTimeout(addr, timeout)
}
