package dns

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// BenchmarkReply is the cost of an answer without the network.
func BenchmarkReply(b *testing.B) {
	o := options()
	o.Rand = nil
	s := quiet(b, o, three()...)
	edns := question(gateway, wire.TypeA)
	edns.SetEdns0(1232, false)
	for name, q := range map[string]*wire.Msg{
		"A": question(gateway, wire.TypeA), "A-EDNS": edns, "SRV": question(srv, wire.TypeSRV), "NXDOMAIN": question("x."+gateway, wire.TypeA),
	} {
		msg := pack(b, q)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			out := make([]byte, 0, maxUDP)
			for b.Loop() {
				out = s.reply(out[:0], msg, true)
			}
		})
	}
}

// BenchmarkSet is the cost of a change.
func BenchmarkSet(b *testing.B) {
	s := quiet(b, options())
	shares := three()
	b.ReportAllocs()
	for b.Loop() {
		s.Set(shares)
	}
}

const (
	benchClients = 8
	benchWindow  = 4 // questions that a client has on the way
	benchRounds  = 5
	benchRound   = 400 * time.Millisecond
)

// BenchmarkAgainstBare loads this server and a bare responder on miekg/dns in
// turn, from the same clients, with the same question and an answer that differs
// in the address alone. It reports the medians of their queries/s and the ratio,
// which is to be at least 0.7.
func BenchmarkAgainstBare(b *testing.B) {
	for _, size := range []uint16{0, 1232} {
		name := "plain"
		q := question(gateway, wire.TypeA)
		if size > 0 {
			name = "EDNS"
			q.SetEdns0(size, false)
		}
		msg := pack(b, q)
		b.Run(name, func(b *testing.B) {
			o := options()
			o.Rand = nil
			ours := serve(b, o, three()...).Address().String()
			theirs := bare(b)
			if a, other := masked(send(b, ours, msg)), masked(send(b, theirs, msg)); a != other {
				b.Fatalf("answers of different shapes:\n%s\n%s", a, other)
			}
			var mine, others []float64
			for b.Loop() {
				for range benchRounds {
					mine = append(mine, load(b, ours, msg))
					others = append(others, load(b, theirs, msg))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(mine), "queries/s")
			b.ReportMetric(median(others), "bare-queries/s")
			b.ReportMetric(median(mine)/median(others), "ratio")
		})
	}
}

// masked is a message without what may differ: the addresses that are answered.
func masked(r *wire.Msg) string {
	for _, rr := range r.Answer {
		rr.(*wire.A).A = net.IPv4zero
	}
	return r.String()
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// bare is what the library's examples show: one answer, nothing looked up.
func bare(b *testing.B) string {
	b.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := &wire.A{Hdr: header(gateway, wire.TypeA, 1), A: net.IPv4(203, 0, 113, 1)}
	started := make(chan struct{})
	server := &wire.Server{
		PacketConn:        conn,
		NotifyStartedFunc: func() { close(started) },
		Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
			r := new(wire.Msg)
			r.SetReply(q)
			r.Authoritative = true
			r.Compress = true
			r.Answer = []wire.RR{address}
			if q.IsEdns0() != nil {
				r.SetEdns0(1232, false)
			}
			_ = w.WriteMsg(r)
		}),
	}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-started
	b.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			b.Error(err)
		}
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return conn.LocalAddr().String()
}

func send(b *testing.B, server string, msg []byte) *wire.Msg {
	b.Helper()
	conn, err := net.Dial("udp", server)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(msg); err != nil {
		b.Fatal(err)
	}
	reply := make([]byte, maxUDP)
	n, err := conn.Read(reply)
	if err != nil {
		b.Fatal(err)
	}
	return unpack(b, reply[:n])
}

// load returns how many questions a second a server answers to clients that
// keep a few on the way each.
func load(b *testing.B, server string, msg []byte) float64 {
	b.Helper()
	counts := make([]int, benchClients)
	errs := make([]error, benchClients)
	var clients sync.WaitGroup
	begun := time.Now()
	for i := range benchClients {
		clients.Go(func() { counts[i], errs[i] = client(server, msg, begun.Add(benchRound)) })
	}
	clients.Wait()
	lasted := time.Since(begun)
	answers := 0
	for i, n := range counts {
		if errs[i] != nil {
			b.Fatal(errs[i])
		}
		answers += n
	}
	return float64(answers) / lasted.Seconds()
}

func client(server string, msg []byte, end time.Time) (answers int, err error) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(end.Add(5 * time.Second))
	for range benchWindow {
		if _, err := conn.Write(msg); err != nil {
			return 0, err
		}
	}
	reply := make([]byte, maxUDP)
	for time.Now().Before(end) {
		n, err := conn.Read(reply)
		if err != nil {
			return 0, err
		}
		if n < len(msg)+16 || reply[3]&0xf != 0 || reply[7] != 1 {
			return 0, fmt.Errorf("answer %x", reply[:n])
		}
		answers++
		if _, err := conn.Write(msg); err != nil {
			return 0, err
		}
	}
	return answers, nil
}
