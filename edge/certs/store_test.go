package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func newStore(t testing.TB, opts Options) *Store {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake connects a client to a server and returns what both say. The server
// sends a byte, so that a client of TLS 1.3 has read its ticket, or the alert
// that follows its certificate.
func shake(t testing.TB, server, client *tls.Config) (serverState, clientState tls.ConnectionState, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte{'+'})
		}
		serverState = conn.ConnectionState()
		done <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	if err = conn.Handshake(); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	clientState = conn.ConnectionState()
	_ = raw.Close()
	return serverState, clientState, errors.Join(err, <-done)
}

func TestCertificateByName(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	s := newStore(t, Options{Name: "x", Pairs: []Pair{
		a.issue(10, rsaKey(t), "default.test", "also.test").write(t, dir, "default-rsa"),
		a.issue(11, ellipticKey(t), "default.test").write(t, dir, "default"),
		a.issue(20, ellipticKey(t), "*.wild.test").write(t, dir, "wild"),
		a.issue(30, ellipticKey(t), "Exact.wild.test").write(t, dir, "exact"),
	}})
	for _, c := range []struct {
		name   string
		rsa    bool // the client verifies RSA alone
		serial int64
	}{
		{"default.test", false, 11}, // the cheaper key of two
		{"default.test", true, 10},
		{"also.test", false, 10},
		{"a.wild.test", false, 20},
		{"A.WILD.test", false, 20},
		{"exact.wild.test", false, 30},
		{"a.b.wild.test", false, 11}, // a wildcard stands for one label
		{"wild.test", false, 11},     // and for no less
		{"unknown.test", false, 11},
		{"unknown.test", true, 10},
		{"", false, 11},
		{"", true, 10},
	} {
		client := &tls.Config{ServerName: c.name, RootCAs: a.pool(), InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
		if c.rsa {
			client.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}
		_, state, err := shake(t, s.Config(), client)
		if err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if got := state.PeerCertificates[0].SerialNumber.Int64(); got != c.serial {
			t.Errorf("%q (RSA alone: %t): certificate %d, want %d", c.name, c.rsa, got, c.serial)
		}
	}
	// A client that verifies is content with what it gets.
	if _, _, err := shake(t, s.Config(), &tls.Config{ServerName: "b.wild.test", RootCAs: a.pool()}); err != nil {
		t.Error(err)
	}
}

func TestVersionsSuitesAndProtocols(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	pair := a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")
	s := newStore(t, Options{Name: "x", Pairs: []Pair{pair}, Protocols: []string{"h2", "http/1.1"}})
	for _, c := range []struct {
		what      string
		max       uint16
		suites    []uint16
		protocols []string
		version   uint16 // 0: refused
		protocol  string
	}{
		{"1.1", tls.VersionTLS11, nil, nil, 0, ""},
		{"1.2", tls.VersionTLS12, nil, []string{"http/1.1"}, tls.VersionTLS12, "http/1.1"},
		{"1.2 without forward secrecy", tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, nil, 0, ""},
		{"1.2 without authenticated encryption", tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, nil, 0, ""},
		{"1.3", 0, nil, []string{"http/1.1", "h2"}, tls.VersionTLS13, "h2"},
		{"no protocol", 0, nil, nil, tls.VersionTLS13, ""},
		{"unknown protocol", 0, nil, []string{"spdy/3"}, 0, ""},
	} {
		_, state, err := shake(t, s.Config(), &tls.Config{
			ServerName: "x.test", RootCAs: a.pool(), MinVersion: tls.VersionTLS10, MaxVersion: c.max, CipherSuites: c.suites, NextProtos: c.protocols,
		})
		if (err == nil) != (c.version != 0) || err == nil && (state.Version != c.version || state.NegotiatedProtocol != c.protocol) {
			t.Errorf("%s: %v, version %x, protocol %q", c.what, err, state.Version, state.NegotiatedProtocol)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	a, other, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	pair := a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")
	ca := filepath.Join(dir, "ca.pem")
	replace(t, ca, a.pem)
	good := []tls.Certificate{a.issue(7, ellipticKey(t), "client").certificate(t)}
	foreign := []tls.Certificate{other.issue(8, ellipticKey(t), "client").certificate(t)}
	for _, c := range []struct {
		auth  ClientAuth
		shown []tls.Certificate
		chain bool
		ok    bool
	}{
		{ClientAuthNone, good, false, true},
		{ClientAuthRequest, nil, false, true},
		{ClientAuthRequest, good, true, true},
		{ClientAuthRequest, foreign, false, false},
		{ClientAuthRequire, nil, false, false},
		{ClientAuthRequire, good, true, true},
		{ClientAuthRequire, foreign, false, false},
	} {
		opts := Options{Name: "x", Pairs: []Pair{pair}, ClientAuth: c.auth}
		if c.auth != ClientAuthNone {
			opts.ClientCAFile = ca
		}
		shown := &tls.Certificate{}
		if c.shown != nil {
			shown = &c.shown[0]
		}
		state, _, err := shake(t, newStore(t, opts).Config(), &tls.Config{
			ServerName: "x.test", RootCAs: a.pool(),
			// Shown whatever authorities the server names.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil },
		})
		if (err == nil) != c.ok || (len(state.VerifiedChains) > 0) != c.chain {
			t.Errorf("%s, %d certificates: %v, %d chains", c.auth, len(c.shown), err, len(state.VerifiedChains))
		}
	}
}

// TestAuthoritiesAreReplaced: a session that the old ones vouched for does not
// outlive them in a ticket.
func TestAuthoritiesAreReplaced(t *testing.T) {
	a, next, dir := newAuthority(t, "old"), newAuthority(t, "new"), t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	replace(t, ca, a.pem)
	s := newStore(t, Options{
		Name: "x", Pairs: []Pair{a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")},
		ClientAuth: ClientAuthRequire, ClientCAFile: ca,
	})
	client := &tls.Config{
		ServerName: "x.test", RootCAs: a.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8),
		Certificates: []tls.Certificate{a.issue(2, ellipticKey(t), "client").certificate(t)},
	}
	for i := range 2 {
		if state, _, err := shake(t, s.Config(), client); err != nil || state.DidResume != (i == 1) {
			t.Fatalf("connection %d: %v, resumed %t", i, err, state.DidResume)
		}
	}
	replace(t, ca, next.pem)
	settle(s)
	if _, _, err := shake(t, s.Config(), client); err == nil {
		t.Error("a client of the old authorities is let in")
	}
	client = &tls.Config{
		ServerName: "x.test", RootCAs: a.pool(), Certificates: []tls.Certificate{next.issue(3, ellipticKey(t), "client").certificate(t)},
	}
	if _, _, err := shake(t, s.Config(), client); err != nil {
		t.Errorf("a client of the new authorities: %v", err)
	}
}

// settle looks as often as a change needs to be taken for one.
func settle(s *Store) {
	now := time.Now()
	s.poll(now)
	s.poll(now.Add(s.opts.Interval))
}

func serial(t *testing.T, s *Store, a *authority) int64 {
	t.Helper()
	_, state, err := shake(t, s.Config(), &tls.Config{ServerName: "x.test", RootCAs: a.pool()})
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateIsReplaced(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	first, second := a.issue(1, ellipticKey(t), "x.test"), a.issue(2, ellipticKey(t), "x.test")
	pair := first.write(t, dir, "x")
	reg := prometheus.NewRegistry()
	var lines bytes.Buffer
	s := newStore(t, Options{Name: "public", Pairs: []Pair{pair}, Registerer: reg, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	config := s.Config()
	expect := func(what string, wantSerial int64, expires time.Time, applied, refused, stale float64) {
		t.Helper()
		if got := serial(t, s, a); got != wantSerial {
			t.Errorf("%s: certificate %d is served, want %d", what, got, wantSerial)
		}
		if got := gathered(t, reg, "grayfed_certificate_expiry_seconds", "file", pair.CertFile); got != float64(expires.Unix()) {
			t.Errorf("%s: expiry %f, want %d", what, got, expires.Unix())
		}
		for result, want := range map[string]float64{"applied": applied, "refused": refused} {
			if got := gathered(t, reg, "grayfed_certificate_reloads_total", "result", result); got != want {
				t.Errorf("%s: %f reloads %s, want %f", what, got, result, want)
			}
		}
		if got := gathered(t, reg, "grayfed_certificates_stale", "name", "public"); got != stale {
			t.Errorf("%s: %f are stale, want %f", what, got, stale)
		}
	}
	expect("at first", 1, first.notAfter, 0, 0, 0)

	// Half of a change is not yet one; the whole is.
	replace(t, pair.CertFile, second.cert)
	s.poll(time.Now())
	replace(t, pair.KeyFile, second.key)
	settle(s)
	expect("replaced", 2, second.notAfter, 1, 0, 0)
	if s.Config() != config {
		t.Error("the configuration is another one: tickets are lost")
	}

	// A certificate without its key is refused, and said once.
	replace(t, pair.CertFile, first.cert)
	for range 5 {
		settle(s)
	}
	expect("half replaced", 2, second.notAfter, 1, 1, 1)
	if n := strings.Count(lines.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors are logged:\n%s", n, &lines)
	}
	if err := os.Remove(pair.CertFile); err != nil {
		t.Fatal(err)
	}
	settle(s)
	expect("missing", 2, second.notAfter, 1, 2, 1)
	replace(t, pair.CertFile, first.cert)
	replace(t, pair.KeyFile, first.key)
	settle(s)
	expect("whole again", 1, first.notAfter, 2, 2, 0)
}

// TestChangeWithinTheClockTick: same size, same time, same inode.
func TestChangeWithinTheClockTick(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	path := filepath.Join(dir, "ca.pem")
	at := time.Now().Add(-time.Second)
	put := func(text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(f, text)
		if err = errors.Join(err, f.Close(), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	put(string(a.pem))
	s := newAuthorities(path)
	if err := s.first(time.Now()); err != nil {
		t.Fatal(err)
	}
	put(strings.Replace(string(a.pem), "BEGIN", "begin", 1))
	if _, err := s.poll(time.Now()); !errors.Is(err, errNoCertificate) {
		t.Errorf("not seen: %v", err)
	}
}

// TestTicketsOutliveCertificates: a session of before a change goes on.
func TestTicketsOutliveCertificates(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	first, second := a.issue(1, ellipticKey(t), "x.test"), a.issue(2, ellipticKey(t), "x.test")
	s := newStore(t, Options{Name: "x", Pairs: []Pair{first.write(t, dir, "x")}})
	client := &tls.Config{ServerName: "x.test", RootCAs: a.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	if _, _, err := shake(t, s.Config(), client); err != nil {
		t.Fatal(err)
	}
	second.write(t, dir, "x")
	settle(s)
	if state, _, err := shake(t, s.Config(), client); err != nil || !state.DidResume {
		t.Errorf("%v, resumed %t", err, state.DidResume)
	}
}

func TestRunLooks(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	s := newStore(t, Options{Name: "x", Pairs: []Pair{a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")}, Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	a.issue(2, ellipticKey(t), "x.test").write(t, dir, "x")
	for deadline := time.Now().Add(20 * time.Second); serial(t, s, a) != 2; {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStoreOptionsAreChecked(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	pair := a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")
	other := a.issue(2, ellipticKey(t), "x.test").write(t, dir, "y")
	good := Options{Name: "x", Pairs: []Pair{pair}, Log: slog.New(slog.DiscardHandler)}
	for what, spoil := range map[string]func(*Options){
		"no pair":           func(o *Options) { o.Pairs = nil },
		"no log":            func(o *Options) { o.Log = nil },
		"no key":            func(o *Options) { o.Pairs = []Pair{{CertFile: pair.CertFile}} },
		"twice":             func(o *Options) { o.Pairs = []Pair{pair, pair} },
		"foreign key":       func(o *Options) { o.Pairs = []Pair{{CertFile: pair.CertFile, KeyFile: other.KeyFile}} },
		"missing file":      func(o *Options) { o.Pairs = []Pair{{CertFile: dir + "/no", KeyFile: pair.KeyFile}} },
		"key as a CA":       func(o *Options) { o.ClientAuth, o.ClientCAFile = ClientAuthRequire, pair.KeyFile },
		"request, no CA":    func(o *Options) { o.ClientAuth = ClientAuthRequest },
		"CA, nothing asked": func(o *Options) { o.ClientCAFile = pair.CertFile },
		"unknown mode":      func(o *Options) { o.ClientAuth, o.ClientCAFile = "maybe", pair.CertFile },
	} {
		opts := good
		spoil(&opts)
		if _, err := New(opts); err == nil {
			t.Errorf("%s: accepted", what)
		} else if what == "foreign key" && !strings.Contains(err.Error(), pair.CertFile) {
			t.Errorf("%s: %v does not name the file", what, err)
		}
	}
}

// gathered is the value of the series with a label.
func gathered(t *testing.T, reg *prometheus.Registry, name, label, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no %s with %s=%q", name, label, value)
	return 0
}
