package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Failover is this edge's entry in DNS, and when clients are sent to it.
type Failover struct {
	// Role is primary or standby; default primary. Standbys get clients only
	// while no primary can take them.
	Role string
	// Weight is its full share, relative to the other edges', 1 to 1000;
	// default 50.
	Weight int
	// Primaries are the zones that a standby stands in for; required there,
	// and a primary has none.
	Primaries []string
	// Heartbeat is the time between two looks at the other edges, 100 ms to 10
	// s; default 500 ms. Misses of them in a row, 1 to 20, default 3, make a
	// change certain.
	Heartbeat time.Duration
	Misses    int
	// Hold is how long an edge that went out stays out, and a standby that
	// went in stays in, at least: Heartbeat to 1 h; default 10 s.
	Hold time.Duration
	// Steps are the percentages of its weight that a returning edge gets one
	// after the other, rising, 1 to 100; default 10, 25, 50, 100. StepEvery is
	// how long each lasts, Heartbeat to 1 h; default 5 s.
	Steps     []int
	StepEvery time.Duration
	// Addresses, 1 to 8, are where clients reach this edge; default that of
	// the data listener, required when it listens on every address.
	Addresses []netip.Addr
	// Port is where clients reach it; default (0) that of the data listener.
	Port int
}

// Consul is where this edge publishes its entry, and learns of the others'.
type Consul struct {
	// Address is that of the agent: "http://host:port", "https://host:port" or
	// "unix:///path"; default http://127.0.0.1:8500.
	Address string
	// TokenFile has the ACL token in its first line; it is read again as it
	// changes.
	TokenFile string
	TLS       TLSFiles
	// Service is the name that the edges of a federation share, letters,
	// digits and hyphens; default grayfed-gateway.
	Service string
	// CheckURL is what the agent asks every second whether this edge lives;
	// default /v1/failover/check of the health listener, else of the admin
	// listener.
	CheckURL string
}

// DNS is a name server for the edges of the federation.
type DNS struct {
	// Address is "ip:port", over UDP and TCP; required. Port 0 takes a free
	// one.
	Address string
	// Domain is the zone that it is authoritative for; the edges are
	// gateway.<domain>. Required.
	Domain string
	// TTL is how long answers may be kept, 0 to 1 h in whole seconds; default
	// 1 s.
	TTL time.Duration
	// Nameservers are the names in the NS records; default ns.<domain>.
	Nameservers []string
}

const (
	roleRule   = "primary or standby"
	standby    = "standby"
	maxTargets = 8 // addresses of one entry
	maxWeight  = 1000
	domainRule = "a domain like example.com"
)

// DefaultFailover is a primary with every default.
func DefaultFailover() *Failover {
	return &Failover{
		Role: "primary", Weight: 50, Heartbeat: 500 * millisecond, Misses: 3,
		Hold: 10 * time.Second, Steps: []int{10, 25, 50, 100}, StepEvery: 5 * time.Second,
	}
}

// failover reads the three sections. An empty failover section is a primary
// with every default.
func (p *Process) failover(o *object) {
	o.below("failover", func(o *object) {
		p.Failover = DefaultFailover()
		p.Failover.decode(o)
	})
	o.below("consul", func(o *object) {
		p.Consul = &Consul{Address: "http://127.0.0.1:8500", Service: "grayfed-gateway"}
		p.Consul.decode(o)
	})
	o.below("dns", func(o *object) {
		p.DNS = &DNS{TTL: time.Second}
		p.DNS.decode(o)
	})
}

func (f *Failover) decode(o *object) {
	o.choice("role", &f.Role, "primary", standby)
	o.integer("weight", &f.Weight, 1, maxWeight)
	o.texts("primaries", &f.Primaries, maxList)
	o.duration("heartbeat", &f.Heartbeat, 100*millisecond, 10*time.Second)
	o.integer("misses", &f.Misses, 1, 20)
	o.duration("hold", &f.Hold, 100*millisecond, time.Hour)
	o.integers("steps", &f.Steps, 1, 100)
	o.duration("step_every", &f.StepEvery, 100*millisecond, time.Hour)
	for i, n := range o.items("addresses", maxTargets) {
		var text string
		if !o.d.text(n, o.item("addresses", i), &text) {
			continue
		}
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			o.d.wrong(resolve(n), o.item("addresses", i), "an IP address")
			continue
		}
		f.Addresses = append(f.Addresses, address.Unmap())
	}
	o.integer("port", &f.Port, 1, maxPort)
	o.end()
}

func (c *Consul) decode(o *object) {
	o.text("address", &c.Address)
	o.text("token_file", &c.TokenFile)
	o.below("tls", c.TLS.decode)
	o.text("service", &c.Service)
	o.text("check_url", &c.CheckURL)
	o.end()
}

func (d *DNS) decode(o *object) {
	o.require("address", "ip:port")
	o.require("domain", domainRule)
	o.text("address", &d.Address)
	o.text("domain", &d.Domain)
	o.duration("ttl", &d.TTL, 0, time.Hour)
	o.texts("nameservers", &d.Nameservers, 13) // as many as the root has
	o.end()
}

// integers reads a list of whole numbers within bounds.
func (o *object) integers(name string, into *[]int, least, most int) {
	if o.get(name) == nil {
		return
	}
	list := []int{}
	for i, n := range o.items(name, maxList) {
		value := least
		o.d.integer(n, o.item(name, i), &value, least, most)
		list = append(list, value)
	}
	*into = list
}

