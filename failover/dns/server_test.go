package dns

import (
	"context"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
)

func exchange(t *testing.T, network, server string, q *wire.Msg) *wire.Msg {
	t.Helper()
	client := &wire.Client{Net: network, Timeout: 10 * time.Second}
	r, _, err := client.Exchange(q, server)
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return r
}

// What does not fit into UDP is had by TCP, on the same port.
func TestTruncatedThenTCP(t *testing.T) {
	var many []failover.Share
	for i := range 40 {
		many = append(many, share("edge-"+strconv.Itoa(i), 1, "203.0.113."+strconv.Itoa(i)))
	}
	s := serve(t, options(), many...)
	q := question(srv, wire.TypeSRV)
	q.SetEdns0(1232, false)
	if r := exchange(t, "udp", s.Address().String(), q); !r.Truncated || len(r.Answer) == 0 || len(r.Answer) >= 40 {
		t.Errorf("by UDP: %d records, truncated %v", len(r.Answer), r.Truncated)
	}
	if r := exchange(t, "tcp", s.Address().String(), q); r.Truncated || len(r.Answer) != 40 || len(told(r.Extra)) == 0 {
		t.Errorf("by TCP: %v", r)
	}
}

// On all addresses of a host, the answer comes from the one that was asked.
// Connected sockets hear nobody else.
func TestAnswersFromTheAddressThatWasAsked(t *testing.T) {
	for bind, asked := range map[string][]string{
		"0.0.0.0:0": {"127.0.0.1", "127.0.0.2", "127.1.2.3"},
		"[::]:0":    {"127.0.0.1", "127.0.0.2", "::1"},
	} {
		o := options()
		o.Address = bind
		s := serve(t, o, three()...)
		port := s.Address().(*net.UDPAddr).Port
		for _, host := range asked {
			for _, network := range []string{"udp", "tcp"} {
				r := exchange(t, network, net.JoinHostPort(host, strconv.Itoa(port)), question(gateway, wire.TypeA))
				if len(r.Answer) != 1 {
					t.Errorf("%s of %s: %v", host, bind, r)
				}
			}
		}
	}
}

