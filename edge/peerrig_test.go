package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// peerAuthority signs the certificates of edges.
type peerAuthority struct {
	t      testing.TB
	dir    string
	caFile string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newPeerAuthority(t testing.TB) *peerAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "edges"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &peerAuthority{t: t, dir: t.TempDir(), cert: cert, key: key}
	a.caFile = filepath.Join(a.dir, "ca.pem")
	writeFile(t, a.caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

// issue makes the certificate of an edge on 127.0.0.1, good for both sides.
func (a *peerAuthority) issue(id string) config.TLSFiles {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.serial), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	files := config.TLSFiles{
		CAFile:   a.caFile,
		CertFile: filepath.Join(a.dir, fmt.Sprintf("%d.crt", a.serial)), KeyFile: filepath.Join(a.dir, fmt.Sprintf("%d.key", a.serial)),
	}
	writeFile(a.t, files.CertFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(a.t, files.KeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	return files
}

// peering are edges that reach each other's zones through each other.
type peeredEdges struct {
	t     testing.TB
	ca    *authority // of endpoints
	etcd  string
	peers *peerAuthority
	edges map[string]*running // by id
	all   []string            // gossip addresses
}

func newPeered(t testing.TB) *peeredEdges {
	t.Helper()
	etcd, _ := startEtcd(t)
	return &peeredEdges{t: t, ca: newAuthority(t), etcd: etcd, peers: newPeerAuthority(t), edges: make(map[string]*running)}
}

// settings are those of an edge of a zone.
func (f *peeredEdges) settings(id, zone, documents string) *config.Process {
	f.t.Helper()
	p := settings(f.t, zone, f.etcd)
	p.ID = id
	writeFile(f.t, p.Documents, documents)
	p.Reach = config.ReachGateway
	p.Peer = config.Peer{Address: "127.0.0.1:0", TLS: f.peers.issue(id)}
	p.Gossip.Peers = append([]string(nil), f.all...)
	p.Upstream.ConnectTimeout = 2 * time.Second // handshakes on a busy machine
	p.Upstream.TLS.CAFile = f.ca.certFile
	p.Health.PanicThreshold = 0 // what is ejected gets nothing
	p.Log.Access = true
	f.all = append(f.all, p.Gossip.Bind)
	return p
}

// start runs an edge; change may alter its settings before.
func (f *peeredEdges) start(id, zone, documents string, change ...func(*config.Process)) *running {
	f.t.Helper()
	p := f.settings(id, zone, documents)
	for _, c := range change {
		c(p)
	}
	r := start(f.t, p)
	f.edges[id] = r
	r.ready()
	return r
}

// meet waits until every edge knows that the others live.
func (f *peeredEdges) meet() {
	f.t.Helper()
	for id, r := range f.edges {
		eventually(f.t, id+" knows the others", func() error {
			fed, err := r.api.Federation(f.t.Context())
			if err != nil {
				return err
			}
			for other := range f.edges {
				known := false
				for _, e := range fed.Edges {
					known = known || e.ID == other && e.Status == "alive" && e.Peer != ""
				}
				if !known {
					return fmt.Errorf("%s is not known: %s", other, toJSON(fed.Edges))
				}
			}
			return nil
		})
	}
}

// register makes an address an instance of service users in a zone.
func (f *peeredEdges) register(id, zone, version, address string) {
	f.t.Helper()
	f.registerAs("users", id, zone, version, address, federation.HTTP1)
}

// registerAs waits until all edges know the instance.
func (f *peeredEdges) registerAs(service, id, zone, version, address string, protocol federation.Protocol) {
	f.t.Helper()
	var any *running
	for _, any = range f.edges {
		break
	}
	ttl := federation.Duration(0)
	_, err := any.api.Register(f.t.Context(), federation.Key{Service: service, ID: id}, api.Registration{
		Zone: zone, Region: "east", Address: address, Version: version, Protocol: string(protocol), TTL: &ttl,
	}, api.WriteOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	for name, r := range f.edges {
		eventually(f.t, name+" knows "+id, func() error {
			list, err := r.api.Instances(f.t.Context(), service)
			if err != nil {
				return err
			}
			for _, i := range list.Instances {
				if i.ID == id {
					return nil
				}
			}
			return errors.New("not yet")
		})
	}
}

// leads waits until an edge would send requests with a tag to an instance.
func (r *running) leads(tag, id string) {
	r.t.Helper()
	r.leadsAt("/users/1", tag, id)
}

func (r *running) leadsAt(path, tag, id string) {
	r.t.Helper()
	eventually(r.t, "requests lead to "+id, func() error {
		x, err := r.api.Explain(r.t.Context(), api.ExplainRequest{Path: path, Tag: tag})
		if err == nil && (x.Endpoint == nil || x.Endpoint.ID != id) {
			err = errors.New(toJSON(x))
		}
		return err
	})
}

// serve registers a real server that answers with its id.
func (f *peeredEdges) serve(id, zone, version string) {
	f.t.Helper()
	address := f.ca.serve(f.t, federation.HTTP1, func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 0, 64)
		for {
			piece := make([]byte, 64<<10)
			n, err := r.Body.Read(piece)
			body = append(body, piece[:n]...)
			if err != nil {
				break
			}
		}
		_, _ = fmt.Fprintf(w, "%s %d", id, len(body))
	})
	f.register(id, zone, version, address)
}

// counted are the values of a metric of an edge, by its labels as text.
func (r *running) counted(metric string) map[string]string {
	r.t.Helper()
	w := &whole{running: r}
	found := make(map[string]string)
	for series, value := range w.series() {
		if labels, ok := strings.CutPrefix(series, metric+"{"); ok {
			found[strings.TrimSuffix(labels, "}")] = value
		}
	}
	return found
}

// through counts what an edge sent through another with an outcome.
func (r *running) through(edge, outcome string) string {
	r.t.Helper()
	return r.counted("grayfed_peer_attempts_total")[fmt.Sprintf("edge=%q,outcome=%q", edge, outcome)]
}
