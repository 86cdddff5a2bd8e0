package federation

import (
	"net/netip"
	"strings"
)

// AddressPolicy decides where instances may lie, so that a registration cannot
// turn the edge into a door to its own admin port or to a cloud's metadata
// service. It is immutable.
type AddressPolicy struct {
	allowed []netip.Prefix
	denied  map[netip.AddrPort]struct{}
	ports   map[uint16]struct{} // denied on every loopback address
}

// NewAddressPolicy allows the addresses in allowed, save for the exact
// addresses in denied (the edge's own admin listener; an unspecified or
// loopback host stands for every loopback address at that port) and save for
// link-local (which holds the clouds' metadata service), multicast and
// unspecified addresses, which are refused whatever allowed says.
func NewAddressPolicy(allowed []netip.Prefix, denied []netip.AddrPort) *AddressPolicy {
	p := &AddressPolicy{
		allowed: allowed,
		denied:  make(map[netip.AddrPort]struct{}, len(denied)),
		ports:   make(map[uint16]struct{}),
	}
	for _, d := range denied {
		addr := d.Addr().Unmap()
		p.denied[netip.AddrPortFrom(addr, d.Port())] = struct{}{}
		if addr.IsUnspecified() || addr.IsLoopback() {
			p.ports[d.Port()] = struct{}{}
		}
	}
	return p
}

// metadata services outside the link-local ranges: AWS over IPv6, Alibaba.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("100.100.100.200"),
}

// Check returns nil or a [FieldErrors] about the field "address".
func (p *AddressPolicy) Check(address string) error {
	refuse := func(allowed string) error {
		return FieldErrors{{Field: "address", Found: Quote(address), Allowed: allowed}}
	}
	ap, err := parseAddress(address)
	if err != nil {
		return refuse("IP address and port, like 10.0.0.7:8080 or [fd00::7]:8080")
	}
	addr := ap.Addr()
	switch {
	case addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr.IsUnspecified(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return refuse("no link-local, multicast, broadcast or unspecified address")
	}
	for _, metadata := range metadataAddresses {
		if addr == metadata {
			return refuse("no metadata service")
		}
	}
	if _, own := p.denied[ap]; own {
		return refuse("not the edge's own admin address")
	}
	if _, own := p.ports[ap.Port()]; own && addr.IsLoopback() {
		return refuse("not the edge's own admin address")
	}
	names := make([]string, len(p.allowed))
	for i, prefix := range p.allowed {
		if prefix.Contains(addr) {
			return nil
		}
		names[i] = prefix.String()
	}
	return refuse("an address in " + strings.Join(names, ", "))
}