func TestTakenPort(t *testing.T) {
	s := serve(t, options())
	o := options()
	o.Address = s.Address().String()
	if other, err := New(t.Context(), o); err == nil {
		_ = other.Close()
		t.Error("two servers on one port")
	}
	// Its TCP half was free; nothing of it is left behind. On an address of its
	// own no other's connection comes by that port.
	udp, err := net.ListenPacket("udp", "127.0.53.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	o.Address = udp.LocalAddr().String()
	if other, err := New(t.Context(), o); err == nil {
		_ = other.Close()
		t.Error("a server on a port whose UDP half is taken")
	}
	if tcp, err := net.Listen("tcp", o.Address); err != nil {
		t.Errorf("the TCP half stays taken: %v", err)
	} else {
		_ = tcp.Close()
	}
}

func TestOptions(t *testing.T) {
	o := options()
	o.Registerer = prometheus.NewRegistry()
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := New(t.Context(), o); err == nil {
		t.Error("two servers in one registry")
	}
	for name, change := range map[string]func(*Options){
		"address: \"localhost:53\"": func(o *Options) { o.Address = "localhost:53" },
		"address: \"\"":             func(o *Options) { o.Address = "" },
		"domain: \".\"":             func(o *Options) { o.Domain = "" },
		"domain: \"a..b.\"":         func(o *Options) { o.Domain = "a..b" },
		"domain: \"a b.\"":          func(o *Options) { o.Domain = "a b" },
		"domain: \"" + strings.Repeat("a.", 81) + "\"": func(o *Options) { o.Domain = strings.Repeat("a.", 81) },
		"ttl: -1s":                               func(o *Options) { o.TTL = -time.Second },
		"ttl: 1.5s":                              func(o *Options) { o.TTL = 1500 * time.Millisecond },
		"ttl: 1h0m1s":                            func(o *Options) { o.TTL = time.Hour + time.Second },
		"nameservers: 14":                        func(o *Options) { o.Nameservers = make([]string, 14) },
		"nameservers: \"-.\"":                    func(o *Options) { o.Nameservers = []string{"-"} },
		"nameservers: \"gateway.example.test.\"": func(o *Options) { o.Nameservers = []string{"gateway.Example.test"} },
		"nameservers: \"x.gateway.example.test.\"": func(o *Options) { o.Nameservers = []string{"x.gateway.example.test"} },
	} {
		o := options()
		change(&o)
		if s, err := New(t.Context(), o); err == nil {
			_ = s.Close()
			t.Errorf("%s is taken", name)
		} else if !strings.Contains(err.Error(), "dns "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The longest names that are allowed can be answered.
	o = options()
	o.Domain = strings.Repeat("a.", 49) + strings.Repeat("b", 61)
	long := quiet(t, o, share(strings.Repeat("c", 63), 1, "203.0.113.1"))
	r := ask(t, long, question("_http._tcp.gateway."+o.Domain+".", wire.TypeSRV))
	if len(r.Answer) != 1 || r.Truncated || len(ask(t, long, question(r.Answer[0].(*wire.SRV).Target, wire.TypeA)).Answer) != 1 {
		t.Errorf("the longest domain: %v", r)
	}
	q := question("nobody.gateway."+o.Domain+".", wire.TypeA)
	q.SetEdns0(1232, false)
	if r := ask(t, long, q); r.Truncated || len(r.Ns) != 1 {
		t.Errorf("the longest absence: %v", r)
	}
}

// Questions that come while nothing is known fail, so that resolvers ask
// another edge; from the first set on they are answered.
func TestSetAfterTheStart(t *testing.T) {
	s := serve(t, options())
	if r := exchange(t, "udp", s.Address().String(), question(gateway, wire.TypeA)); r.Rcode != wire.RcodeServerFailure {
		t.Errorf("before: %v", r)
	}
	s.Set(three())
	if r := exchange(t, "udp", s.Address().String(), question(gateway, wire.TypeA)); r.Rcode != wire.RcodeSuccess || len(r.Answer) != 1 {
		t.Errorf("after: %v", r)
	}
	s.Set(nil)
	if r := exchange(t, "udp", s.Address().String(), question(gateway, wire.TypeA)); r.Rcode != wire.RcodeServerFailure {
		t.Errorf("when nothing is left: %v", r)
	}
}

// A flood of garbage and of questions nobody waits for costs no memory and no
// goroutine, and does not end the service.
func TestFlood(t *testing.T) {
	s := serve(t, options(), three()...)
	server := s.Address().String()
	exchange(t, "udp", server, question(gateway, wire.TypeA)) // all is in place
	random := rand.New(rand.NewPCG(7, 7))
	good := pack(t, question(gateway, wire.TypeA))
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before, goroutines := used(), runtime.NumGoroutine()
	most := goroutines
	for i := range 100_000 {
		msg := make([]byte, random.IntN(600))
		if i%2 == 0 {
			msg = append(msg[:0], good...)
			for range random.IntN(4) {
				msg[random.IntN(len(msg))] = byte(random.Uint32())
			}
		} else {
			for at := range msg {
				msg[at] = byte(random.Uint32())
			}
		}
		_, _ = conn.Write(msg)
		if i%1000 == 0 {
			most = max(most, runtime.NumGoroutine())
		}
	}
	client := &wire.Client{Timeout: time.Second}
	until(t, "an answer after the flood", func() bool {
		r, _, err := client.Exchange(question(gateway, wire.TypeA), server)
		return err == nil && len(r.Answer) == 1
	})
	if after := used(); after > before+4<<20 {
		t.Errorf("the flood left %d bytes, before it were %d", after, before)
	}
	if most > goroutines+5 {
		t.Errorf("%d goroutines in the flood, %d before it", most, goroutines)
	}
}

// Open connections do not hold up the end.
func TestRunEnds(t *testing.T) {
	s, err := New(t.Context(), options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	until(t, "the connection", func() bool { return s.metrics.open.Load() == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s.metrics.drops[dropSlow].Load() != 0 {
		t.Error("the end waited for a client until its time was up")
	}
	if _, err := net.DialTimeout("tcp", s.Address().String(), time.Second); err == nil {
		t.Error("it still accepts")
	}
}
