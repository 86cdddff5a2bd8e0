package http2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	spec2 "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/grayfed/grayfed/edge/exchange"
)

// TestSpecification runs h2spec, all of it.
func TestSpecification(t *testing.T) {
	options := Options{Handler: handler{serve: func(x *exchange.Exchange) {
		if _, err := readAll(x.Request.Body); err == nil {
			answer(x, 200, "hello, world")
		}
	}}}
	for _, secure := range []bool{false, true} {
		name, serve := "h2c", (*tls.Config)(nil)
		if secure {
			name, serve = "tls", newCertificate(t)
		}
		t.Run(name, func(t *testing.T) {
			r := newTLSRig(t, options, serve)
			_, port, err := net.SplitHostPort(r.address)
			if err != nil {
				t.Fatal(err)
			}
			c := &config.Config{
				Host: "127.0.0.1", Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000,
				Strict: true, TLS: secure, Insecure: true,
			}
			if c.Port, err = strconv.Atoi(port); err != nil {
				t.Fatal(err)
			}
			passed := 0
			for _, group := range []*spec.TestGroup{generic.Spec(), spec2.Spec(), hpack.Spec()} {
				passed += runGroup(t, c, group)
			}
			if passed < 145 {
				t.Errorf("%d cases have passed, there are 145", passed)
			}
		})
	}
}

func runGroup(t *testing.T, c *config.Config, group *spec.TestGroup) (passed int) {
	for _, part := range group.Groups {
		passed += runGroup(t, c, part)
	}
	for _, tests := range [][]*spec.TestCase{group.Tests, group.StrictTests} {
		for _, test := range tests {
			conn, err := spec.Dial(c)
			if err == nil {
				err = test.Run(c, conn)
				_ = conn.Close()
			}
			if err == nil {
				passed++
				continue
			}
			failed := new(spec.TestError)
			if errors.As(err, &failed) {
				t.Errorf("%s: %s: %s: expected %v, got %s", group.ID(), test.Desc, test.Requirement, failed.Expected, failed.Actual)
			} else {
				t.Errorf("%s: %s: %v", group.ID(), test.Desc, err)
			}
		}
	}
	return passed
}

// newCertificate is a server's TLS configuration with a certificate of its own.
func newCertificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"h2"},
	}
}
