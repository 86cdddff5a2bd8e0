package edge

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul"
	"github.com/grayfed/grayfed/federation"
)

// ownEntry is what an edge with this data listener says of its entry in DNS;
// the zero one without a failover section.
func ownEntry(p *config.Process, data net.Addr) federation.Entry {
	f := p.Failover
	if f == nil {
		return federation.Entry{}
	}
	entry := federation.Entry{
		Role: f.Role, Addresses: federation.AddressesOf(f.Addresses), Port: uint16(f.Port),
		Weight: f.Weight, TLS: p.Listen.TLS != nil,
	}
	if tcp, ok := data.(*net.TCPAddr); ok {
		if len(f.Addresses) == 0 {
			entry.Addresses = federation.AddressesOf([]netip.Addr{tcp.AddrPort().Addr().Unmap()})
		}
		if f.Port == 0 {
			entry.Port = tcp.AddrPort().Port()
		}
	}
	return entry
}

// entryOf is what an edge said of its entry; false: it has none that could be
// used. Its weight is what it asked for last, or its full one.
func entryOf(e *federation.Edge) (failover.Entry, bool) {
	role, err := failover.ParseRole(e.Entry.Role)
	addresses := e.Entry.Addresses.List()
	if err != nil || len(addresses) == 0 || e.Entry.Port == 0 {
		return failover.Entry{}, false
	}
	weight := e.Share
	if weight <= 0 {
		weight = e.Entry.Weight
	}
	return failover.Entry{
		Edge: e.ID, Zone: e.Zone, Role: role, Addresses: addresses, Port: e.Entry.Port,
		Weight: min(max(weight, 1), failover.MaxWeight),
	}, true
}

func hostPortOf(e *failover.Entry) string {
	if len(e.Addresses) == 0 {
		return ""
	}
	return net.JoinHostPort(e.Addresses[0].String(), strconv.Itoa(int(e.Port)))
}

// reported is this edge's own entry as others see it, for people.
func (f *dnsFailover) reported(d failover.Decision) failover.Sighting {
	s := failover.Sighting{Entry: f.weighted(d), Gossip: failover.Alive, Self: true}
	if view := f.leaderView(); view != nil {
		s.Consul = failover.Dead
		if passing(view, f.edge.self.ID) {
			s.Consul = failover.Alive
		}
	}
	return s
}

// weighted is the entry with its weight of now; while it is out, with its full
// one, as other edges have it then: all answer the same.
func (f *dnsFailover) weighted(d failover.Decision) failover.Entry {
	entry := f.entry
	if d.In {
		entry.Weight = d.Weight
	}
	return entry
}

func passing(view *consul.View, edge string) bool {
	return slices.ContainsFunc(view.Entries, func(r consul.Reported) bool { return r.Edge == edge && r.Passing })
}

// own is this edge's own entry as answers are made from: by its decision. One
// that drains is the last to be answered.
func (f *dnsFailover) own(d failover.Decision) failover.Sighting {
	s := failover.Sighting{
		Entry: f.weighted(d), Consul: failover.Dead, Gossip: failover.Alive, Probe: failover.Alive, Self: true,
	}
	switch {
	case d.In:
		s.Consul = failover.Alive
	case f.edge.draining.Load():
		s.Gossip, s.Probe = failover.Dead, failover.Dead
	}
	return s
}

// share is the weight that this edge's entry is to have now, 0 while it is out.
func (f *dnsFailover) share() int {
	if d := f.picture().decision; d.In {
		return d.Weight
	}
	return 0
}
