package lab

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"

	"github.com/grayfed/grayfed/edge/api"
)

// EdgeAddress is where the edge of a zone is reached.
type EdgeAddress struct {
	Zone    string
	Data    string // base URL of its data listener: "http://10.77.1.2:8081"
	DataTLS string // "https://..."; "" on loopback, which has no such listener
	Admin   string // base URL of its HTTP API
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// host is the IP address of a node.
func (l *Lab) host(node string) string {
	if l.network == nil {
		return "127.0.0.1"
	}
	return l.network.address(node)
}

func (l *Lab) at(node string, port int) string {
	return net.JoinHostPort(l.host(node), strconv.Itoa(port))
}

func (l *Lab) zone(name string) (Zone, bool) {
	for _, z := range l.opts.Zones {
		if z.Name == name {
			return z, true
		}
	}
	return Zone{}, false
}

// Edge says where a zone's edge is; the zero value where there is no such zone.
func (l *Lab) Edge(zone string) EdgeAddress {
	z, known := l.zone(zone)
	if !known {
		return EdgeAddress{}
	}
	if l.network == nil {
		return EdgeAddress{Zone: zone, Data: "http://" + loopback(z.Data), Admin: "http://" + loopback(z.Admin)}
	}
	return EdgeAddress{
		Zone: zone, Data: "http://" + l.at(zone, z.Data), DataTLS: "https://" + l.at(zone, dataTLSPort),
		Admin: "https://" + l.at(zone, z.Admin),
	}
}

// Client calls the HTTP API of a zone's edge, with the right to write. The
// caller closes it.
func (l *Lab) Client(zone string) (*api.Client, error) {
	if _, known := l.zone(zone); !known {
		return nil, fmt.Errorf("no zone %q", zone)
	}
	options := api.ClientOptions{URL: l.Edge(zone).Admin, Token: l.token, Timeout: callTimeout}
	if l.network != nil {
		options.TLS = &tls.Config{RootCAs: l.CA()}
	}
	return api.NewClient(options)
}

// CA has who signed the lab's certificates; nil on loopback, where there are
// none.
func (l *Lab) CA() *x509.CertPool {
	if l.authority == nil {
		return nil
	}
	return l.authority.pool
}
