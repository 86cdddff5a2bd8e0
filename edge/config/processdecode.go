package config

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	millisecond = time.Millisecond
	day         = 24 * time.Hour
	maxList     = 1000 // entries of a list of addresses
)

// LoadProcess reads edge.yaml, fills in the defaults and validates the whole.
// The error is a [Problems].
func LoadProcess(path string) (*Process, error) {
	data, problem := readFile(path)
	if problem != nil {
		return nil, Problems{*problem}
	}
	return ParseProcess(path, data)
}

// ParseProcess is [LoadProcess] for text that has been read already; file
// names it in problems, and its folder is what relative paths start from.
func ParseProcess(file string, data []byte) (*Process, error) {
	var problems Problems
	roots := parseYAML(file, data, &problems)
	switch {
	case len(problems) > 0:
	case len(roots) == 0:
		problems.add(Problem{File: file, Found: "nothing", Allowed: "process settings: id, zone, documents, ..."})
	case len(roots) > 1:
		problems.add(Problem{File: file, Line: roots[1].Line, Column: roots[1].Column, Found: "another YAML document", Allowed: "one"})
	}
	if len(roots) == 0 {
		return nil, problems.sorted()
	}
	p := decodeProcess(file, roots[0], &problems)
	if err := problems.sorted(); err != nil {
		return nil, err
	}
	return p, nil
}

func decodeProcess(file string, root *yaml.Node, problems *Problems) *Process {
	p := DefaultProcess()
	d := newDecoder(file, problems)
	o, ok := d.object(root, "")
	if !ok {
		return p
	}
	o.text("id", &p.ID)
	o.text("cluster", &p.Cluster)
	o.text("zone", &p.Zone)
	o.text("region", &p.Region)
	o.text("data_dir", &p.DataDir)
	o.text("documents", &p.Documents)
	o.below("listen", p.Listen.decode)
	p.listeners(o)
	o.below("admin", p.Admin.decode)
	o.below("etcd", p.Etcd.decode)
	o.below("gossip", p.Gossip.decode)
	o.prefixes("trusted_proxies", &p.TrustedProxies)
	o.flag("forwarded", &p.Forwarded)
	o.below("registration", func(o *object) {
		o.prefixes("allowed_cidrs", &p.Registration.AllowedCIDRs)
		o.duration("orphan_ttl", &p.Registration.OrphanTTL, time.Minute, 30*day)
		o.end()
	})
	o.texts("zone_order", &p.ZoneOrder, maxList)
	o.below("log", p.Log.decode)
	o.below("health", p.Health.decode)
	o.below("upstream", func(o *object) {
		o.duration("connect_timeout", &p.Upstream.ConnectTimeout, 10*millisecond, time.Minute)
		o.integer("max_connections", &p.Upstream.MaxConnections, 1, 100_000)
		o.duration("idle_timeout", &p.Upstream.IdleTimeout, 100*millisecond, time.Hour)
		o.below("tls", func(o *object) {
			o.text("ca_file", &p.Upstream.TLS.CAFile)
			o.text("cert_file", &p.Upstream.TLS.CertFile)
			o.text("key_file", &p.Upstream.TLS.KeyFile)
			o.text("server_name", &p.Upstream.TLS.ServerName)
			o.end()
		})
		o.end()
	})
	o.below("shutdown", func(o *object) {
		o.duration("drain_timeout", &p.Shutdown.DrainTimeout, 0, time.Hour)
		o.end()
	})
	p.decodeReach(o)
	p.failover(o)
	o.end("tls", "tracing", "otel")
	d.invalid(p.Validate(), "")
	p.complete()
	p.resolvePaths(filepath.Dir(file))
	return p
}

func (l *Listen) decode(o *object) {
	l.Listener.decode(o)
	o.below("timeouts", func(o *object) {
		o.duration("head", &l.Timeouts.Head, 10*millisecond, day)
		o.duration("body", &l.Timeouts.Body, 10*millisecond, day)
		o.duration("idle", &l.Timeouts.Idle, 10*millisecond, day)
		o.duration("write", &l.Timeouts.Write, 10*millisecond, day)
		o.end()
	})
	o.below("limits", func(o *object) {
		o.integer("head_bytes", &l.Limits.HeadBytes, 1024, 1<<20)
		o.integer("fields", &l.Limits.Fields, 8, 1000)
		o.end("body_bytes")
	})
	o.end()
}

func (a *Admin) decode(o *object) {
	o.text("address", &a.Address)
	o.below("tls", func(o *object) {
		o.text("cert_file", &a.TLS.CertFile)
		o.text("key_file", &a.TLS.KeyFile)
		o.end()
	})
	o.text("tokens_file", &a.TokensFile)
	o.text("health_address", &a.HealthAddress)
	o.end()
}

