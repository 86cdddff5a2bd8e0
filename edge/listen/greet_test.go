package listen

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/certs"
)

func TestPrefaceTellsTheCodec(t *testing.T) {
	r := newRig(t, func(*Options) {})
	const rest = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for text, codec := range map[string]string{
		preface + rest:           "h2",
		preface:                  "h2",
		"GET / HTTP/1.1\r\n\r\n": "h1",
		"POST / HTTP/1.1\r\n":    "h1",
		"PUT / HTTP/1.1\r\n":     "h1",
		"PRI * HTTP/1.1\r\n":     "h1",
		"pri * http/2.0\r\n":     "h1",
		"\x16\x03\x01":           "h1", // TLS, which is the codec's to refuse
	} {
		for _, send := range []func(net.Conn, string){r.send, r.sendBytes} {
			conn := r.dial()
			send(conn, text)
			got, err := r.hear(conn, text)
			if err != nil || got.codec != codec || !got.bare || got.remote != conn.LocalAddr().String() {
				t.Errorf("%q: %+v, %v", text, got, err)
			}
		}
	}
	for i := range len(preface) {
		text := preface[:i] + "\x00" + preface[i+1:]
		conn := r.dial()
		r.send(conn, text)
		if got, err := r.hear(conn, text); err != nil || got.codec != "h1" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestNobodyLooksForHTTP2ThatIsOff(t *testing.T) {
	r := newRig(t, func(o *Options) { o.HTTP2 = nil })
	conn := r.dial()
	if got, err := r.hear(conn, ""); err != nil || got.codec != "h1" { // nothing was sent
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProtocolIsAgreedOn(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		offers []string
		http2  bool
		codec  string
		want   string
	}{
		{[]string{"h2", "http/1.1"}, true, "h2", "tls:h2:0"},
		{[]string{"http/1.1", "h2"}, true, "h2", "tls:h2:0"},
		{[]string{"http/1.1"}, true, "h1", "tls:http/1.1:0"},
		{nil, true, "h1", "tls::0"},
		{[]string{"h2", "http/1.1"}, false, "h1", "tls:http/1.1:0"},
		{[]string{"h2"}, false, "", ""},
	} {
		r := newRig(t, func(o *Options) {
			o.TLS = a.store(t, func(o *certs.Options) {
				if !c.http2 {
					o.Protocols = []string{"http/1.1"}
				}
			}).Config()
			if !c.http2 {
				o.HTTP2 = nil
			}
		})
		conn := tls.Client(r.dial(), a.client(c.offers...))
		if err := conn.Handshake(); err != nil {
			if c.codec != "" {
				t.Errorf("%q: %v", c.offers, err)
			}
			continue
		}
		// The preface is no sign of HTTP/2 here: ALPN is.
		r.send(conn, preface)
		if got, err := r.hear(conn, preface); err != nil || got.codec != c.codec || got.protocol != c.want {
			t.Errorf("%q: %+v, %v", c.offers, got, err)
		}
	}
}

func TestSlowBeginningsEnd(t *testing.T) {
	a := newAuthority(t)
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
	for _, c := range []struct {
		what         string
		tls, proxied bool
		sent         string
		stage        string
	}{
		{"nothing", false, false, "", "preface"},
		{"half a preface", false, false, preface[:12], "preface"},
		{"no PROXY header", false, true, "", "proxy"},
		{"half a PROXY header", false, true, header[:20], "proxy"},
		{"half a binary PROXY header", false, true, proxySignature + "\x21\x11\x00\x0c\x01", "proxy"},
		{"nothing behind a PROXY header", false, true, header, "preface"},
		{"no handshake", true, false, "", "tls"},
		{"half a handshake", true, false, "\x16\x03\x01\x01\x00\x01", "tls"},
		{"no handshake behind a PROXY header", true, true, header, "tls"},
	} {
		r := newRig(t, func(o *Options) {
			o.HeadTimeout = 20 * time.Millisecond
			if c.tls {
				o.TLS = a.store(t, nil).Config()
			}
			if c.proxied {
				o.ProxyFrom = prefixes("127.0.0.0/8")
			}
		})
		conn := r.dial()
		r.send(conn, c.sent)
		r.refused(c.what, conn, c.stage, "timeout")
	}
}

// TestTimeoutEndsWithTheBeginning: what bounds the handshake does not bound
// what follows.
func TestTimeoutEndsWithTheBeginning(t *testing.T) {
	a := newAuthority(t)
	r := newRig(t, func(o *Options) { o.HeadTimeout, o.TLS = time.Second, a.store(t, nil).Config() })
	conn := tls.Client(r.dial(), a.client())
	if _, err := r.hear(conn, ""); err != nil {
		t.Fatal(err)
	}
	after := time.Now().Add(1200 * time.Millisecond)
	for time.Now().Before(after) { // the echo goes on for longer than the timeout
		r.send(conn, "x")
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailedHandshakesAreCounted(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) {
		o.TLS = a.store(t, func(o *certs.Options) { o.ClientAuth, o.ClientCAFile = certs.ClientAuthRequest, ca }).Config()
	})
	conn := r.dial()
	r.send(conn, "GET / HTTP/1.1\r\nHost: x.test\r\n\r\n")
	r.refused("cleartext", conn, "tls", "malformed")

	conn = r.dial()
	r.send(conn, "\x16\x03\x01\x01\x00\x01")
	_ = conn.(*net.TCPConn).CloseWrite() // what matters is that the end arrives
	r.refused("half a hello", conn, "tls", "closed")

	shake := func(config *tls.Config) net.Conn {
		raw := r.dial()
		conn := tls.Client(raw, config)
		if err := conn.Handshake(); err == nil {
			_, err = conn.Read(make([]byte, 1))
			if err == nil {
				t.Error("served")
			}
		}
		_ = raw.(*net.TCPConn).CloseWrite() // as above
		return raw
	}
	r.refused("a client that trusts others", shake(other.client()), "tls", "rejected")
	old := a.client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	r.refused("an old version", shake(old), "tls", "protocol")
	foreign, err := tls.LoadX509KeyPair(pairFiles(other.issue(t, t.TempDir(), 2)))
	if err != nil {
		t.Fatal(err)
	}
	stranger := a.client()
	stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
	r.refused("a certificate of another authority", shake(stranger), "tls", "certificate")
}

func pairFiles(p certs.Pair) (certFile, keyFile string) { return p.CertFile, p.KeyFile }

// TestCloseCutsBeginnings: nobody waits for a client that has not said
// anything, and those that are served go on.
func TestCloseCutsBeginnings(t *testing.T) {
	a := newAuthority(t)
	for _, secure := range []bool{false, true} {
		r := newRig(t, func(o *Options) {
			if secure {
				o.TLS = a.store(t, nil).Config()
			}
		})
		served := r.dial()
		if secure {
			served = tls.Client(served, a.client())
		}
		r.send(served, "x")
		if _, err := r.hear(served, "x"); err != nil {
			t.Fatal(err)
		}
		silent := r.dial()
		for r.listener.Stats().Open < 2 {
			r.send(served, "x") // some time goes by until it is accepted
			if _, err := io.ReadFull(served, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.listener.Close(); err != nil {
			t.Error(err)
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("TLS %t: a silent connection outlives the listener: %v", secure, err)
		}
		r.send(served, "x")
		if _, err := io.ReadFull(served, make([]byte, 1)); err != nil {
			t.Errorf("TLS %t: a served connection does not: %v", secure, err)
		}
		_ = served.Close()
	}
}
