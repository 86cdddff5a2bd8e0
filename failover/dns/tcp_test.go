package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

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
