package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/grayfed/grayfed/failover"
)

const (
	gateway = "gateway.example.test."
	srv     = "_http._tcp." + gateway
)

func share(edge string, weight int, addresses ...string) failover.Share {
	s := failover.Share{Entry: failover.Entry{Edge: edge, Zone: edge, Role: failover.Primary, Port: 8081}, Weight: weight}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return s
}

// three are two edges of both families and one of IPv4 alone.
func three() []failover.Share {
	return []failover.Share{
		share("az1", 50, "203.0.113.1", "2001:db8::1"),
		share("az2", 30, "203.0.113.2", "2001:db8::2"),
		share("az3", 20, "203.0.113.3"),
	}
}

// seeded is for one goroutine or many.
func seeded(seed uint64) func() uint64 {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, seed))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Uint64()
	}
}

func options() Options {
	return Options{Address: "127.0.0.1:0", Domain: "example.test", TTL: time.Second, Rand: seeded(1)}
}

// quiet is a server without sockets.
func quiet(t testing.TB, opts Options, shares ...failover.Share) *Server {
	t.Helper()
	s, err := newServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(shares)
	return s
}

// serve runs a server until the test ends.
func serve(t testing.TB, opts Options, shares ...failover.Share) *Server {
	t.Helper()
	s, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(shares)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	return s
}

func question(name string, qtype uint16) *wire.Msg {
	m := new(wire.Msg)
	m.SetQuestion(name, qtype)
	return m
}

func pack(t testing.TB, m *wire.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t testing.TB, b []byte) *wire.Msg {
	t.Helper()
	m := new(wire.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%x cannot be read: %v", b, err)
	}
	return m
}

// ask puts a question to the handler, as if by UDP.
func ask(t testing.TB, s *Server, m *wire.Msg) *wire.Msg {
	t.Helper()
	reply := s.reply(nil, pack(t, m), true)
	if reply == nil {
		t.Fatalf("no reply to %v", m)
	}
	return unpack(t, reply)
}

// told are records in few words: what they hold, of one section.
func told(records []wire.RR) string {
	var words []string
	for _, rr := range records {
		if rr.Header().Rrtype == wire.TypeOPT {
			continue
		}
		text := strings.Fields(strings.TrimPrefix(rr.String(), rr.Header().String()))
		words = append(words, strings.Join(append([]string{rr.Header().Name, wire.TypeToString[rr.Header().Rrtype]}, text...), " "))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !met(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
