package config

import (
	"slices"

	"github.com/grayfed/grayfed/federation"
)

// How endpoints of other zones are reached.
const (
	// ReachDirect: this edge connects to them itself.
	ReachDirect = "direct"
	// ReachGateway: through an edge of their zone, since the network is not
	// flat.
	ReachGateway = "gateway"
)

// Zone is what differs for one other zone.
type Zone struct {
	Name string
	// Reach is direct or gateway.
	Reach string
}

// Peer is the listener that other edges send requests to, and how this edge
// sends to theirs: HTTP/2 over TLS, each side with a certificate.
type Peer struct {
	// Address is "ip:port" or ":port"; port 0 takes a free one. Required where
	// another zone is reached by gateway; empty: there is no listener.
	Address string
	// Advertise is the "host:port" that other edges reach it at, and host the
	// name or address that the certificate must be for; default Address.
	// Required when that is unspecified.
	Advertise string
	// TLS: all three files are required. The authorities sign the certificates
	// of edges and of nobody else: whoever has one may say whom a request comes
	// from. A certificate is used both ways, as a server's and as a client's.
	TLS TLSFiles
}

// ReachOf is how endpoints of a zone are reached.
func (p *Process) ReachOf(zone string) string {
	if zone == p.Zone {
		return ReachDirect
	}
	if i := slices.IndexFunc(p.Zones, func(z Zone) bool { return z.Name == zone }); i >= 0 {
		return p.Zones[i].Reach
	}
	return p.Reach
}

// decodeReach reads how other zones are reached.
func (p *Process) decodeReach(o *object) {
	o.choice("reach", &p.Reach, ReachDirect, ReachGateway)
	o.below("zones", func(o *object) {
		for _, name := range o.order {
			zone := Zone{Name: name}
			if !federation.ValidName(name) {
				o.d.problem(o.keys[name], o.path(name), "zone "+federation.Quote(name), nameRule)
			}
			o.require(name, "what differs there: reach")
			o.below(name, func(o *object) {
				o.require("reach", ReachDirect+" or "+ReachGateway)
				o.choice("reach", &zone.Reach, ReachDirect, ReachGateway)
				o.end()
			})
			p.Zones = append(p.Zones, zone)
		}
		o.end()
	})
	o.below("peer", func(o *object) {
		o.text("address", &p.Peer.Address)
		o.text("advertise", &p.Peer.Advertise)
		o.below("tls", p.Peer.TLS.decode)
		o.end()
	})
}

func (p *Process) validateReach(e *fieldErrors) {
	gateway := ""
	if p.Reach == ReachGateway {
		gateway = "reach: " + ReachGateway
	}
	for _, z := range p.Zones {
		field := "zones." + z.Name
		if z.Name == p.Zone {
			e.add(field, "this edge's own zone", "other zones")
		}
		if z.Reach == ReachGateway {
			gateway = field + ".reach: " + ReachGateway
		}
	}
	t := &p.Peer.TLS
	files := []struct{ name, value string }{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}}
	switch {
	case p.Peer == (Peer{}) && gateway != "":
		e.add("peer", "nothing, with "+gateway, "address and tls of the listener for other edges")
		return
	case p.Peer == (Peer{}):
		return
	}
	if p.Peer.Address == "" {
		e.add("peer.address", "nothing", listenRule)
	}
	for _, file := range files {
		if file.value == "" {
			e.add("peer.tls."+file.name, "nothing", "a PEM file: both sides show certificates")
		}
	}
	if p.Peer.Advertise != "" && !hostPort(p.Peer.Advertise) {
		e.add("peer.advertise", federation.Quote(p.Peer.Advertise), "host:port")
	}
	if parsed, ok := parseListenAddress(p.Peer.Address); ok && parsed.Addr().IsUnspecified() && p.Peer.Advertise == "" {
		e.add("peer.advertise", "nothing", "a host:port that other edges reach (peer.address is "+p.Peer.Address+")")
	}
}