// validateFailover judges the three sections together; addresses of listeners
// are judged with the others.
func (p *Process) validateFailover(e *fieldErrors) {
	const needed = "failover with it, which is this edge's entry"
	if p.Failover != nil {
		p.Failover.validate(e, p)
	}
	if p.Consul != nil {
		p.Consul.validate(e)
		if p.Failover == nil {
			e.add("consul", "consul without failover", needed)
		}
	}
	if p.DNS != nil {
		p.DNS.validate(e)
		if p.Failover == nil {
			e.add("dns", "dns without failover", needed)
		}
	}
}

func (f *Failover) validate(e *fieldErrors, p *Process) {
	switch {
	case f.Role != standby && len(f.Primaries) > 0:
		e.add("failover.primaries", "zones that a primary stands in for", "primaries with role: standby only")
	case f.Role == standby && len(f.Primaries) == 0:
		e.add("failover.primaries", "nothing", "the zones that this standby stands in for")
	}
	for i, zone := range f.Primaries {
		field := itemField("failover.primaries", i)
		switch {
		case !federation.ValidName(zone):
			e.add(field, federation.Quote(zone), nameRule)
		case zone == p.Zone:
			e.add(field, federation.Quote(zone)+", this edge's own", "other zones")
		case slices.Index(f.Primaries, zone) < i:
			e.add(field, federation.Quote(zone)+" again", "each zone once")
		}
	}
	if f.Hold < f.Heartbeat {
		e.add("failover.hold", spell(f.Hold), "at least failover.heartbeat, "+spell(f.Heartbeat))
	}
	if f.StepEvery < f.Heartbeat {
		e.add("failover.step_every", spell(f.StepEvery), "at least failover.heartbeat, "+spell(f.Heartbeat))
	}
	if len(f.Steps) == 0 {
		e.add("failover.steps", "no step", "at least one")
	}
	for i := 1; i < len(f.Steps); i++ {
		if f.Steps[i] <= f.Steps[i-1] {
			e.add(itemField("failover.steps", i), strconv.Itoa(f.Steps[i])+" after "+strconv.Itoa(f.Steps[i-1]), "rising percentages")
		}
	}
	for i, address := range f.Addresses {
		field := itemField("failover.addresses", i)
		switch {
		case address.IsUnspecified() || address.IsMulticast():
			e.add(field, address.String(), "an address that clients can reach")
		case slices.Index(f.Addresses, address) < i:
			e.add(field, address.String()+" again", "each address once")
		}
	}
	listen, ok := parseListenAddress(p.Listen.Address)
	if len(f.Addresses) == 0 && ok && listen.Addr().IsUnspecified() {
		e.add("failover.addresses", "nothing", "where clients reach this edge, since listen.address is "+p.Listen.Address)
	}
}

func (c *Consul) validate(e *fieldErrors) {
	u, err := url.Parse(c.Address)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
	case err != nil || !plainURL(u) || u.Path != "" && u.Path != "/" || u.RawQuery != "":
		e.add("consul.address", federation.Quote(c.Address), "http://host:port, https://host:port or unix:///path")
	}
	if c.TLS != (TLSFiles{}) && (err != nil || u.Scheme != "https") {
		e.add("consul.tls", "tls with an address that is not https", "https in consul.address")
	}
	c.TLS.validate(e, "consul.tls")
	if !validLabel(c.Service) {
		e.add("consul.service", federation.Quote(c.Service), "letters, digits and hyphens, at most 63")
	}
	if c.CheckURL != "" {
		if u, err := url.Parse(c.CheckURL); err != nil || !plainURL(u) {
			e.add("consul.check_url", federation.Quote(c.CheckURL), "an http or https URL with a port")
		}
	}
}

// plainURL is http or https with host and port, and without user and fragment.
func plainURL(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && hostPort(u.Host) && u.User == nil && u.Fragment == ""
}

func (d *DNS) validate(e *fieldErrors) {
	if _, err := netip.ParseAddrPort(d.Address); err != nil {
		e.add("dns.address", federation.Quote(d.Address), "ip:port")
	}
	// Names before the domain have to fit in.
	if !validDomain(d.Domain) || len(d.Domain) > 159 {
		e.add("dns.domain", federation.Quote(d.Domain), domainRule)
	}
	if d.TTL%time.Second != 0 {
		e.add("dns.ttl", spell(d.TTL), "whole seconds")
	}
	gateway := "gateway." + rootless(d.Domain)
	for i, name := range d.Nameservers {
		switch field, plain := itemField("dns.nameservers", i), rootless(name); {
		case !validDomain(name):
			e.add(field, federation.Quote(name), "a host name like ns1.example.com")
		case plain == gateway || strings.HasSuffix(plain, "."+gateway):
			e.add(field, federation.Quote(name), "a name that is not at or below "+gateway)
		}
	}
}

// validDomain takes host names of at least two labels, with or without the
// root's dot (RFC 1123, 2.1).
func validDomain(name string) bool {
	name = rootless(name)
	labels := strings.Split(name, ".")
	return len(name) <= 253 && len(labels) > 1 && !slices.ContainsFunc(labels, func(l string) bool { return !validLabel(l) })
}

func rootless(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func validLabel(text string) bool {
	return len(text) > 0 && len(text) <= 63 && text[0] != '-' && text[len(text)-1] != '-' &&
		strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
