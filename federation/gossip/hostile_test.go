package gossip

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/grayfed/grayfed/federation"
)

// Strangers who do not have the key write whatever they like to both sockets.
func TestStrangersChangeNothing(t *testing.T) {
	for name, keys := range map[string][][]byte{"encrypted": {testKey}, "loopback without key": nil} {
		t.Run(name, func(t *testing.T) {
			nodes := startCluster(t, 2, nil, func(o *Options) { o.Keys = keys })
			nodes[1].gossip.PublishHealth(unhealthy(subject, 1))
			eventually(t, "record known", func() bool { return nodes[0].record("e1", subject).Seq == 1 })
			before := nodes[0].gossip.Stats()
			conn, err := net.Dial("udp", nodes[0].gossip.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			random := rand.New(rand.NewPCG(1, 2))
			junk := func() []byte {
				b := make([]byte, 1+random.IntN(1200))
				for i := range b {
					b[i] = byte(random.Uint32())
				}
				b[0] = byte(random.IntN(16)) // memberlist's message types
				return b
			}
			for range 500 {
				if _, err := conn.Write(junk()); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				stream, err := net.Dial("tcp", nodes[0].gossip.Address())
				if err != nil {
					t.Fatal(err)
				}
				_, _ = stream.Write(junk()) // it may have been closed on us
				_ = stream.Close()
			}
			eventually(t, "counted", func() bool { return nodes[0].gossip.Stats().Rejected > before.Rejected+100 })
			// It still takes part, and knows what it knew.
			nodes[1].gossip.SetState(State{Revision: 99})
			eventually(t, "still in touch", func() bool { return nodes[0].edge("e1").Revision == 99 && nodes[1].gossip.Alive("e0") })
			if r := nodes[0].record("e1", subject); r.Status != federation.Unhealthy {
				t.Errorf("record is %+v", r)
			}
			for _, e := range nodes[0].gossip.Edges() {
				if e.ID != "e0" && e.ID != "e1" {
					t.Errorf("an edge out of nothing: %+v", e)
				}
			}
		})
	}
}

// An edge of the federation sends what does not decode, what is of a later
// schema, and what claims to be said by others.
func TestBadMessagesOfAMember(t *testing.T) {
	nodes := startCluster(t, 3, nil, nil)
	nodes[2].gossip.PublishHealth(unhealthy(subject, 1))
	eventually(t, "record known", func() bool { return nodes[0].record("e2", subject).Seq == 1 })
	list := nodes[1].gossip.list.Load()
	var to *memberlist.Node
	for _, n := range list.Members() {
		if n.Name == "e0" {
			to = n
		}
	}
	send := func(message []byte) {
		if err := list.SendReliable(to, message); err != nil {
			t.Fatal(err)
		}
	}
	forged := delta{origin: origin{edge: "e2", incarnation: 1 << 40}, record: testRecord("u9", 1<<60, federation.Unhealthy)}
	stranger := delta{origin: origin{edge: "nobody", incarnation: 1}, record: testRecord("u9", 1, federation.Unhealthy)}
	self := delta{origin: nodes[0].gossip.own.origin, record: testRecord("u9", 1<<60, federation.Unhealthy)}
	name := nodes[0].gossip.name
	send([]byte{schema, byte(kindBeat), 1})
	send(append(newMessage(kindBeat, name), 0xff, 0xff))
	send([]byte{schema + 1, byte(kindBeat), 0, 0, 0, 0, 1, 1, 'x'})
	send(newMessage(kindBeat, name+1))
	send(newMessage(200, name))
	send(forged.append(newMessage(kindDelta, name)))
	send(stranger.append(newMessage(kindDelta, name)))
	send(self.append(newMessage(kindDelta, name)))
	eventually(t, "all counted", func() bool {
		s := nodes[0].gossip.Stats()
		return s.Malformed == 2 && s.Unsupported == 2 && s.Foreign == 1 && s.Unknown >= 2 && s.Stale >= 1
	})
	other := federation.Key{Service: "user-service", ID: "u9"}
	for _, observer := range []string{"e0", "e1", "e2", "nobody"} {
		if r := nodes[0].record(observer, other); r.Seq != 0 {
			t.Errorf("taken: %+v", r)
		}
	}
	if r := nodes[0].record("e2", subject); r.Status != federation.Unhealthy {
		t.Errorf("record is %+v", r)
	}
}

// A message with fields of a later version is passed on with them.
func TestUnknownFieldsPassThrough(t *testing.T) {
	nodes := startCluster(t, 3, nil, nil)
	r := testRecord("u1", 1, federation.Unhealthy)
	r.raw = appendText(r.raw, 99, "of a later version")
	d := delta{origin: nodes[1].gossip.own.origin, record: r}
	list := nodes[1].gossip.list.Load()
	for _, n := range list.Members() {
		if n.Name == "e0" {
			if err := list.SendReliable(n, d.append(newMessage(kindDelta, nodes[1].gossip.name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	g := nodes[2].gossip // was told by e0 only
	eventually(t, "passed on whole", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		p := g.peers["e1"]
		return p != nil && string(p.deviations.held[r.key].raw) == string(r.raw)
	})
}

func TestStreamsAreBounded(t *testing.T) {
	n0 := startNode(t, "e0", func(o *Options) { o.MaxStreams, o.Timing.StreamTimeout = 4, 10*time.Second })
	for range 10 {
		conn, err := net.Dial("tcp", n0.gossip.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // says nothing
	}
	eventually(t, "more than the limit are closed", func() bool { return n0.gossip.Stats().StreamsFull == 6 })
}
