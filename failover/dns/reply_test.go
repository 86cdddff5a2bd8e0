package dns

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/grayfed/grayfed/failover"
)

const (
	soaOfDomain  = "example.test. SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 1"
	soaOfGateway = "gateway.example.test. SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 1"
)

func TestNames(t *testing.T) {
	one := []failover.Share{share("az1", 50, "203.0.113.1")}
	both := []failover.Share{share("az1", 50, "203.0.113.1", "2001:db8::1"), share("AZ.2", 7, "203.0.113.2")}
	const az1, az2 = "az1." + gateway, "edge-7be766db18692db2." + gateway
	for _, c := range []struct {
		name   string
		qtype  uint16
		shares []failover.Share
		rcode  int
		answer string
		ns     string
		extra  string
	}{
		{gateway, wire.TypeA, one, wire.RcodeSuccess, gateway + " A 203.0.113.1", "", ""},
		{gateway, wire.TypeAAAA, both, wire.RcodeSuccess, gateway + " AAAA 2001:db8::1", "", ""},
		{gateway, wire.TypeAAAA, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{gateway, wire.TypeTXT, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{gateway, wire.TypeSRV, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{gateway, 65280, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{gateway, wire.TypeANY, one, wire.RcodeSuccess, gateway + " A 203.0.113.1", "", ""},
		{gateway, wire.TypeSOA, one, wire.RcodeSuccess, soaOfGateway, "", ""},
		{gateway, wire.TypeNS, one, wire.RcodeSuccess, gateway + " NS ns.example.test.", "", "ns.example.test. A 203.0.113.1"},

		{srv, wire.TypeSRV, both, wire.RcodeSuccess, srv + " SRV 0 50 8081 " + az1 + ", " + srv + " SRV 0 7 8081 " + az2, "",
			az1 + " A 203.0.113.1, " + az1 + " AAAA 2001:db8::1, " + az2 + " A 203.0.113.2"},
		{srv, wire.TypeANY, one, wire.RcodeSuccess, srv + " SRV 0 50 8081 " + az1, "", az1 + " A 203.0.113.1"},
		{srv, wire.TypeA, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{"_tcp." + gateway, wire.TypeSRV, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{"_tcp." + gateway, wire.TypeANY, one, wire.RcodeSuccess, "", soaOfGateway, ""},
		{"_https._tcp." + gateway, wire.TypeSRV, one, wire.RcodeNameError, "", soaOfGateway, ""},
		{az1, wire.TypeA, both, wire.RcodeSuccess, az1 + " A 203.0.113.1", "", ""},
		{az1, wire.TypeAAAA, both, wire.RcodeSuccess, az1 + " AAAA 2001:db8::1", "", ""},
		{az2, wire.TypeA, both, wire.RcodeSuccess, az2 + " A 203.0.113.2", "", ""},
		{az2, wire.TypeAAAA, both, wire.RcodeSuccess, "", soaOfGateway, ""},
		{az2, wire.TypeA, one, wire.RcodeNameError, "", soaOfGateway, ""},
		{"x." + az1, wire.TypeA, one, wire.RcodeNameError, "", soaOfGateway, ""},

		{"example.test.", wire.TypeSOA, one, wire.RcodeSuccess, soaOfDomain, "", ""},
		{"example.test.", wire.TypeNS, both, wire.RcodeSuccess, "example.test. NS ns.example.test.", "",
			"ns.example.test. A 203.0.113.1, ns.example.test. A 203.0.113.2, ns.example.test. AAAA 2001:db8::1"},
		{"example.test.", wire.TypeA, one, wire.RcodeSuccess, "", soaOfDomain, ""},
		{"example.test.", wire.TypeANY, one, wire.RcodeSuccess, "example.test. NS ns.example.test.", "", "ns.example.test. A 203.0.113.1"},
		{"ns.example.test.", wire.TypeA, both, wire.RcodeSuccess, "ns.example.test. A 203.0.113.1, ns.example.test. A 203.0.113.2", "", ""},
		{"ns.example.test.", wire.TypeAAAA, one, wire.RcodeSuccess, "", soaOfDomain, ""},
		{"www.example.test.", wire.TypeA, one, wire.RcodeNameError, "", soaOfDomain, ""},
		{"a.b.c.example.test.", wire.TypeANY, one, wire.RcodeNameError, "", soaOfDomain, ""},
		{"xgateway.example.test.", wire.TypeA, one, wire.RcodeNameError, "", soaOfDomain, ""},

		{"notexample.test.", wire.TypeA, one, wire.RcodeRefused, "", "", ""},
		{"test.", wire.TypeSOA, one, wire.RcodeRefused, "", "", ""},
		{".", wire.TypeNS, one, wire.RcodeRefused, "", "", ""},
		{"gateway.example.test.org.", wire.TypeA, one, wire.RcodeRefused, "", "", ""},
		{gateway, wire.TypeAXFR, one, wire.RcodeRefused, "", "", ""},
		{"example.test.", wire.TypeAXFR, one, wire.RcodeRefused, "", "", ""},
		{"example.test.", wire.TypeIXFR, one, wire.RcodeRefused, "", "", ""},
		{gateway, wire.TypeOPT, one, wire.RcodeRefused, "", "", ""},
		{gateway, wire.TypeTKEY, one, wire.RcodeRefused, "", "", ""},

		// Nothing is known: what depends on entries fails, what does not is said.
		{gateway, wire.TypeA, nil, wire.RcodeServerFailure, "", "", ""},
		{gateway, wire.TypeAAAA, nil, wire.RcodeServerFailure, "", "", ""},
		{srv, wire.TypeSRV, nil, wire.RcodeServerFailure, "", "", ""},
		{az1, wire.TypeA, nil, wire.RcodeServerFailure, "", "", ""},
		{"ns.example.test.", wire.TypeA, nil, wire.RcodeServerFailure, "", "", ""},
		{"example.test.", wire.TypeSOA, nil, wire.RcodeSuccess, soaOfDomain, "", ""},
		{gateway, wire.TypeNS, nil, wire.RcodeSuccess, gateway + " NS ns.example.test.", "", ""},
		{"www.example.test.", wire.TypeA, nil, wire.RcodeNameError, "", soaOfDomain, ""},
	} {
		s := quiet(t, options(), c.shares...)
		q := question(c.name, c.qtype)
		q.RecursionDesired = c.qtype != wire.TypeA
		r := ask(t, s, q)
		what := c.name + " " + wire.TypeToString[c.qtype] + " of " + strconv.Itoa(len(c.shares))
		if r.Rcode != c.rcode || told(r.Answer) != c.answer || told(r.Ns) != c.ns || told(r.Extra) != c.extra {
			t.Errorf("%s:\n got %s\n  answer %s\n  authority %s\n  additional %s\nwant %s\n  answer %s\n  authority %s\n  additional %s", what,
				wire.RcodeToString[r.Rcode], told(r.Answer), told(r.Ns), told(r.Extra), wire.RcodeToString[c.rcode], c.answer, c.ns, c.extra)
		}
		ours := c.rcode == wire.RcodeSuccess || c.rcode == wire.RcodeNameError
		if r.Id != q.Id || !r.Response || r.Authoritative != ours || r.RecursionAvailable || r.RecursionDesired != q.RecursionDesired ||
			r.Truncated || r.Zero || r.AuthenticatedData || len(r.Question) != 1 || r.Question[0] != q.Question[0] {
			t.Errorf("%s: header %v", what, r)
		}
		if q.IsEdns0() == nil && r.IsEdns0() != nil {
			t.Errorf("%s: EDNS unasked", what)
		}
	}
}

func TestTTL(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Second, time.Hour} {
		o := options()
		o.TTL = ttl
		s := quiet(t, o, three()...)
		seconds := uint32(ttl / time.Second)
		expectTTL(t, s, seconds)
		s.SetDoubtful(three())
		expectTTL(t, s, 0)
		s.Set(three())
		expectTTL(t, s, seconds)
	}
}

// expectTTL asks for all kinds of records.
func expectTTL(t *testing.T, s *Server, seconds uint32) {
	t.Helper()
	for _, q := range []*wire.Msg{question(gateway, wire.TypeA), question(srv, wire.TypeSRV), question("nobody."+gateway, wire.TypeA), question("ns.example.test.", wire.TypeA)} {
		r := ask(t, s, q)
		records := append(append(r.Answer, r.Ns...), r.Extra...)
		if len(records) == 0 {
			t.Fatalf("no records to %v", q.Question)
		}
		for _, rr := range records {
			if rr.Header().Ttl != seconds {
				t.Errorf("ttl %d: %v", seconds, rr)
			}
			if soa, ok := rr.(*wire.SOA); ok && soa.Minttl != seconds {
				t.Errorf("ttl %d: absences are kept for %d s", seconds, soa.Minttl)
			}
		}
	}
}

func TestHTTPS(t *testing.T) {
	o := options()
	o.HTTPS = true
	o.Nameservers = []string{"NS-az1.example.org", "ns-az2.example.org."}
	s := quiet(t, o, three()...)
	for _, name := range []string{srv, "_https._tcp." + gateway} {
		if r := ask(t, s, question(name, wire.TypeSRV)); len(r.Answer) != 3 || len(r.Extra) != 5 {
			t.Errorf("%s: %v", name, r)
		}
	}
	r := ask(t, s, question("example.test.", wire.TypeNS))
	if got := told(r.Answer); got != "example.test. NS ns-az1.example.org., example.test. NS ns-az2.example.org." || len(r.Extra) != 0 {
		t.Errorf("nameservers elsewhere: %v", r)
	}
	if r := ask(t, s, question("ns-az1.example.org.", wire.TypeA)); r.Rcode != wire.RcodeRefused {
		t.Errorf("the address of a nameserver elsewhere: %v", r)
	}
	if r := ask(t, s, question("ns.example.test.", wire.TypeA)); r.Rcode != wire.RcodeNameError {
		t.Errorf("a nameserver that was replaced: %v", r)
	}
}

// Resolvers write a name in random capitals and believe only who repeats them:
// draft-vixie-dnsext-dns0x20.
func TestCapitalsAreKept(t *testing.T) {
	s := quiet(t, options(), three()...)
	for _, name := range []string{"gAtEwAy.ExAmPlE.TeSt.", "_HTTP._tcp.GATEWAY.example.test.", "nOne.Example.TEST.", "OTHER.org."} {
		for _, qtype := range []uint16{wire.TypeA, wire.TypeSRV} {
			r := ask(t, s, question(name, qtype))
			if r.Question[0].Name != name {
				t.Errorf("asked %s, repeated %s", name, r.Question[0].Name)
			}
			for _, rr := range r.Answer {
				if rr.Header().Name != name {
					t.Errorf("asked %s, answered %v", name, rr)
				}
			}
		}
	}
	if r := ask(t, s, question("gAtEwAy.ExAmPlE.TeSt.", wire.TypeA)); len(r.Answer) != 1 {
		t.Errorf("not found by other capitals: %v", r)
	}
}

// What others say is not all usable; what is left is answered.
func TestUnusableSharesAreLeftOut(t *testing.T) {
	port := share("noport", 1, "203.0.113.9")
	port.Port = 0
	s := quiet(t, options(),
		share("none", 1000),
		share("wild", 1000, "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0"),
		share("mapped", 0, "::ffff:203.0.113.1"),
		share("mapped", 1000, "203.0.113.66"),
		port,
	)
	if got := told(ask(t, s, question("ns.example.test.", wire.TypeA)).Answer); got != "ns.example.test. A 203.0.113.1, ns.example.test. A 203.0.113.9" {
		t.Errorf("addresses: %s", got)
	}
	if r := ask(t, s, question(gateway, wire.TypeAAAA)); told(r.Ns) != soaOfGateway || r.Rcode != wire.RcodeSuccess {
		t.Errorf("an address that is IPv4 in IPv6: %v", r)
	}
	if got := told(ask(t, s, question(srv, wire.TypeSRV)).Answer); got != srv+" SRV 0 1 8081 mapped."+gateway {
		t.Errorf("services: %s", got)
	}
	s.Set([]failover.Share{share("wild", 1000, "0.0.0.0")})
	if r := ask(t, s, question(gateway, wire.TypeA)); r.Rcode != wire.RcodeServerFailure {
		t.Errorf("only unusable shares: %v", r)
	}
}

// A weight out of range counts as the nearest in it.
func TestWeightsOutOfRange(t *testing.T) {
	s := quiet(t, options(), share("a", 1_000_000, "203.0.113.1"), share("b", 500, "203.0.113.2"), share("c", 0, "203.0.113.3"), share("d", -70_000, "203.0.113.4"))
	want := []uint16{failover.MaxWeight, 500, 1, 1}
	for i, rr := range ask(t, s, question(srv, wire.TypeSRV)).Answer {
		if got := rr.(*wire.SRV).Weight; got != want[i] {
			t.Errorf("weight %d is %d, want %d", i, got, want[i])
		}
	}
}

func TestRefusals(t *testing.T) {
	s := quiet(t, options(), three()...)
	good := func() []byte { return pack(t, question(gateway, wire.TypeA)) }
	set := func(b []byte, at int, v uint16) []byte { binary.BigEndian.PutUint16(b[at:], v); return b }
	class := func(class uint16) []byte {
		q := question(gateway, wire.TypeA)
		q.Question[0].Qclass = class
		return pack(t, q)
	}
	for name, c := range map[string]struct {
		msg   []byte
		rcode int
		whole bool // the question is repeated
	}{
		"notify":                  {set(good(), 2, wire.OpcodeNotify<<11), wire.RcodeNotImplemented, false},
		"update":                  {set(good(), 2, wire.OpcodeUpdate<<11), wire.RcodeNotImplemented, false},
		"opcode 15":               {set(good(), 2, 15<<11), wire.RcodeNotImplemented, false},
		"opcode 15, header alone": {append([]byte{1, 2, 15 << 3}, make([]byte, 9)...), wire.RcodeNotImplemented, false},
		"no question":             {set(good(), 4, 0), wire.RcodeFormatError, false},
		"two questions":           {set(good(), 4, 2), wire.RcodeFormatError, false},
		"65535 questions":         {set(good(), 4, 65535), wire.RcodeFormatError, false},
		"header alone":            {good()[:12], wire.RcodeFormatError, false},
		"name cut":                {good()[:20], wire.RcodeFormatError, false},
		"type cut":                {good()[:len(good())-3], wire.RcodeFormatError, false},
		"pointer as name":         {append(good()[:12], 0xc0, 12, 0, 1, 0, 1), wire.RcodeFormatError, false},
		"label of type 01":        {append(good()[:12], 0x41, 12, 0, 0, 1, 0, 1), wire.RcodeFormatError, false},
		"name of 256 bytes":       {append(append(good()[:12], []byte(strings.Repeat("\x3f"+strings.Repeat("a", 63), 3)+"\x3e"+strings.Repeat("b", 62))...), 0, 0, 1, 0, 1), wire.RcodeFormatError, false},
		"record missing":          {set(good(), 10, 1), wire.RcodeFormatError, false},
		"records missing":         {set(good(), 6, 65535), wire.RcodeFormatError, false},
		"record cut":              {append(set(good(), 10, 1), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 1), wire.RcodeFormatError, false},
		"two OPT":                 {append(set(good(), 10, 2), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0), wire.RcodeFormatError, false},
		"OPT with a name":         {append(set(good(), 10, 1), 1, 'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0), wire.RcodeFormatError, false},
		"option cut":              {append(set(good(), 10, 1), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 5, 0, 3, 0, 2, 1), wire.RcodeFormatError, false},
		"class CH":                {class(wire.ClassCHAOS), wire.RcodeRefused, true},
		"class ANY":               {class(wire.ClassANY), wire.RcodeRefused, true},
		"class 0":                 {class(0), wire.RcodeRefused, true},
		"name of 255 bytes":       {append(append(good()[:12], []byte(strings.Repeat("\x3f"+strings.Repeat("a", 63), 3)+"\x3d"+strings.Repeat("b", 61))...), 0, 0, 1, 0, 1), wire.RcodeRefused, true},
		"a name of the same text": {append(good()[:12], []byte("\x14gateway.example.test\x00\x00\x01\x00\x01")...), wire.RcodeRefused, true},
	} {
		reply := s.reply(nil, c.msg, true)
		if reply == nil {
			t.Errorf("%s: no reply", name)
			continue
		}
		r := unpack(t, reply)
		if r.Rcode != c.rcode || r.Authoritative || !r.Response || r.Opcode != int(c.msg[2]>>3&15) || r.Id != binary.BigEndian.Uint16(c.msg) {
			t.Errorf("%s: %v", name, r)
		}
		if len(reply) > len(c.msg) || c.whole != (len(r.Question) == 1) || len(r.Answer)+len(r.Ns)+len(r.Extra) > 0 {
			t.Errorf("%s: %d bytes to %d: %v", name, len(reply), len(c.msg), r)
		}
	}
	for name, msg := range map[string][]byte{
		"nothing":      {},
		"eleven bytes": good()[:11],
		"an answer":    set(good(), 2, flagQR),
		"an error":     set(good(), 2, flagQR|wire.OpcodeNotify<<11|wire.RcodeFormatError),
	} {
		if reply := s.reply(nil, msg, true); reply != nil {
			t.Errorf("%s is answered: %v", name, unpack(t, reply))
		}
	}
	// What is harmless is answered: bits of later RFCs, records nobody asked for, bytes behind the end.
	for name, msg := range map[string][]byte{
		"all flags":   set(good(), 2, ^uint16(flagQR|maskOpcode)),
		"own records": append(set(good(), 6, 1), 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4),
		"a rest":      append(good(), 1, 2, 3),
	} {
		if r := unpack(t, s.reply(nil, msg, true)); r.Rcode != wire.RcodeSuccess || len(r.Answer) != 1 || r.Zero || r.CheckingDisabled || r.RecursionAvailable {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestEDNS(t *testing.T) {
	many := make([]failover.Share, 60)
	for i := range many {
		many[i] = share("edge-number-"+strconv.Itoa(i), 1+i, "203.0.113."+strconv.Itoa(i+1))
	}
	s := quiet(t, options(), many...)
	for _, c := range []struct {
		size uint16 // 0: no EDNS
		most int    // bytes of the answer
	}{{0, 512}, {1, 512}, {511, 512}, {512, 512}, {900, 900}, {1232, 1232}, {4096, 1232}, {65535, 1232}} {
		q := question(srv, wire.TypeSRV)
		if c.size > 0 {
			q.SetEdns0(c.size, c.size == 900)
		}
		reply := s.reply(nil, pack(t, q), true)
		r := unpack(t, reply)
		if len(reply) > c.most || len(reply) < c.most-60 || !r.Truncated || len(r.Answer) == 0 || r.Rcode != wire.RcodeSuccess {
			t.Errorf("size %d: %d bytes, %v", c.size, len(reply), r)
		}
		opt := r.IsEdns0()
		if (opt != nil) != (c.size > 0) {
			t.Errorf("size %d: OPT %v", c.size, opt)
		} else if opt != nil && (opt.UDPSize() != 1232 || opt.Version() != 0 || opt.Do() != (c.size == 900) || len(opt.Option) != 0) {
			t.Errorf("size %d: %v", c.size, opt)
		}
		whole := unpack(t, s.reply(nil, pack(t, q), false))
		if whole.Truncated || len(whole.Answer) != 60 || len(whole.Extra) < 60 {
			t.Errorf("size %d by TCP: %d records and %d", c.size, len(whole.Answer), len(whole.Extra))
		}
	}

	for size := uint16(512); size <= 1232; size++ {
		q := question(srv, wire.TypeSRV)
		q.SetEdns0(size, false)
		if reply := s.reply(nil, pack(t, q), true); len(reply) > int(size) {
			t.Fatalf("size %d: %d bytes", size, len(reply))
		}
	}

	// What is only beside the answer may be missing without a word: RFC 2181, 9.
	s.Set(many[:7])
	r := ask(t, s, question(srv, wire.TypeSRV))
	if r.Truncated || len(r.Answer) != 7 || len(r.Extra) == 0 || len(r.Extra) >= 7 {
		t.Errorf("additional records that do not fit: %v", r)
	}

	q := question(gateway, wire.TypeA)
	q.SetEdns0(1232, true)
	q.IsEdns0().SetVersion(1)
	r = ask(t, s, q)
	if opt := r.IsEdns0(); r.Rcode != wire.RcodeBadVers || opt == nil || opt.Version() != 0 || len(r.Answer) > 0 || len(r.Question) != 1 {
		t.Errorf("version 1: %v", r)
	}
	q = question(gateway, wire.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &wire.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2}}, &wire.EDNS0_COOKIE{Code: wire.EDNS0COOKIE, Cookie: "0102030405060708"})
	if r := ask(t, s, q); r.Rcode != wire.RcodeSuccess || len(r.Answer) != 1 || len(r.IsEdns0().Option) != 0 {
		t.Errorf("options nobody knows: %v", r)
	}
	for _, name := range []string{"nobody." + gateway, "example.org."} {
		q := question(name, wire.TypeA)
		q.SetEdns0(1232, false)
		if r := ask(t, s, q); r.IsEdns0() == nil {
			t.Errorf("%s: no OPT: %v", name, r)
		}
	}
}

// A set that no message can hold is cut, wherever a record happens to end, and
// what is left can be read. By TCP there is no more to be had.
func TestLongestAnswers(t *testing.T) {
	for length := range 12 {
		var shares []failover.Share
		for i := range 1100 {
			id := strings.Repeat("x", 40+length) + strconv.Itoa(i)
			shares = append(shares, share(id, 1, "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5", "203.0.113.6", "203.0.113.7", "203.0.113.8", "203.0.113.9"))
		}
		s := quiet(t, options(), shares...)
		for _, name := range []string{srv, "ns.example.test.", "example.test."} {
			q := question(name, wire.TypeANY)
			q.SetEdns0(65535, true)
			for _, udp := range []bool{true, false} {
				reply := s.reply(nil, pack(t, q), udp)
				if r := unpack(t, reply); len(reply) > 65535 || udp && len(reply) > 1232 || !udp && r.Truncated || len(r.Answer) == 0 {
					t.Errorf("%s: %d bytes, %d records, truncated %v", name, len(reply), len(r.Answer), r.Truncated)
				}
			}
		}
		if r := ask(t, s, question(gateway, wire.TypeA)); len(r.Answer) != 8 || r.Truncated {
			t.Errorf("nine addresses: %v", r)
		}
	}
}
