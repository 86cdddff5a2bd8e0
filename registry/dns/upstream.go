package dns

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/grayfed/grayfed/federation"
)

// Upstream is a URL's origin that is no declared service.
type Upstream struct {
	Host string // a DNS name without a final dot, or an IP address; lower case
	Port uint16
	TLS  bool
}

// Service is the name of the service that the upstream's addresses are the
// instances of: "host:port", IPv6 addresses in brackets. No registered service
// can have such a name.
func (u Upstream) Service() string {
	return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
}

// source names the upstream's facts in the catalog.
func (u Upstream) source() string { return "dns " + u.Service() }

// instances are the upstream's addresses as the catalog takes them. They count
// as this edge's own zone: where a name's addresses lie, DNS does not say.
func (u Upstream) instances(addrs []netip.Addr, here federation.Locality, owner string) []*federation.Instance {
	protocol := federation.HTTP1
	if u.TLS {
		protocol = federation.HTTPS
	}
	instances := make([]*federation.Instance, len(addrs))
	for n, addr := range addrs {
		address := netip.AddrPortFrom(addr, u.Port).String()
		instances[n] = &federation.Instance{
			Key:      federation.Key{Service: u.Service(), ID: address},
			Locality: here,
			Address:  address,
			Weight:   federation.DefaultWeight,
			Protocol: protocol,
			Owner:    owner,
		}
	}
	return instances
}
