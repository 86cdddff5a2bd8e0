package edge

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/failover"
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
