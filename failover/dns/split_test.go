package dns

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/grayfed/grayfed/failover"
)

// split checks how often each address was answered against the weights of the
// edges that have it.
func split(t *testing.T, counts map[string]int, weights map[string]int) {
	t.Helper()
	var answers, weight int
	for _, n := range counts {
		answers += n
	}
	for _, w := range weights {
		weight += w
	}
	for address, n := range counts {
		share, want := 100*float64(n)/float64(answers), 100*float64(weights[address])/float64(weight)
		if math.Abs(share-want) > 1 {
			t.Errorf("%s has %.2f%% of %d answers, its weight %.2f%%", address, share, answers, want)
		}
	}
	if len(counts) != len(weights) {
		t.Errorf("answered were %v, weights are %v", counts, weights)
	}
}

func first(t testing.TB, r *wire.Msg) string {
	t.Helper()
	if r.Rcode != wire.RcodeSuccess || len(r.Answer) == 0 {
		t.Fatalf("no address: %v", r)
	}
	switch rr := r.Answer[0].(type) {
	case *wire.A:
		return rr.A.String()
	case *wire.AAAA:
		return rr.AAAA.String()
	}
	t.Fatalf("no address: %v", r)
	return ""
}

func TestSplit(t *testing.T) {
	for name, c := range map[string]struct {
		shares  []failover.Share
		qtype   uint16
		weights map[string]int
	}{
		"two halves":     {[]failover.Share{share("a", 50, "203.0.113.1"), share("b", 50, "203.0.113.2")}, wire.TypeA, map[string]int{"203.0.113.1": 1, "203.0.113.2": 1}},
		"three":          {three(), wire.TypeA, map[string]int{"203.0.113.1": 50, "203.0.113.2": 30, "203.0.113.3": 20}},
		"two with IPv6":  {three(), wire.TypeAAAA, map[string]int{"2001:db8::1": 50, "2001:db8::2": 30}},
		"one is left":    {three()[2:], wire.TypeA, map[string]int{"203.0.113.3": 1}},
		"a tenth":        {[]failover.Share{share("a", 5, "203.0.113.1"), share("b", 45, "203.0.113.2")}, wire.TypeA, map[string]int{"203.0.113.1": 10, "203.0.113.2": 90}},
		"one per mille":  {[]failover.Share{share("a", 1, "203.0.113.1"), share("b", 1000, "203.0.113.2")}, wire.TypeA, map[string]int{"203.0.113.1": 1, "203.0.113.2": 1000}},
		"more addresses": {[]failover.Share{share("a", 50, "203.0.113.1", "203.0.113.11", "203.0.113.21"), share("b", 50, "203.0.113.2")}, wire.TypeA, map[string]int{"203.0.113.1": 1, "203.0.113.11": 1, "203.0.113.21": 1, "203.0.113.2": 3}},
	} {
		s := quiet(t, options(), c.shares...)
		msg := pack(t, question(gateway, c.qtype))
		counts := make(map[string]int)
		var reply []byte
		for range 100_000 {
			reply = s.reply(reply[:0], msg, true)
			counts[first(t, unpack(t, reply))]++
		}
		t.Run(name, func(t *testing.T) { split(t, counts, c.weights) })
	}
}

// The same with real clients.
func TestSplitByUDP(t *testing.T) {
	s := serve(t, options(), three()...)
	var mu sync.Mutex
	counts := make(map[string]int)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			conn, err := wire.Dial("udp", s.Address().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			client := new(wire.Client)
			for range 5000 {
				r, _, err := client.ExchangeWithConn(question(gateway, wire.TypeA), conn)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				counts[told(r.Answer)]++
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	// One standard deviation of 20,000 answers is 0.35 points: three fit into
	// one point, and the seed is fixed.
	split(t, counts, map[string]int{gateway + " A 203.0.113.1": 50, gateway + " A 203.0.113.2": 30, gateway + " A 203.0.113.3": 20})
}

// While what is answered is swapped, each answer is of one of the sets, as a
// whole.
func TestSwapUnderLoad(t *testing.T) {
	s := serve(t, options(), three()...)
	turns := [][]failover.Share{
		three(),
		{share("az1", 50, "203.0.113.1", "2001:db8::1")},
		{share("standby", 50, "203.0.113.4", "2001:db8::4"), share("az2", 1, "203.0.113.2")},
	}
	lists := []string{"az1 az2 az3", "az1", "standby az2"}
	allowed := map[uint16][]string{
		wire.TypeA:    {"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"},
		wire.TypeAAAA: {"2001:db8::1", "2001:db8::2", "2001:db8::4"},
	}
	var stop atomic.Bool
	var swaps atomic.Uint64
	var swapper, clients sync.WaitGroup
	swapper.Go(func() {
		for i := 0; !stop.Load(); i++ {
			s.Set(turns[i%len(turns)])
			swaps.Add(1)
		}
	})
	for _, network := range []string{"udp", "udp", "tcp"} {
		clients.Go(func() {
			client := &wire.Client{Net: network}
			for round := 0; round < 10 || swaps.Load() < 300; round++ {
				conn, err := client.Dial(s.Address().String())
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 100 {
					q := question(gateway, wire.TypeA)
					switch i % 3 {
					case 1:
						q = question(gateway, wire.TypeAAAA)
					case 2:
						q = question(srv, wire.TypeSRV)
					}
					r, _, err := client.ExchangeWithConn(q, conn)
					if err != nil {
						t.Error(err)
						break
					}
					if r.Rcode != wire.RcodeSuccess || len(r.Answer) == 0 {
						t.Errorf("while swapping: %v", r)
						break
					}
					if i%3 < 2 {
						if len(r.Answer) != 1 || !slices.Contains(allowed[q.Question[0].Qtype], first(t, r)) {
							t.Errorf("while swapping: %v", r)
						}
						continue
					}
					var list string
					for _, rr := range r.Answer {
						list += " " + wire.SplitDomainName(rr.(*wire.SRV).Target)[0]
					}
					if !slices.Contains(lists, list[1:]) {
						t.Errorf("a set that never was: %s", list)
					}
				}
				_ = conn.Close()
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	swapper.Wait()
}
