package listen

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/exchange"
)

// teller is a codec that says who it is and whom it sees, and then returns
// what it is sent.
type teller struct{ name string }

func (c teller) ServeConn(conn net.Conn, info exchange.Conn) {
	defer conn.Close()
	protocol := "-"
	if info.TLS != nil {
		protocol = fmt.Sprintf("tls:%s:%d", info.TLS.NegotiatedProtocol, len(info.TLS.VerifiedChains))
	}
	_, bare := conn.(*net.TCPConn)
	if _, err := fmt.Fprintf(conn, "%s %s %s %s %t\n", c.name, info.Remote, info.Local, protocol, bare); err != nil {
		return
	}
	_, _ = io.Copy(conn, conn)
}

// told is what a teller says.
type told struct {
	codec         string
	remote, local string
	protocol      string
	bare          bool // the connection is the socket itself
}

// rig is a listener of tellers.
type rig struct {
	t        *testing.T
	listener *Listener
	registry *prometheus.Registry
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, registry: prometheus.NewRegistry()}
	opts := Options{
		Name: "test", Address: "127.0.0.1:0", MaxConnections: 100, HTTP1: teller{"h1"}, HTTP2: teller{"h2"},
		HeadTimeout: 20 * time.Second, Registerer: r.registry, Log: slog.New(slog.DiscardHandler),
	}
	change(&opts)
	var err error
	if r.listener, err = Open(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.listener.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(r.listener.Close(), <-ended); err != nil {
			t.Error(err)
		}
		if n := r.listener.Stats().Open; n != 0 {
			t.Errorf("Run returned with %d connections open", n)
		}
	})
	return r
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.listener.Address().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func (r *rig) send(conn net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
}

// sendBytes sends each byte in a packet of its own.
func (r *rig) sendBytes(conn net.Conn, text string) {
	r.t.Helper()
	for i := range len(text) {
		r.send(conn, text[i:i+1])
	}
}

// hear reads what the codec says, and checks that it was given what, to the
// byte.
func (r *rig) hear(conn net.Conn, what string) (told, error) {
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return told{}, err
	}
	var w told
	if _, err := fmt.Sscan(line, &w.codec, &w.remote, &w.local, &w.protocol, &w.bare); err != nil {
		return told{}, err
	}
	echo := make([]byte, len(what))
	if _, err := io.ReadFull(reader, echo); err != nil || string(echo) != what {
		return told{}, fmt.Errorf("codec read %q (%w), want %q", echo, err, what)
	}
	return w, nil
}

// refused waits until the connection is closed unserved, as the first for a
// reason.
func (r *rig) refused(what string, conn net.Conn, stage, reason string) {
	r.t.Helper()
	if got, err := io.ReadAll(conn); strings.Contains(string(got), "h1 ") || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("%s: received %q, %v, want the end", what, got, err)
	}
	if got := r.failures(stage, reason); got != 1 {
		r.t.Errorf("%s: %f failures counted as %s of %s, want 1", what, got, reason, stage)
	}
}

func (r *rig) failures(stage, reason string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["stage"] == stage && labels["reason"] == reason && labels["listener"] == "test" {
				return m.GetCounter().GetValue()
			}
		}
	}
	r.t.Fatalf("no series for %s of %s", reason, stage)
	return 0
}

// authority signs certificates and says whom to trust.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue writes a new pair for x.test over what the folder holds.
func (a *authority) issue(t testing.TB, dir string, serial int64) certs.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"x.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := certs.Pair{CertFile: filepath.Join(dir, "x.crt"), KeyFile: filepath.Join(dir, "x.key")}
	for file, block := range map[string]*pem.Block{
		pair.CertFile: {Type: "CERTIFICATE", Bytes: der}, pair.KeyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := errors.Join(os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

// store is the authority's certificate for x.test.
func (a *authority) store(t testing.TB, change func(*certs.Options)) *certs.Store {
	t.Helper()
	opts := certs.Options{
		Name: "test", Pairs: []certs.Pair{a.issue(t, t.TempDir(), 1)}, Protocols: []string{"h2", "http/1.1"}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&opts)
	}
	s, err := certs.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client is what a client of x.test that trusts the authority uses.
func (a *authority) client(protocols ...string) *tls.Config {
	return &tls.Config{ServerName: "x.test", RootCAs: a.pool, NextProtos: protocols}
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}
