package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// protocol is what clients speak to a proxy; it speaks HTTP/1.1 to the origins
// whatever that is.
type protocol struct{ TLS, HTTP2 bool }

// String is the name in tables.
func (p protocol) String() string {
	switch p {
	case protocol{TLS: true}:
		return "h1 over TLS"
	case protocol{TLS: true, HTTP2: true}:
		return "h2 over TLS"
	case protocol{HTTP2: true}:
		return "h2c"
	default:
		return "h1"
	}
}

// Scheme is what a proxy has to tell the origins.
func (p protocol) Scheme() string {
	if p.TLS {
		return "https"
	}
	return "http"
}

// H2C is HTTP/2 on cleartext, with prior knowledge.
func (p protocol) H2C() bool { return p.HTTP2 && !p.TLS }

// http are the protocols for a client or a server of net/http that speaks
// nothing else.
func (p protocol) http() *http.Protocols {
	var only http.Protocols
	switch {
	case p.H2C():
		only.SetUnencryptedHTTP2(true)
	case p.HTTP2:
		only.SetHTTP2(true)
	default:
		only.SetHTTP1(true)
	}
	return &only
}

// wireSuite is what all proxies encrypt with: Go's servers prefer it and let
// nobody choose, the others are told to.
const wireSuite = tls.TLS_AES_128_GCM_SHA256

// certificate is the one that all proxies of a run serve.
type certificate struct {
	CertFile string
	KeyFile  string
	PairFile string // both in one, as HAProxy wants it
	roots    *x509.CertPool
}

// newCertificate makes a self-signed one on P-256. It is for the host of the
// load and for the address, which is what some clients ask for.
func newCertificate(dir string) (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, fmt.Errorf("make a certificate's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: loadHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		DNSNames: []string{loadHost}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificate{}, fmt.Errorf("make a certificate's key: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	c := certificate{
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), PairFile: filepath.Join(dir, "pair.pem"),
		roots: x509.NewCertPool(),
	}
	c.roots.AppendCertsFromPEM(certPEM)
	for path, text := range map[string][]byte{c.CertFile: certPEM, c.KeyFile: keyPEM, c.PairFile: append(certPEM, keyPEM...)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return certificate{}, fmt.Errorf("write a certificate: %w", err)
		}
	}
	return c, nil
}

// client makes what a client of this program needs to connect.
func (c certificate) client(p protocol) *tls.Config {
	config := &tls.Config{
		RootCAs: c.roots, ServerName: loadHost, MinVersion: tls.VersionTLS13,
		// What the load generators' library agrees on with every proxy.
		CurvePreferences: []tls.CurveID{tls.X25519},
		NextProtos:       []string{"http/1.1"},
	}
	if p.HTTP2 {
		config.NextProtos = []string{"h2"}
	}
	return config
}

// checkWire says what is not as agreed on a connection over TLS.
func checkWire(state *tls.ConnectionState) error {
	if state == nil {
		return fmt.Errorf("the proxy does not speak TLS")
	}
	if state.Version != tls.VersionTLS13 || state.CipherSuite != wireSuite {
		return fmt.Errorf("the proxy chose %s with %s, want TLS 1.3 with %s",
			tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), tls.CipherSuiteName(wireSuite))
	}
	return nil
}
