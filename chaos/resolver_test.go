package chaos

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers with what reply makes of each query; nil: nothing.
func nameServer(t *testing.T, reply func(q dnsmessage.Message) [][]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buffer[:n]) != nil {
				continue
			}
			for _, text := range reply(q) {
				_, _ = conn.WriteTo(text, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

// says packs an answer to q with an address.
func says(t *testing.T, q dnsmessage.Message, ttl uint32, text string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true}, Questions: q.Questions}
	if text != "" {
		addr := netip.MustParseAddr(text)
		header := dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: ttl}
		if addr.Is4() == (q.Questions[0].Type == dnsmessage.TypeA) {
			var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: addr.As16()}
			if addr.Is4() {
				body = &dnsmessage.AResource{A: addr.As4()}
			}
			m.Answers = []dnsmessage.Resource{{Header: header, Body: body}}
		}
	}
	packed, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return packed
}

func testResolver(t *testing.T, servers ...string) *resolver {
	t.Helper()
	target := testTarget("az1", "az2")
	target.Edges[0].Data, target.Edges[1].Data = "http://10.0.0.1:80", "http://10.0.0.2:80"
	target.Edges[1].Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")}
	target.DNS = DNS{Servers: servers, Name: "gateway.test"}
	all, err := newResolvers(target)
	if err != nil {
		t.Fatal(err)
	}
	return all.all[0]
}

// TestResolverHonoursTTL: it asks again when the TTL is over, and not before.
func TestResolverHonoursTTL(t *testing.T) {
	var asked atomic.Int64
	server := nameServer(t, func(q dnsmessage.Message) [][]byte {
		asked.Add(1)
		if q.Questions[0].Name.String() != "gateway.test." {
			t.Errorf("asked for %s", q.Questions[0].Name)
		}
		return [][]byte{says(t, q, 3600, "10.0.0.2")}
	})
	r := testResolver(t, server)
	for range 5 {
		if edge, err := r.edge(t.Context()); err != nil || edge != 1 {
			t.Fatalf("edge %d, %v", edge, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("%d queries within the TTL, want 1", asked.Load())
	}
	if left := time.Until(r.expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("a TTL of an hour is kept for %s", left)
	}
	r.expires = time.Now()
	if _, err := r.edge(t.Context()); err != nil || asked.Load() != 2 {
		t.Errorf("%d queries after the TTL, %v", asked.Load(), err)
	}
}

func TestResolverAsksTheNext(t *testing.T) {
	var silent, well atomic.Int64
	first := nameServer(t, func(dnsmessage.Message) [][]byte { silent.Add(1); return nil })
	second := nameServer(t, func(q dnsmessage.Message) [][]byte { well.Add(1); return [][]byte{says(t, q, 0, "10.0.0.1")} })
	r := testResolver(t, first, second)
	for range 3 {
		if edge, err := r.edge(t.Context()); err != nil || edge != 0 {
			t.Fatalf("edge %d, %v", edge, err)
		}
	}
	if silent.Load() != 1 || well.Load() != 3 {
		t.Errorf("the silent server was asked %d times, the other %d; want 1 and 3", silent.Load(), well.Load())
	}
}

func TestResolverRefuses(t *testing.T) {
	failing := func(code dnsmessage.RCode) func(dnsmessage.Message) [][]byte {
		return func(q dnsmessage.Message) [][]byte {
			m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RCode: code}, Questions: q.Questions}
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			return [][]byte{packed}
		}
	}
	for _, c := range []struct {
		name  string
		reply func(dnsmessage.Message) [][]byte
		says  string
	}{
		{"an error", failing(dnsmessage.RCodeServerFailure), "ServerFailure"},
		{"an address that is no edge's", func(q dnsmessage.Message) [][]byte { return [][]byte{says(t, q, 1, "10.9.9.9")} }, "10.9.9.9"},
		{"an empty answer", func(q dnsmessage.Message) [][]byte { return [][]byte{says(t, q, 1, "")} }, "empty"},
		{"nothing", func(dnsmessage.Message) [][]byte { return nil }, "no server answers"},
		{"what answers another query", func(q dnsmessage.Message) [][]byte { q.ID++; return [][]byte{says(t, q, 1, "10.0.0.1"), {1, 2}} }, "no server answers"},
	} {
		if _, err := testResolver(t, nameServer(t, c.reply)).edge(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	mixed := nameServer(t, func(q dnsmessage.Message) [][]byte {
		other := q
		other.ID++
		return [][]byte{says(t, other, 1, "10.0.0.2"), says(t, q, 1, "10.0.0.1")}
	})
	if edge, err := testResolver(t, mixed).edge(t.Context()); err != nil || edge != 0 {
		t.Errorf("behind an answer to another query: edge %d, %v", edge, err)
	}
	six := nameServer(t, func(q dnsmessage.Message) [][]byte { return [][]byte{says(t, q, 1, "2001:db8::2")} })
	if edge, err := testResolver(t, six).edge(t.Context()); err != nil || edge != 1 {
		t.Errorf("IPv6 only: edge %d, %v", edge, err)
	}
}

// TestEdgesShareNoAddress: DNS could not tell them apart.
func TestEdgesShareNoAddress(t *testing.T) {
	target := testTarget("az1", "az2")
	target.Edges[0].Data, target.Edges[1].Data = "http://10.0.0.1:80", "http://10.0.0.1:81"
	if _, err := target.addresses(); err == nil || !strings.Contains(err.Error(), "az1 and az2 have the same address") {
		t.Errorf("%v", err)
	}
	target.Edges[1].Data = "http://edge.test:80"
	if _, err := target.addresses(); err == nil || !strings.Contains(err.Error(), "az2") {
		t.Errorf("%v", err)
	}
}

// TestClientsTakeTurns, each with its own cache.
func TestClientsTakeTurns(t *testing.T) {
	all := &resolvers{}
	for n := range 3 {
		all.all = append(all.all, &resolver{known: n % 2, expires: time.Now().Add(time.Hour)})
	}
	for n := range 9 {
		if edge, err := all.next(t.Context()); err != nil || edge != n%3%2 {
			t.Errorf("request %d goes to edge %d, %v", n, edge, err)
		}
	}
}
