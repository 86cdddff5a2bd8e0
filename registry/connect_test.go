package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/grayfed/grayfed/registry/etcdtest"
)

func TestConnectRefusesBadOptions(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.pem")
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := []string{"https://127.0.0.1:2379"}
	for want, o := range map[string]ConnectOptions{
		"no endpoint":            {},
		"allowed http":           {Endpoints: []string{"127.0.0.1:2379"}},
		"all http or all https":  {Endpoints: []string{"http://127.0.0.1:1", "https://127.0.0.1:2"}},
		"key go together":        {Endpoints: secure, CertFile: missing},
		"password go together":   {Endpoints: secure, Username: "x"},
		"dial timeout":           {Endpoints: secure, DialTimeout: -1},
		"read certificate":       {Endpoints: secure, CAFile: missing},
		"no certificate in it":   {Endpoints: secure, CAFile: garbage},
		"load client certificat": {Endpoints: secure, CertFile: garbage, KeyFile: garbage},
	} {
		client, err := Connect(o)
		if err == nil {
			_ = client.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// A user's client is made while etcd is away, and works once it is back.
func TestConnectWithUserDoesNotWaitForEtcd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := startEtcd(t, t.TempDir(), nil)
	t.Cleanup(server.Close)
	admin := connect(t, etcdtest.Address(server))
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "s3cret"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(t, etcdtest.Address(server))
	g.shut()
	o := ConnectOptions{Endpoints: []string{"http://" + g.addr()}, Username: "root", Password: "s3cret"}
	client, err := Connect(o)
	if err != nil {
		t.Fatalf("without etcd: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	g.reopen(etcdtest.Address(server))

	r := newRigAt(t, etcdtest.Address(server))
	a := r.node("a", "az1", "east", func(o *Options) { o.Client = client })
	a.run()
	eventually(t, "registered and synced", func() bool { s := a.Status(); return s.Registered && s.Synced })
	a.put(instance("u1", "az1"))
	eventually(t, "watched", a.has("u1"))

	o.Password = "wrong"
	stranger, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	if _, err := stranger.Get(ctx, "x"); err == nil {
		t.Error("a wrong password was let in")
	}
}

func TestConnectOverTLS(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	files := newAuthority(t)
	server := startEtcd(t, t.TempDir(), func(c *embed.Config) {
		secure := []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		c.ListenClientUrls, c.AdvertiseClientUrls = secure, secure
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = files.cert, files.key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = files.ca, true
	})
	t.Cleanup(server.Close)
	o := ConnectOptions{
		Endpoints: []string{"https://" + etcdtest.Address(server)},
		CAFile:    files.ca, CertFile: files.cert, KeyFile: files.key,
	}
	get := func(o ConnectOptions) error {
		client, err := Connect(o)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err = client.Get(call, "x", clientv3.WithSerializable())
		return err
	}
	if err := get(o); err != nil {
		t.Errorf("with all files: %v", err)
	}
	call := o
	call.CertFile, call.KeyFile = "", ""
	stranger, err := Connect(call)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	if _, err := stranger.Get(shortly(t), "x"); err == nil {
		t.Error("a client without certificate was let in")
	}
}

// authority is a CA and a certificate by it for 127.0.0.1, as files.
type authority struct{ ca, cert, key string }

func newAuthority(t *testing.T) authority {
	t.Helper()
	dir := t.TempDir()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return authority{
		ca:   write("ca.pem", "CERTIFICATE", caDER),
		cert: write("cert.pem", "CERTIFICATE", leafDER),
		key:  write("key.pem", "EC PRIVATE KEY", keyDER),
	}
}
