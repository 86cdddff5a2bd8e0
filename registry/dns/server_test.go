package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// record is one of a zone, in few words.
type record struct {
	kind  string // A, AAAA, CNAME
	value string
	ttl   uint32
}

// zone is what a server answers with.
type zone struct {
	records map[string][]record // by name with a final dot; a name without records has none
	// soaTTL, when not 0, goes into the SOA record beside an absence.
	soaTTL uint32
	// broken are answered SERVFAIL: names, or kinds of question.
	broken []string
	// partial leaves the targets of aliases to be asked for.
	partial bool
	// refer answers as a server that knows only whom else to ask.
	refer bool
	// truncate sends no record by UDP.
	truncate bool
	// strangers go out by UDP before the answer: they are not for us.
	strangers bool
}

// server is a DNS server on UDP and TCP. A real resolver would not do: TTLs,
// failures and lies must be steered.
type server struct {
	addr netip.AddrPort

	mu    sync.Mutex
	zone  zone     // guarded by mu
	asked []string // guarded by mu: "udp A name."
}

func (s *server) set(z zone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z.records = maps.Clone(z.records) // tests change theirs for the next zone
	s.zone = z
}

// take returns what was asked since, sorted, because both families are asked
// at once.
func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	slices.Sort(asked)
	return asked
}

func startServer(t *testing.T) *server {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for { // until a port is free for both
		var err error
		if tcp, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp4", tcp.Addr().String()); err == nil {
			break
		}
		tcp.Close()
	}
	s := &server{addr: netip.MustParseAddrPort(tcp.Addr().String())}
	var serving sync.WaitGroup
	serving.Go(func() { s.serveUDP(t, udp) })
	serving.Go(func() { s.serveTCP(t, tcp) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		serving.Wait()
	})
	return s
}

func (s *server) serveUDP(t *testing.T, conn net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, peer, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		for _, message := range s.answer(t, "udp", buffer[:n]) {
			if _, err := conn.WriteTo(message, peer); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	}
}

func (s *server) serveTCP(t *testing.T, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		var length [2]byte
		_, err = io.ReadFull(conn, length[:])
		message := make([]byte, binary.BigEndian.Uint16(length[:]))
		if err == nil {
			_, err = io.ReadFull(conn, message)
		}
		if err == nil {
			answer := s.answer(t, "tcp", message)[0]
			_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		}
		if err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

func (s *server) answer(t *testing.T, network string, question []byte) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		t.Errorf("question: %v, %d of them", err, len(m.Questions))
		return [][]byte{nil}
	}
	q := m.Questions[0]
	kind := strings.TrimPrefix(q.Type.String(), "Type")
	s.mu.Lock()
	z := s.zone
	s.asked = append(s.asked, network+" "+kind+" "+q.Name.String())
	s.mu.Unlock()

	out := dnsmessage.Message{
		Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: !z.refer},
		// As a resolver that does not care about case.
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(strings.ToUpper(q.Name.String())), Type: q.Type, Class: q.Class}},
	}
	z.truncate = z.truncate && network == "udp"
	z.fill(&out, q.Name.String(), kind)
	var packed [][]byte
	pack := func(m dnsmessage.Message) {
		bytes, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		packed = append(packed, bytes)
	}
	if z.strangers && network == "udp" {
		lie := out
		lie.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{6, 6, 6, 6}},
		}}
		lie.ID++
		pack(lie) // another id
		lie.ID--
		lie.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("other.example."), Type: q.Type, Class: q.Class}}
		pack(lie) // another name
		lie.Questions = []dnsmessage.Question{{Name: q.Name, Type: dnsmessage.TypeMX, Class: q.Class}}
		pack(lie) // another type
		lie.Questions, lie.Response = out.Questions, false
		pack(lie) // a question
		packed = append(packed, []byte{1, 2, 3})
	}
	pack(out)
	return packed
}

// fill writes the answer to a question.
func (z *zone) fill(out *dnsmessage.Message, name, kind string) {
	if slices.Contains(z.broken, name) || slices.Contains(z.broken, kind) {
		out.RCode = dnsmessage.RCodeServerFailure
		return
	}
	if z.truncate {
		out.Truncated = true
		return
	}
	found, exists := false, true
	for range 40 {
		var records []record
		if records, exists = z.records[name]; !exists {
			break
		}
		next := ""
		for _, r := range records {
			header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: r.ttl}
			switch {
			case r.kind == "CNAME":
				next = r.value
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(next)}})
			case r.kind == kind && kind == "A":
				found = true
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: netip.MustParseAddr(r.value).As4()}})
			case r.kind == kind:
				found = true
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(r.value).As16()}})
			}
		}
		if next == "" {
			break
		}
		if z.partial {
			return
		}
		name = next
	}
	if !exists {
		out.RCode = dnsmessage.RCodeNameError
	}
	if !found && z.soaTTL > 0 {
		out.Authorities = append(out.Authorities, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example."), Class: dnsmessage.ClassINET, TTL: 86400},
			Body: &dnsmessage.SOAResource{
				NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("mail.example."), MinTTL: z.soaTTL,
			},
		})
	}
}

// silentServer takes questions and answers none.
type silentServer struct {
	addr  netip.AddrPort
	asked chan struct{} // closed at the first question
}

func startSilentServer(t *testing.T) *silentServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silentServer{addr: netip.MustParseAddrPort(conn.LocalAddr().String()), asked: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		defer close(s.asked)
		_, _, _ = conn.ReadFrom(make([]byte, 512))
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return s
}
