package dns

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	// Its TCP half was free; nothing of it is left behind.
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
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
	o.Domain = strings.Repeat("a.", 19) + strings.Repeat("b", 61)
	long := quiet(t, o, share(strings.Repeat("c", 63), 1, "203.0.113.1"))
	r := ask(t, long, question("_http._tcp.gateway."+o.Domain+".", wire.TypeSRV))
	if len(r.Answer) != 1 || r.Truncated || len(ask(t, long, question(r.Answer[0].(*wire.SRV).Target, wire.TypeA)).Answer) != 1 {
		t.Errorf("the longest domain: %v", r)
	}
	if r := ask(t, long, question("nobody.gateway."+o.Domain+".", wire.TypeA)); r.Truncated || len(r.Ns) != 1 {
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

// framed is a message as it goes by TCP.
func framed(t testing.TB, m *wire.Msg) []byte {
	t.Helper()
	b := pack(t, m)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func readFramed(t *testing.T, r io.Reader) *wire.Msg {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("half an answer: %v", err)
	}
	return unpack(t, b)
}

// Several questions at once, in pieces of any size, are answered in order.
func TestPipelining(t *testing.T) {
	s := serve(t, options(), three()...)
	conn, err := net.Dial("tcp", s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var all []byte
	for id := range uint16(50) {
		q := question([]string{gateway, srv, "example.org."}[id%3], wire.TypeSRV)
		q.Id = id
		all = append(all, framed(t, q)...)
	}
	go func() {
		for len(all) > 0 {
			n := min(7, len(all))
			if _, err := conn.Write(all[:n]); err != nil {
				t.Error(err)
				return
			}
			all = all[n:]
		}
	}()
	for id := range uint16(50) {
		if r := readFramed(t, conn); r.Id != id || r.Rcode != []int{wire.RcodeSuccess, wire.RcodeSuccess, wire.RcodeRefused}[id%3] {
			t.Errorf("answer %d: %v", id, r)
		}
	}
}

func TestTCPNonsenseEndsTheConnection(t *testing.T) {
	s := serve(t, options(), three()...)
	for name, msg := range map[string][]byte{
		"longer than any question": append([]byte{0x10, 0x01}, make([]byte, 4097)...),
		"too short":                {0, 3, 1, 2, 3},
		"nothing":                  {0, 0},
		"an answer":                {0, 12, 1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		conn, err := net.Dial("tcp", s.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(msg)
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		_ = conn.Close()
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error) //nolint:errorlint // straight from the connection
	return ok && timeout.Timeout()
}

// One address holds so many connections, all together so many; the others are
// closed at once, UDP goes on, and who left makes room.
func TestConnectionLimits(t *testing.T) {
	s := serve(t, options(), three()...)
	server := s.Address().String()
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
		conn, err := d.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	served := func(conn net.Conn) bool {
		t.Helper()
		if _, err := conn.Write(framed(t, question(gateway, wire.TypeA))); err != nil {
			return false
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return false
		}
		_, err := io.ReadFull(conn, make([]byte, binary.BigEndian.Uint16(size[:])))
		return err == nil
	}
	hold := func(from string) bool {
		t.Helper()
		conn := dial(from)
		held = append(held, conn)
		return served(conn)
	}
	for client := range maxConnections / maxPerClient {
		from := "127.0.1." + strconv.Itoa(client+1)
		for i := range maxPerClient {
			if !hold(from) {
				t.Fatalf("connection %d of %s is refused", i, from)
			}
		}
		if client == 0 && hold(from) {
			t.Error("one address holds more than its part")
		}
	}
	if hold("127.0.2.1") {
		t.Error("more connections than allowed")
	}
	if r := exchange(t, "udp", server, question(gateway, wire.TypeA)); len(r.Answer) != 1 {
		t.Errorf("UDP beside full TCP: %v", r)
	}
	if got := s.metrics.drops[dropConnection].Load(); got != 2 {
		t.Errorf("%d connections are counted as refused, want 2", got)
	}
	_ = held[0].Close()
	until(t, "room for another", func() bool { return hold("127.0.2.1") })
}

// pipe is a connection of a client with an address.
type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5"))
}

// slow measures how long a server bears with a client, by a clock of its own.
func slow(t *testing.T, client func(conn net.Conn)) (lasted time.Duration, s *Server) {
	synctest.Test(t, func(t *testing.T) {
		s = quiet(t, options(), three()...)
		theirs, ours := net.Pipe()
		var other sync.WaitGroup
		other.Go(func() {
			client(theirs)
			_ = theirs.Close()
		})
		begun := time.Now()
		s.serveConn(pipe{ours})
		lasted = time.Since(begun)
		other.Wait()
	})
	return lasted, s
}

func TestSlowClientsRunOutOfTime(t *testing.T) {
	q := framed(t, question(gateway, wire.TypeA))
	for name, c := range map[string]struct {
		client func(net.Conn)
		want   time.Duration
		slow   uint64
	}{
		"says nothing": {func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }, patience, 0},
		"one byte a second": {func(conn net.Conn) {
			for _, b := range q {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, patience, 1},
		"takes no answer": {func(conn net.Conn) { _, _ = conn.Write(q); time.Sleep(time.Hour) }, patience, 0},
		"asks for ever": {func(conn net.Conn) {
			for {
				if _, err := conn.Write(q); err != nil {
					return
				}
				readFramed(t, conn)
				time.Sleep(4 * time.Second)
			}
		}, maxLifetime, 0},
		"ends": {func(conn net.Conn) { _, _ = conn.Write(q); readFramed(t, conn) }, 0, 0},
	} {
		lasted, s := slow(t, c.client)
		if lasted != c.want || s.metrics.drops[dropSlow].Load() != c.slow || s.metrics.open.Load() != 0 || len(s.clients.counts) != 0 {
			t.Errorf("%s: lasted %s, want %s; %d counted as slow, %d open", name, lasted, c.want, s.metrics.drops[dropSlow].Load(), s.metrics.open.Load())
		}
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
	until(t, "the connection", func() bool { return s.metrics.open.Load() == 1 })
	begun := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if lasted := time.Since(begun); lasted >= patience {
		t.Errorf("the end waited %s for a client", lasted)
	}
	if _, err := net.DialTimeout("tcp", s.Address().String(), time.Second); err == nil {
		t.Error("it still accepts")
	}
}

func TestMetrics(t *testing.T) {
	o := options()
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	s := serve(t, o, three()...)
	server := s.Address().String()
	series := func() (n int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			n += len(f.Metric)
		}
		return n
	}
	all := series()
	for _, q := range []*wire.Msg{
		question(gateway, wire.TypeA), question(gateway, wire.TypeA), question(gateway, wire.TypeTXT),
		question(srv, wire.TypeSRV), question("x.example.test.", wire.TypeA), question("other.org.", 65281),
	} {
		exchange(t, "udp", server, q)
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, msg := range []string{"x", "an\x80wer------", "\x01\x02\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if _, err := conn.Write([]byte(msg)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all is counted", func() bool { return s.metrics.queries[kindOther][codeNotImplemented].Load() == 1 })
	got := make(map[string]float64)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "grayfed_dns_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v > 0 {
				got[name] = v
			}
		}
	}
	for name, v := range map[string]float64{
		"queries_total NOERROR A": 2, "queries_total NODATA other": 1, "queries_total NOERROR SRV": 1,
		"queries_total NXDOMAIN A": 1, "queries_total REFUSED other": 1, "queries_total NOTIMP other": 1,
		"drops_total short": 1, "drops_total response": 1, "entries": 3,
	} {
		if got[name] != v {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("counted besides: %v", got)
	}
	if after := series(); after != all {
		t.Errorf("%d series, before the queries %d: strangers make them", after, all)
	}
}
