package dns

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"github.com/grayfed/grayfed/failover"
)

const (
	// nsTTL, in seconds, is that of NS records: configuration, and asked for
	// again at the parent whenever it has run out.
	nsTTL = 300
	// maxEntries and maxAddresses bound what is taken of others' words.
	maxEntries   = 1024
	maxAddresses = 8
)

// entry is a share as it is answered.
type entry struct {
	host   string
	port   uint16
	weight uint16
	// addresses are IPv4 and IPv6 ones.
	addresses [2][]netip.Addr
}

// families are the kinds of entry.addresses.
var families = [2]kind{kindA, kindAAAA}

// builder packs a zone.
type builder struct {
	opts    *Options
	kept    time.Duration // the answers' time to live
	zone    *zone
	entries []entry
	// soas are those of the domain and of the gateway.
	soas [2]*packed
	// buffer is as long as the longest message.
	buffer []byte
}

// newZone packs the answers for shares, so that answering only picks and
// copies. What no client could use of a share is left out.
func newZone(opts *Options, shares []failover.Share, ttl time.Duration) *zone {
	b := &builder{opts: opts, kept: ttl, zone: &zone{names: make(map[string]*node)}, buffer: make([]byte, maxTCP)}
	b.entries = b.usable(shares)
	b.zone.entries = len(b.entries)
	for i, name := range []string{opts.Domain, opts.gateway()} {
		b.apex(i, name)
	}
	gateway := b.node(opts.gateway())
	gateway.moving = true
	for family := range families {
		b.weighted(gateway, family)
	}
	for i := range b.entries {
		b.addresses(b.entries[i].host, b.entries[i:i+1])
	}
	for _, name := range opts.Nameservers {
		if wire.IsSubDomain(opts.Domain, name) {
			b.addresses(name, b.entries)
		}
	}
	b.services("_http")
	if opts.HTTPS {
		b.services("_https")
	}
	return b.zone
}

// usable takes the shares that have an address, each edge once.
func (b *builder) usable(shares []failover.Share) []entry {
	var entries []entry
	seen := make(map[string]bool, len(shares))
	for i := range shares {
		share := &shares[i]
		e := entry{
			host:   under(label(share.Edge), b.opts.gateway()),
			port:   share.Port,
			weight: uint16(min(max(1, share.Weight), failover.MaxWeight)),
		}
		for _, address := range share.Addresses[:min(len(share.Addresses), maxAddresses)] {
			address = address.Unmap()
			if !address.IsValid() || address.IsUnspecified() || address.IsMulticast() || address.Zone() != "" {
				continue
			}
			family := 0
			if address.Is6() {
				family = 1
			}
			e.addresses[family] = append(e.addresses[family], address)
		}
		if seen[e.host] || len(e.addresses[0])+len(e.addresses[1]) == 0 || len(entries) == maxEntries {
			continue
		}
		seen[e.host] = true
		entries = append(entries, e)
	}
	return entries
}

// label is an edge's id as a name of one label, by the id alone: the servers
// of all edges must agree on it.
func label(edge string) string {
	if hostLabel(edge) {
		return edge
	}
	sum := sha256.Sum256([]byte(edge))
	return "edge-" + hex.EncodeToString(sum[:8])
}

func (b *builder) ttl() uint32 { return uint32(b.kept / time.Second) }

func header(name string, kind uint16, ttl uint32) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: kind, Class: wire.ClassINET, Ttl: ttl}
}

// node returns a name's node, new if need be, as those of the names between it
// and the domain: a name with others below it exists (RFC 8020).
func (b *builder) node(name string) *node {
	end, _ := wire.PackDomainName(name, b.buffer, 0, nil, false)
	key := string(b.buffer[:end])
	if n := b.zone.names[key]; n != nil {
		return n
	}
	n := &node{soa: b.soas[0]}
	if wire.IsSubDomain(b.opts.gateway(), name) {
		n.soa = b.soas[1]
	}
	b.zone.names[key] = n
	if name != b.opts.Domain {
		_, above, _ := strings.Cut(name, ".")
		b.node(above)
	}
	return n
}