func (e *Etcd) decode(o *object) {
	o.texts("endpoints", &e.Endpoints, maxList)
	o.text("prefix", &e.Prefix)
	o.below("tls", e.TLS.decode)
	o.text("username", &e.Username)
	o.text("password_file", &e.PasswordFile)
	o.duration("dial_timeout", &e.DialTimeout, 100*millisecond, time.Minute)
	o.end()
}

func (g *Gossip) decode(o *object) {
	o.text("bind", &g.Bind)
	o.text("advertise", &g.Advertise)
	o.text("key_file", &g.KeyFile)
	o.texts("peers", &g.Peers, maxList)
	o.duration("probe_interval", &g.ProbeInterval, 50*millisecond, 10*time.Second)
	o.duration("probe_timeout", &g.ProbeTimeout, 10*millisecond, 10*time.Second)
	o.integer("suspicion_multiplier", &g.SuspicionMultiplier, 1, 10)
	o.integer("suspicion_max_multiplier", &g.SuspicionMaxMultiplier, 1, 10)
	o.duration("interval", &g.GossipInterval, 10*millisecond, time.Second)
	o.end()
}

func (t *TLSFiles) decode(o *object) {
	o.text("ca_file", &t.CAFile)
	o.text("cert_file", &t.CertFile)
	o.text("key_file", &t.KeyFile)
	o.end()
}

func (l *Log) decode(o *object) {
	o.choice("level", &l.Level, "debug", "info", "warn", "error")
	o.choice("format", &l.Format, "json", "text")
	o.flag("access", &l.Access)
	o.integer("access_queue", &l.AccessQueue, 64, 1_000_000)
	o.end()
}

func (h *Health) decode(o *object) {
	o.below("probe", func(o *object) {
		o.duration("interval", &h.Probe.Interval, 100*millisecond, 5*time.Minute)
		o.duration("timeout", &h.Probe.Timeout, 10*millisecond, time.Minute)
		o.integer("failures", &h.Probe.Failures, 1, 100)
		o.end()
	})
	o.below("ejection", func(o *object) {
		o.integer("connect_failures", &h.Ejection.ConnectFailures, 1, 1000)
		o.integer("gateway_failures", &h.Ejection.GatewayFailures, 1, 1000)
		o.integer("window_percent", &h.Ejection.WindowPercent, 1, 100)
		o.integer("window_minimum", &h.Ejection.WindowMinimum, 1, 1_000_000)
		o.end()
	})
	o.integer("panic_threshold", &h.PanicThreshold, 0, 100)
	o.end()
}

// prefixes reads a list of CIDRs; an address alone stands for itself. An empty
// list is not nil: it allows nothing.
func (o *object) prefixes(name string, into *[]netip.Prefix) {
	if o.get(name) == nil {
		return
	}
	list := []netip.Prefix{}
	for i, n := range o.items(name, maxList) {
		var text string
		if !o.d.text(n, o.item(name, i), &text) {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil && addr.Zone() == "" {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		switch {
		case err != nil:
			o.d.wrong(resolve(n), o.item(name, i), "a network like 10.0.0.0/8 or fd00::/8, or one address")
		case prefix != prefix.Masked():
			o.d.wrong(resolve(n), o.item(name, i), prefix.Masked().String()+" (no bits behind the mask)")
		default:
			list = append(list, prefix)
		}
	}
	*into = list
}

// resolvePaths makes relative paths start from the folder of edge.yaml.
func (p *Process) resolvePaths(folder string) {
	paths := []*string{
		&p.DataDir, &p.Documents, &p.Admin.TLS.CertFile, &p.Admin.TLS.KeyFile, &p.Admin.TokensFile,
		&p.Etcd.TLS.CAFile, &p.Etcd.TLS.CertFile, &p.Etcd.TLS.KeyFile, &p.Etcd.PasswordFile, &p.Gossip.KeyFile,
		&p.Upstream.TLS.CAFile, &p.Upstream.TLS.CertFile, &p.Upstream.TLS.KeyFile,
	}
	paths = append(paths, p.Listen.paths()...)
	for i := range p.Listeners {
		paths = append(paths, p.Listeners[i].paths()...)
	}
	paths = append(paths, &p.Peer.TLS.CAFile, &p.Peer.TLS.CertFile, &p.Peer.TLS.KeyFile)
	if c := p.Consul; c != nil {
		paths = append(paths, &c.TokenFile, &c.TLS.CAFile, &c.TLS.CertFile, &c.TLS.KeyFile)
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
}

// itemField is the field path of a list's item.
func itemField(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
