package config

import (
	"net/netip"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/federation"
)

// Listener is an address that clients connect to.
type Listener struct {
	// Name tells it from others in metrics and logs: a federation.ValidName,
	// required in listeners. That of listen is "listen".
	Name string
	// Address is "ip:port" or ":port" for every address; port 0 takes a free
	// one. Required in listeners; that of listen is ":8081" by default.
	Address string
	// MaxConnections bounds client connections, 1 to 1,000,000; default
	// 50,000.
	MaxConnections int
	// HTTP2: clients may speak it, on cleartext with prior knowledge; on or
	// off, default on. Key: http2.
	HTTP2 bool
	// TLS is nil on a cleartext listener.
	TLS *ListenTLS
	// ProxyFrom are the peers that begin connections with a PROXY protocol
	// header; others are refused then. Key: proxy_protocol.from; without
	// proxy_protocol no header is read.
	ProxyFrom []netip.Prefix
	// RedirectHTTPS is the port of HTTPS on this host that every request is
	// sent to with a 308; 0: requests are served. Key: redirect_https, true
	// for 443, false, or the port.
	RedirectHTTPS int
}

// ListenTLS ends TLS.
type ListenTLS struct {
	// Certificates, 1 to 1000, are chosen by the name that the client asks
	// for; the first is for clients that ask for none or an unknown one.
	Certificates []Certificate
	// ClientCAFile holds the authorities of clients' certificates; it goes
	// with a ClientAuth that asks for them.
	ClientCAFile string
	// ClientAuth is none, the default; request, which lets in clients without
	// a certificate; or require.
	ClientAuth string
}

// Certificate names the PEM files of a certificate, with its chain behind it,
// and of its key.
type Certificate struct {
	CertFile string
	KeyFile  string
}

// UpstreamTLS is how endpoints that speak TLS are verified.
type UpstreamTLS struct {
	TLSFiles
	// ServerName is what endpoints' certificates must be for; default: the
	// host of the endpoint's address.
	ServerName string
}

const (
	mainListener = "listen"
	portOfHTTPS  = 443
	maxPort      = 65535
)

func defaultListener() Listener { return Listener{MaxConnections: 50_000, HTTP2: true} }

// DataListeners are all listeners for clients, that of listen first.
func (p *Process) DataListeners() []Listener {
	return append([]Listener{p.Listen.Listener}, p.Listeners...)
}

// listeners reads the further listeners.
func (p *Process) listeners(o *object) {
	for i, n := range o.items("listeners", maxList) {
		if inner, ok := o.d.object(n, o.item("listeners", i)); ok {
			l := defaultListener()
			inner.require("name", nameRule)
			inner.require("address", listenRule)
			inner.text("name", &l.Name)
			l.decode(inner)
			inner.end()
			p.Listeners = append(p.Listeners, l)
		}
	}
}

// decode reads what listen and listeners have in common.
func (l *Listener) decode(o *object) {
	o.text("address", &l.Address)
	o.integer("max_connections", &l.MaxConnections, 1, 1_000_000)
	o.flag("http2", &l.HTTP2)
	o.below("tls", func(o *object) {
		l.TLS = &ListenTLS{ClientAuth: "none"}
		l.TLS.decode(o)
	})
	o.below("proxy_protocol", func(o *object) {
		o.require("from", "the networks of the proxies")
		o.prefixes("from", &l.ProxyFrom)
		if n := o.get("from"); n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			o.d.problem(n, o.path("from"), "no network", "at least one; no proxy_protocol where there is no header")
		}
		o.end()
	})
	if n := o.get("redirect_https"); n != nil {
		l.RedirectHTTPS = o.d.redirect(n, o.path("redirect_https"))
	}
}

func (d *decoder) redirect(n *yaml.Node, field string) int {
	switch n.Value {
	case "true", "on":
		return portOfHTTPS
	case "false", "off":
		return 0
	}
	port := 0
	if n.Tag != "!!int" {
		d.wrong(n, field, "true, false or the port of HTTPS")
		return 0
	}
	d.integer(n, field, &port, 1, maxPort)
	return port
}

func (t *ListenTLS) decode(o *object) {
	o.require("certificates", "at least one {cert_file, key_file}")
	for i, n := range o.items("certificates", maxList) {
		if inner, ok := o.d.object(n, o.item("certificates", i)); ok {
			var c Certificate
			inner.require("cert_file", "a PEM file")
			inner.require("key_file", "a PEM file")
			inner.text("cert_file", &c.CertFile)
			inner.text("key_file", &c.KeyFile)
			inner.end()
			t.Certificates = append(t.Certificates, c)
		}
	}
	o.text("client_ca_file", &t.ClientCAFile)
	o.choice("client_auth", &t.ClientAuth, "none", "request", "require")
	o.end()
}

// validateListeners is about what listeners say taken together; addresses are
// judged with those of the other listeners of the process.
func (p *Process) validateListeners(e *fieldErrors) {
	p.Listen.validate(e, mainListener)
	names := map[string]bool{mainListener: true}
	for i := range p.Listeners {
		l, field := &p.Listeners[i], itemField("listeners", i)
		switch {
		case !federation.ValidName(l.Name):
			e.add(field+".name", federation.Quote(l.Name), nameRule)
		case names[l.Name]:
			e.add(field+".name", federation.Quote(l.Name)+" again", "a name of its own (listen is called listen)")
		}
		names[l.Name] = true
		l.validate(e, field)
	}
}

func (l *Listener) validate(e *fieldErrors, field string) {
	if l.TLS == nil {
		return
	}
	if l.RedirectHTTPS != 0 {
		e.add(field+".redirect_https", "a redirect to HTTPS under tls", "one of redirect_https and tls")
	}
	field += ".tls"
	if len(l.TLS.Certificates) == 0 {
		e.add(field+".certificates", "no certificate", "at least one")
	}
	for i, c := range l.TLS.Certificates {
		same := func(other Certificate) bool { return other.CertFile == c.CertFile }
		switch {
		case c.CertFile == "":
			e.add(itemField(field+".certificates", i)+".cert_file", "nothing", "a PEM file")
		case slices.IndexFunc(l.TLS.Certificates, same) < i:
			e.add(itemField(field+".certificates", i)+".cert_file", federation.Quote(c.CertFile)+" again", "each certificate once")
		}
		if c.KeyFile == "" {
			e.add(itemField(field+".certificates", i)+".key_file", "nothing", "a PEM file")
		}
	}
	switch asks := l.TLS.ClientAuth == "request" || l.TLS.ClientAuth == "require"; {
	case asks && l.TLS.ClientCAFile == "":
		e.add(field+".client_auth", federation.Quote(l.TLS.ClientAuth)+" without client_ca_file", "both or neither")
	case !asks && l.TLS.ClientCAFile != "":
		e.add(field+".client_ca_file", "authorities of certificates that nobody asks for", "client_auth: request or require with it")
	}
}

// paths are the files that the listener names.
func (l *Listener) paths() (paths []*string) {
	if l.TLS == nil {
		return nil
	}
	for i := range l.TLS.Certificates {
		paths = append(paths, &l.TLS.Certificates[i].CertFile, &l.TLS.Certificates[i].KeyFile)
	}
	return append(paths, &l.TLS.ClientCAFile)
}
