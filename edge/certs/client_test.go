package certs

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

func TestClientVerifies(t *testing.T) {
	a, other, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	clientCA := filepath.Join(dir, "clients.pem")
	replace(t, clientCA, a.pem)
	server := newStore(t, Options{
		Name: "x", Pairs: []Pair{a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")},
		ClientAuth: ClientAuthRequire, ClientCAFile: clientCA, Protocols: []string{"h2"},
	})
	ca := filepath.Join(dir, "ca.pem")
	replace(t, ca, other.pem)
	client, err := NewClient(ClientOptions{
		Name: "upstream", CAFile: ca, Pair: other.issue(9, ellipticKey(t), "edge").write(t, dir, "edge"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	// One configuration a name: it does not have to be asked for again.
	configs := map[string]*tls.Config{"x.test": client.Config("x.test", "h2"), "y.test": client.Config("y.test", "h2")}
	dial := func(name string) (tls.ConnectionState, error) {
		state, _, err := shake(t, server.Config(), configs[name])
		return state, err
	}
	if _, err := dial("x.test"); err == nil {
		t.Error("a server of another authority is trusted")
	}
	replace(t, ca, a.pem)
	clientSettle(client)
	if _, err := dial("x.test"); err == nil {
		t.Error("the server took a certificate of another authority")
	}
	a.issue(10, ellipticKey(t), "edge").write(t, dir, "edge")
	clientSettle(client)
	state, err := dial("x.test")
	if err != nil || state.PeerCertificates[0].SerialNumber.Int64() != 10 || state.NegotiatedProtocol != "h2" {
		t.Errorf("%v, %+v", err, state)
	}
	if state, err := dial("x.test"); err != nil || !state.DidResume {
		t.Errorf("the second connection: %v, resumed %t", err, state.DidResume)
	}
	if _, err := dial("y.test"); err == nil {
		t.Error("a server of another name is trusted")
	}
	// A session does not outlive the trust in its server.
	replace(t, ca, other.pem)
	clientSettle(client)
	if _, err := dial("x.test"); err == nil {
		t.Error("a session with a server that is not trusted any more is resumed")
	}
	replace(t, ca, a.pem)
	clientSettle(client)
	// What cannot be used leaves what is in force.
	replace(t, ca, []byte("nothing"))
	clientSettle(client)
	if _, err := dial("x.test"); err != nil {
		t.Errorf("after a broken file of authorities: %v", err)
	}
}

// TestClientNameOfTheSettings: it stands for whatever the address says; and
// an address is a name, too.
func TestClientNameOfTheSettings(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	server := newStore(t, Options{Name: "x", Pairs: []Pair{a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")}})
	ca := filepath.Join(dir, "ca.pem")
	replace(t, ca, a.pem)
	for name, trusts := range map[string]bool{"": false, "x.test": true, "y.test": false} {
		client, err := NewClient(ClientOptions{Name: "upstream", CAFile: ca, ServerName: name, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := shake(t, server.Config(), client.Config("192.0.2.1")); (err == nil) != trusts {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestCertificatesAreJudgedByTheClockGiven: both ways.
func TestCertificatesAreJudgedByTheClockGiven(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	replace(t, ca, a.pem)
	pair := a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")
	late := func() time.Time { return time.Now().Add(24 * time.Hour) }
	for what, c := range map[string]struct {
		server, client func() time.Time
		trusts         bool
	}{
		"in time":     {trusts: true},
		"late client": {client: late},
		"late server": {server: late},
	} {
		server := newStore(t, Options{
			Name: "x", Pairs: []Pair{pair}, ClientAuth: ClientAuthRequire, ClientCAFile: ca, Now: c.server,
		})
		client, err := NewClient(ClientOptions{Name: "upstream", CAFile: ca, Pair: pair, Now: c.client, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := shake(t, server.Config(), client.Config("x.test")); (err == nil) != c.trusts {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func clientSettle(c *Client) {
	now := time.Now()
	c.poll(now)
	c.poll(now.Add(c.opts.Interval))
}

func TestClientWithoutAuthoritiesUsesTheSystems(t *testing.T) {
	a, dir := newAuthority(t, "ca"), t.TempDir()
	server := newStore(t, Options{Name: "x", Pairs: []Pair{a.issue(1, ellipticKey(t), "x.test").write(t, dir, "x")}})
	client, err := NewClient(ClientOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := shake(t, server.Config(), client.Config("x.test")); err == nil {
		t.Error("a server that nobody vouches for is trusted")
	}
}

func TestClientOptionsAreChecked(t *testing.T) {
	for what, opts := range map[string]ClientOptions{
		"no log":       {},
		"missing CA":   {Log: slog.New(slog.DiscardHandler), CAFile: filepath.Join(t.TempDir(), "no")},
		"half a pair":  {Log: slog.New(slog.DiscardHandler), Pair: Pair{CertFile: "x"}},
		"missing pair": {Log: slog.New(slog.DiscardHandler), Pair: Pair{CertFile: "/no", KeyFile: "/no"}},
	} {
		if _, err := NewClient(opts); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
