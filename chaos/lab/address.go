package lab

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/grayfed/grayfed/edge/api"
)

// EdgeAddress is where the edge of a zone is reached.
type EdgeAddress struct {
	Zone    string
	Data    string // base URL of its data listener: "http://10.77.1.2:8081"
	DataTLS string // "https://..."; "" on loopback, which has no such listener
	Admin   string // base URL of its HTTP API
	Peer    string // "ip:port" for the other edges' requests; "" on loopback
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// host is the IP address of a node. Before Run it is what the node will have if
// no other lab runs.
func (l *Lab) host(node string) string {
	switch {
	case !l.opts.Namespaces:
		return "127.0.0.1"
	case l.network == nil:
		return hostOf(0, 1+slices.Index(l.Nodes(), node))
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
	if !l.opts.Namespaces {
		return EdgeAddress{Zone: zone, Data: "http://" + loopback(z.Data), Admin: "http://" + loopback(z.Admin)}
	}
	return EdgeAddress{
		Zone: zone, Data: "http://" + l.at(zone, z.Data), DataTLS: "https://" + l.at(zone, dataTLSPort),
		Admin: "https://" + l.at(zone, z.Admin), Peer: l.at(zone, peerPort),
	}
}

// DNSServers are the edges' name servers, "ip:port", one a zone that has one.
func (l *Lab) DNSServers() []string {
	var servers []string
	for _, z := range l.opts.Zones {
		if z.DNS != 0 {
			servers = append(servers, l.at(z.Name, z.DNS))
		}
	}
	return servers
}

// ClockFile is read by a zone's edge and sets its clock ahead or back: its text
// is a duration with a sign, like "+1h". Without the file the clock is right.
func (l *Lab) ClockFile(zone string) string { return filepath.Join(l.dir, zone, "clock") }

// Client calls the HTTP API of a zone's edge, with the right to write. The
// caller closes it.
func (l *Lab) Client(zone string) (*api.Client, error) {
	if _, known := l.zone(zone); !known {
		return nil, fmt.Errorf("no zone %q", zone)
	}
	options := api.ClientOptions{URL: l.Edge(zone).Admin, Token: l.token, Timeout: callTimeout}
	if l.opts.Namespaces {
		options.TLS = &tls.Config{RootCAs: l.CA()}
	}
	return api.NewClient(options)
}

// CA has who signed the lab's certificates; nil before Run, and on loopback,
// where there are none.
func (l *Lab) CA() *x509.CertPool {
	if l.authority == nil {
		return nil
	}
	return l.authority.pool
}

// Credentials are the files that a client of the edges' APIs needs: who signed
// their certificates, and a token that may write. They are "" on loopback, and
// before Run.
func (l *Lab) Credentials() (caFile, tokenFile string) {
	if l.authority == nil {
		return "", ""
	}
	return l.secretFile("ca.crt"), l.secretFile("token")
}

// Namespace is the name of a node's network namespace, for ip-netns(8); "" on
// loopback, before Run, and where there is no such node.
func (l *Lab) Namespace(node string) string {
	if l.network == nil || l.network.number(node) < 1 {
		return ""
	}
	return l.network.namespace(node)
}
