package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// authority is a certificate that signs itself, for 127.0.0.1.
type authority struct {
	certFile, keyFile string
	pair              tls.Certificate
	pool              *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	a := &authority{pool: x509.NewCertPool()}
	dir := t.TempDir()
	a.certFile, a.keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, a.certFile, string(cert))
	writeFile(t, a.keyFile, string(keyPEM))
	a.pool.AppendCertsFromPEM(cert)
	if a.pair, err = tls.X509KeyPair(cert, keyPEM); err != nil {
		t.Fatal(err)
	}
	return a
}

// upstreamOf starts a real server of a protocol that says which protocol, scheme
// and body it saw.
func (a *authority) upstreamOf(t *testing.T, protocol federation.Protocol) (address string) {
	t.Helper()
	return a.serve(t, protocol, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Trailer", "x-sum")
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.Header.Get("X-Forwarded-Proto"), body)
		w.Header().Set("x-sum", fmt.Sprint(len(body)))
	})
}

// serve starts a real server of a protocol, which answers probes by itself.
func (a *authority) serve(t testing.TB, protocol federation.Protocol, handler http.HandlerFunc) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			handler(w, r)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those that are gone
	server.Config.Protocols = new(http.Protocols)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{a.pair}}
	switch protocol {
	case federation.H2C:
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	case federation.H2:
		server.Config.Protocols.SetHTTP2(true)
		server.TLS.NextProtos = []string{"h2"}
		server.EnableHTTP2 = true
		server.StartTLS()
	case federation.HTTPS:
		server.Config.Protocols.SetHTTP1(true)
		server.StartTLS()
	case federation.HTTP1:
		server.Config.Protocols.SetHTTP1(true)
		server.Start()
	}
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

var protocolDocuments = func() string {
	var docs strings.Builder
	for _, name := range []string{"http1", "https", "h2c", "h2"} {
		fmt.Fprintf(&docs, "- { id: %[1]s, path: \"/%[1]s/**\", upstream: %[1]s }\n", name)
	}
	return docs.String()
}()

// TestEveryPairOfProtocols sends a request with a body over each protocol to an
// endpoint of each: what arrives, and what comes back with its trailer, must be
// the same whatever carried it.
func TestEveryPairOfProtocols(t *testing.T) {
	ca := newAuthority(t)
	etcd, _ := startEtcd(t)
	p := settings(t, "az1", etcd)
	writeFile(t, p.Documents, protocolDocuments)
	p.Upstream.TLS.CAFile = ca.certFile
	p.Upstream.ConnectTimeout = 2 * time.Second // handshakes on a busy machine
	p.Listeners = []config.Listener{{
		Name: "secure", Address: "127.0.0.1:0", MaxConnections: 1000, HTTP2: true,
		TLS: &config.ListenTLS{Certificates: []config.Certificate{{CertFile: ca.certFile, KeyFile: ca.keyFile}}},
	}, {
		Name: "redirect", Address: "127.0.0.1:0", MaxConnections: 1000, RedirectHTTPS: 8443,
	}}
	e := start(t, p)
	e.ready()
	upstreams := map[string]federation.Protocol{
		"http1": federation.HTTP1, "https": federation.HTTPS, "h2c": federation.H2C, "h2": federation.H2,
	}
	ttl := federation.Duration(0)
	for name, protocol := range upstreams {
		_, err := e.api.Register(t.Context(), federation.Key{Service: name, ID: "only"}, api.Registration{
			Zone: "az1", Address: ca.upstreamOf(t, protocol), Protocol: string(protocol), TTL: &ttl,
		}, api.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	plain, secure := e.edge.data.listeners[0].Address().String(), e.edge.data.listeners[1].Address().String()
	for name, c := range map[string]struct {
		url       string
		protocols func(*http.Protocols)
		proto     string
	}{
		"http/1.1 over cleartext": {"http://" + plain, func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"h2c":                     {"http://" + plain, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0"},
		"http/1.1 over TLS":       {"https://" + secure, func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"h2 over TLS":             {"https://" + secure, func(p *http.Protocols) { p.SetHTTP2(true) }, "HTTP/2.0"},
	} {
		transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: ca.pool}}
		c.protocols(transport.Protocols)
		client := &http.Client{Transport: transport}
		for service, protocol := range upstreams {
			t.Run(name+" to "+string(protocol), func(t *testing.T) {
				eventually(t, "answered", func() error { return exchangeOnce(t.Context(), client, c.url+"/"+service+"/x", c.proto, protocol) })
			})
		}
		transport.CloseIdleConnections()
	}
	// An upstream URL is verified by its host's name, where addresses have none.
	_, port, _ := net.SplitHostPort(ca.upstreamOf(t, federation.HTTPS))
	writeFile(t, p.Documents, protocolDocuments+fmt.Sprintf(
		"- { id: url, path: /url, upstream: \"https://localhost:%s\" }\n", port))
	eventually(t, "upstream URL", func() error {
		return exchangeOnce(t.Context(), http.DefaultClient, "http://"+plain+"/url", "HTTP/1.1", federation.HTTPS)
	})
	noFollow := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := noFollow.Get("http://" + e.edge.data.listeners[2].Address().String() + "/http1/x?q=1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if got := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect || got != "https://127.0.0.1:8443/http1/x?q=1" {
		t.Errorf("redirected with %d to %q", response.StatusCode, got)
	}
}

func exchangeOnce(ctx context.Context, client *http.Client, url, proto string, upstream federation.Protocol) error {
	const body = "some body"
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	seen := "HTTP/1.1"
	if upstream == federation.H2 || upstream == federation.H2C {
		seen = "HTTP/2.0"
	}
	scheme, _, _ := strings.Cut(url, ":")
	want := seen + " " + scheme + " " + body
	switch {
	case response.StatusCode != http.StatusOK || string(got) != want:
		return fmt.Errorf("%d %q, want %q", response.StatusCode, got, want)
	case response.Proto != proto:
		return fmt.Errorf("answered with %s, want %s", response.Proto, proto)
	case response.Trailer.Get("x-sum") != fmt.Sprint(len(body)):
		return fmt.Errorf("trailer %v", response.Trailer)
	}
	return nil
}
