package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func allProtocols() []protocol {
	return []protocol{{}, {TLS: true}, {TLS: true, HTTP2: true}, {HTTP2: true}}
}

func TestStockDoesTheJobOnEveryProtocol(t *testing.T) {
	b := testBench(t)
	ctx := context.Background()
	for _, speaks := range allProtocols() {
		p, err := b.startStock(ctx, speaks)
		if err != nil {
			t.Fatal(err)
		}
		check := func() error { return verify(ctx, p.entrance, pathPrefix+"42") }
		if err := waitFor(ctx, 10*time.Second, p.root, check); err != nil {
			t.Errorf("%s: %v", speaks, err)
		}
		conn, err := openIdle(ctx, p.entrance, 1)
		if err != nil {
			t.Errorf("%s: %v", speaks, err)
		} else {
			if open, err := stillOpen(conn); err != nil || !open {
				t.Errorf("%s: open %v, %v", speaks, open, err)
			}
			_ = conn.Close()
		}
		if _, err := p.discard(); err != nil {
			t.Error(err)
		}
	}
}

// A proxy that does less than the row says is refused, not measured.
func TestVerifyRefusesAnotherProtocol(t *testing.T) {
	b := testBench(t)
	ctx := context.Background()
	for _, c := range []struct{ serves, claimed protocol }{
		{serves: protocol{}, claimed: protocol{TLS: true}},
		{serves: protocol{TLS: true}, claimed: protocol{}},
		{serves: protocol{TLS: true}, claimed: protocol{HTTP2: true}},
	} {
		p, err := b.startStock(ctx, c.serves)
		if err != nil {
			t.Fatal(err)
		}
		check := func() error { return verify(ctx, p.entrance, pathPrefix+"42") }
		if err := waitFor(ctx, 10*time.Second, p.root, check); err != nil {
			t.Errorf("%s: %v", c.serves, err)
		}
		claimed := p.entrance
		claimed.speaks = c.claimed
		if err := verify(ctx, claimed, pathPrefix+"42"); err == nil {
			t.Errorf("a proxy that serves %s passes for one of %s", c.serves, c.claimed)
		}
		if _, err := openIdle(ctx, claimed, 1); err == nil {
			t.Errorf("%s: an idle connection of %s", c.serves, c.claimed)
		}
		if _, err := p.discard(); err != nil {
			t.Error(err)
		}
	}
}

// A listener of TLS that knows nothing of ALPN answers by HTTP/1.1 whatever the
// client asks for.
func TestVerifyRefusesHTTP1InsteadOfHTTP2(t *testing.T) {
	cert, err := newCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert.CertFile, cert.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: answer, ReadHeaderTimeout: time.Minute}}
	server.Start()
	defer server.Close()
	claimed := entrance{listen: netip.MustParseAddrPort(listener.Addr().String()), speaks: protocol{TLS: true, HTTP2: true}, cert: cert}
	if err := verify(context.Background(), claimed, pathPrefix+"42"); err == nil || !strings.Contains(err.Error(), "want h2 over TLS") {
		t.Errorf("a proxy without HTTP/2: %v", err)
	}
}

func TestWireIsChecked(t *testing.T) {
	good := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: wireSuite}
	if err := checkWire(&good); err != nil {
		t.Error(err)
	}
	older, other := good, good
	older.Version = tls.VersionTLS12
	other.CipherSuite = tls.TLS_AES_256_GCM_SHA384
	for want, state := range map[string]*tls.ConnectionState{"TLS 1.2": &older, "TLS_AES_256": &other, "does not speak TLS": nil} {
		if err := checkWire(state); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