// apex makes the top of a zone: SOA and NS.
func (b *builder) apex(i int, name string) {
	soa := &wire.SOA{
		Hdr:     header(name, wire.TypeSOA, b.ttl()),
		Ns:      b.opts.Nameservers[0],
		Mbox:    under("hostmaster", b.opts.Domain),
		Serial:  1, // nothing transfers the zone
		Refresh: 3600,
		Retry:   600,
		Expire:  86400,
		Minttl:  b.ttl(), // of absences: RFC 2308, 5
	}
	// It goes with any question, so that nothing in it may point to one.
	b.soas[i] = b.pack("", nil, []wire.RR{soa}, nil)
	top := b.node(name)
	top.soa = b.soas[i]
	top.sets[kindSOA] = only(b.pack(name, []wire.RR{soa}, nil, nil))
	var servers []wire.RR
	var glue [][]wire.RR
	for _, server := range b.opts.Nameservers {
		servers = append(servers, &wire.NS{Hdr: header(name, wire.TypeNS, nsTTL), Ns: server})
		if wire.IsSubDomain(b.opts.Domain, server) {
			for family := range families {
				glue = append(glue, b.records(server, family, b.entries))
			}
		}
	}
	top.sets[kindNS] = only(b.pack(name, servers, nil, glue))
}

// weighted lets a name have the addresses of one entry at a time. Within it
// the order turns, because clients tend to take the first.
func (b *builder) weighted(n *node, family int) {
	var c choices
	var sum uint64
	for i := range b.entries {
		records := b.records(b.opts.gateway(), family, b.entries[i:i+1])
		if len(records) == 0 {
			continue
		}
		var turns []packed
		for turn := range records {
			turned := slices.Concat(records[turn:], records[:turn])
			turns = append(turns, *b.pack(b.opts.gateway(), turned, nil, nil))
		}
		sum += uint64(b.entries[i].weight)
		c.upTo = append(c.upTo, sum)
		c.options = append(c.options, turns)
	}
	if sum > 0 {
		n.sets[families[family]] = &c
	}
}

// addresses lets a name have those of entries, all at once.
func (b *builder) addresses(name string, entries []entry) {
	n := b.node(name)
	n.moving = true
	for family, kind := range families {
		if records := b.records(name, family, entries); len(records) > 0 {
			n.sets[kind] = only(b.pack(name, records, nil, nil))
		}
	}
}

// services lists all entries that have a port, with their addresses beside
// them (RFC 2782).
func (b *builder) services(service string) {
	name := under(service, under("_tcp", b.opts.gateway()))
	n := b.node(name)
	n.moving = true
	var records []wire.RR
	var beside [][]wire.RR
	for i := range b.entries {
		e := &b.entries[i]
		if e.port == 0 {
			continue
		}
		records = append(records, &wire.SRV{
			Hdr:    header(name, wire.TypeSRV, b.ttl()),
			Weight: e.weight,
			Port:   e.port,
			Target: e.host,
		})
		for family := range families {
			beside = append(beside, b.records(e.host, family, b.entries[i:i+1]))
		}
	}
	if len(records) > 0 {
		n.sets[kindSRV] = only(b.pack(name, records, nil, beside))
	}
}

// records are the addresses of entries in one family, under a name.
func (b *builder) records(name string, family int, entries []entry) []wire.RR {
	var records []wire.RR
	for i := range entries {
		for _, address := range entries[i].addresses[family] {
			if address.Is4() {
				records = append(records, &wire.A{Hdr: header(name, wire.TypeA, b.ttl()), A: address.AsSlice()})
			} else {
				records = append(records, &wire.AAAA{Hdr: header(name, wire.TypeAAAA, b.ttl()), AAAA: address.AsSlice()})
			}
		}
	}
	return records
}

func only(p *packed) *choices {
	return &choices{upTo: []uint64{1}, options: [][]packed{{*p}}}
}

// pack packs the records that follow the question for a name ("": any); what
// does not fit into the longest message is left out. Additional records are
// only worth having by whole sets.
func (b *builder) pack(name string, answers, authority []wire.RR, additional [][]wire.RR) *packed {
	var names map[string]int // where names are that others may point to
	start := headerSize
	if name != "" {
		names = make(map[string]int)
		start, _ = wire.PackDomainName(name, b.buffer, headerSize, names, true)
		start += 4
	}
	p := &packed{}
	end := start
	add := func(section int, set []wire.RR) bool {
		at := end
		for _, record := range set {
			next, err := wire.PackRR(record, b.buffer[:maxTCP-optSize], at, names, names != nil)
			if err != nil {
				return false
			}
			at = next
		}
		if len(set) > 0 {
			end = at
			p.counts[section] += len(set)
			p.cuts = append(p.cuts, cut{at: end - start, records: p.counts[0] + p.counts[1] + p.counts[2]})
		}
		return true
	}
	fits := true
	for section, records := range [][]wire.RR{answers, authority} {
		for i := range records {
			fits = fits && add(section, records[i:i+1])
		}
	}
	for _, set := range additional {
		fits = fits && add(2, set)
	}
	p.bytes = slices.Clone(b.buffer[start:end])
	return p
}
