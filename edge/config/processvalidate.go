package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

const nameRule = "1 to 128 of a-z A-Z 0-9 . _ -, beginning with a letter or digit"

// Validate returns nil or a [federation.FieldErrors] with everything that is
// wrong with the settings taken together. Bounds of single numbers are checked
// when they are read. It looks at no file and no network.
func (p *Process) Validate() error {
	var e fieldErrors
	name := func(field, text string, required bool) {
		if (text != "" || required) && !federation.ValidName(text) {
			e.add(field, federation.Quote(text), nameRule)
		}
	}
	name("id", p.ID, true)
	name("zone", p.Zone, true)
	name("cluster", p.Cluster, false)
	name("region", p.Region, false)
	if p.DataDir == "" {
		e.add("data_dir", "nothing", "a folder")
	}
	if p.Documents == "" {
		e.add("documents", "nothing", "the path of a file or folder")
	}
	for i, zone := range p.ZoneOrder {
		name(itemField("zone_order", i), zone, true)
		if slices.Index(p.ZoneOrder, zone) < i {
			e.add(itemField("zone_order", i), federation.Quote(zone)+" again", "each zone once")
		}
	}
	p.validateAddresses(&e)
	p.validateListeners(&e)
	p.Admin.validate(&e)
	p.Etcd.validate(&e)
	p.Gossip.validate(&e)
	p.Upstream.TLS.validate(&e, "upstream.tls")
	p.validateReach(&e)
	p.validateFailover(&e)
	return e.err()
}

const listenRule = "ip:port, localhost:port or :port"

func (p *Process) validateAddresses(e *fieldErrors) {
	taken := make(map[string]string)
	type listener struct{ field, address string }
	listeners := []listener{{"listen.address", p.Listen.Address}}
	for i := range p.Listeners {
		listeners = append(listeners, listener{itemField("listeners", i) + ".address", p.Listeners[i].Address})
	}
	listeners = append(listeners,
		listener{"admin.address", p.Admin.Address}, listener{"admin.health_address", p.Admin.HealthAddress})
	if p.Peer.Address != "" {
		listeners = append(listeners, listener{"peer.address", p.Peer.Address})
	}
	if p.DNS != nil && p.DNS.Address != "" {
		listeners = append(listeners, listener{"dns.address", p.DNS.Address})
	}
	for _, listener := range listeners {
		if listener.address == "" && listener.field == "admin.health_address" {
			continue
		}
		parsed, ok := parseListenAddress(listener.address)
		if !ok {
			e.add(listener.field, federation.Quote(listener.address), listenRule)
			continue
		}
		if parsed.Port() == 0 {
			continue
		}
		if other, twice := taken[parsed.String()]; twice {
			e.add(listener.field, federation.Quote(listener.address), "an address of its own ("+other+" has this one)")
		}
		taken[parsed.String()] = listener.field
	}
}

func (a *Admin) validate(e *fieldErrors) {
	a.TLS.validate(e, "admin.tls")
	parsed, ok := parseListenAddress(a.Address)
	if !ok || parsed.Addr().IsLoopback() {
		return
	}
	var missing []string
	if a.TLS.CertFile == "" {
		missing = append(missing, "admin.tls")
	}
	if a.TokensFile == "" {
		missing = append(missing, "admin.tokens_file")
	}
	if len(missing) > 0 {
		e.add("admin.address", federation.Quote(a.Address)+" without "+strings.Join(missing, " and "),
			"a loopback address, or both admin.tls and admin.tokens_file")
	}
}

func (t *TLSFiles) validate(e *fieldErrors, field string) {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		e.add(field, "cert_file without key_file", "both or neither")
	case t.KeyFile != "" && t.CertFile == "":
		e.add(field, "key_file without cert_file", "both or neither")
	}
}

func (c *Etcd) validate(e *fieldErrors) {
	if len(c.Endpoints) == 0 {
		e.add("etcd.endpoints", "no endpoint", "at least one")
	}
	tls := c.TLS != TLSFiles{}
	for i, endpoint := range c.Endpoints {
		field := itemField("etcd.endpoints", i)
		u, err := url.Parse(endpoint)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil ||
			(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || !hostPort(u.Host):
			e.add(field, federation.Quote(endpoint), "http://host:port or https://host:port")
		case tls && u.Scheme == "http":
			e.add(field, federation.Quote(endpoint), "https, since etcd.tls is set")
		}
	}
	if !strings.HasPrefix(c.Prefix, "/") || len(c.Prefix) > 256 || strings.Contains(c.Prefix, "//") {
		e.add("etcd.prefix", federation.Quote(c.Prefix), "a key prefix beginning with /, at most 256 bytes")
	}
	c.TLS.validate(e, "etcd.tls")
	if (c.Username == "") != (c.PasswordFile == "") {
		e.add("etcd", "one of username and password_file", "both or neither")
	}
}

func (g *Gossip) validate(e *fieldErrors) {
	bind, ok := parseListenAddress(g.Bind)
	if !ok {
		e.add("gossip.bind", federation.Quote(g.Bind), listenRule)
	}
	advertised := g.Advertise
	if advertised == "" {
		advertised = g.Bind
	}
	advertise, good := parseListenAddress(advertised)
	if g.Advertise != "" && !good || ok && good && advertise.Addr().IsUnspecified() {
		e.add("gossip.advertise", federation.Quote(g.Advertise), "an ip:port that other edges reach (gossip.bind is "+g.Bind+")")
	}
	if ok && !bind.Addr().IsLoopback() && g.KeyFile == "" {
		e.add("gossip.bind", federation.Quote(g.Bind)+" without gossip.key_file", "a loopback address, or gossip.key_file")
	}
	for i, peer := range g.Peers {
		if !hostPort(peer) {
			e.add(itemField("gossip.peers", i), federation.Quote(peer), "host:port")
		}
	}
	if g.ProbeTimeout > g.ProbeInterval {
		e.add("gossip.probe_timeout", spell(g.ProbeTimeout), fmt.Sprintf("at most gossip.probe_interval, %s", spell(g.ProbeInterval)))
	}
}

// hostPort reports whether text is a host name or address and a port.
func hostPort(text string) bool {
	host, portText, err := net.SplitHostPort(text)
	if err != nil || host == "" || len(host) > 253 || strings.ContainsAny(host, " /?#@%\\") {
		return false
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	return err == nil && port > 0
}
