package fault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
)

// took fails unless the fault took effect.
func took(t testing.TB, f Fault) {
	t.Helper()
	if err := f.(Effective).Effect(limited(t)); err != nil {
		t.Errorf("%s took no effect: %v", f, err)
	}
}

// missing is what is missing after a short wait.
func missing(t testing.TB, f Fault) error {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	return f.(Effective).Effect(ctx)
}

// lacks fails unless the effect is missing, for a reason that says all words.
func lacks(t testing.TB, f Fault, words ...string) {
	t.Helper()
	err := missing(t, f)
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("effect of %s: %v, want %q", f, err, word)
		}
	}
}

// TestEffectOfNothing: what is not broken has no effect, whatever it is.
func TestEffectOfNothing(t *testing.T) {
	m := newMachine(t, "az1/edge", "az1/etcd", "az1/consul")
	n := &network{nodes: []string{"az1", "az2", "w1"}}
	for _, spec := range everything(t) {
		lacks(t, create(t, spec, whole{m, n, &zoneMeans{documents: "documents.yaml", clock: "clock"}}), "it is not broken")
	}
	f := create(t, Spec{Kind: "partition", From: []string{"az1"}}, n)
	broken(t, f)
	mended(t, f)
	lacks(t, f, "it is not broken")
}

// TestEffectOnProcesses: the parts are gone, or stopped, unless somebody brings
// one back.
func TestEffectOnProcesses(t *testing.T) {
	m := zonesOfParts(t)
	for _, spec := range []Spec{
		{Kind: "kill", Parts: []string{"az2/*"}}, {Kind: "subset-crash", Parts: []string{"*/etcd"}}, {Kind: "etcd-gone"}, {Kind: "etcd-leader-kill"},
	} {
		f := create(t, spec, m)
		broken(t, f)
		took(t, f)
		if err := m.Start(limited(t), "az2/etcd"); err != nil {
			t.Fatal(err)
		}
		lacks(t, f, "az2/etcd runs")
		_ = m.Signal("az2/etcd", syscall.SIGKILL)
		mended(t, f)
	}
	f := create(t, Spec{Kind: "freeze", Parts: []string{"az1/*"}}, m)
	broken(t, f)
	took(t, f)
	if err := m.Signal("az1/etcd", syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lacks(t, f, "az1/etcd", "goes on")
	mended(t, f)
}

// Impaired makes the stand-in one that can tell.
func (n *network) Impaired(_ context.Context, from, to string) error {
	return n.note("look %s %s", from, to)
}

// TestEffectOnLinks: each broken way is looked at.
func TestEffectOnLinks(t *testing.T) {
	for _, spec := range []Spec{
		{Kind: "partition", From: []string{"az1"}, To: []string{"az2"}},
		{Kind: "loss", From: []string{"az1"}, To: []string{"az2"}, Percent: 5},
		{Kind: "slow-link", From: []string{"az1"}, To: []string{"az2"}, Rate: 1000},
		{Kind: "gossip-loss", From: []string{"az1"}, To: []string{"az2"}, Port: 7946},
		{Kind: "one-way-partition", From: []string{"az1"}, To: []string{"az2"}},
		{Kind: "asymmetric-partition", From: []string{"az1"}, To: []string{"az2"}, Seed: 1},
	} {
		n := &network{nodes: []string{"az1", "az2"}}
		f := create(t, spec, n)
		broken(t, f)
		ways := len(n.asked())
		took(t, f)
		if looked := n.asked(); len(looked) != ways {
			t.Errorf("%s: %d ways are broken, looked at are %q", spec.Kind, ways, looked)
		}
		n.fail = map[string]error{"look az1 az2": errors.New("packets pass"), "look az2 az1": errors.New("packets pass")}
		lacks(t, f, "packets pass")
		n.fail = nil
		mended(t, f)
	}
}

// answering is zones whose edges say what they are told to.
type answering struct {
	*zoneMeans
	said map[string]*atomic.Pointer[api.Federation] // by zone
	urls map[string]string
}

func newAnswering(t *testing.T, zones ...string) *answering {
	a := &answering{zoneMeans: &zoneMeans{}, said: make(map[string]*atomic.Pointer[api.Federation]), urls: make(map[string]string)}
	for _, zone := range zones {
		said := new(atomic.Pointer[api.Federation])
		said.Store(new(api.Federation))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(said.Load())
		}))
		t.Cleanup(server.Close)
		a.said[zone], a.urls[zone] = said, server.URL
	}
	return a
}

func (a *answering) Client(zone string) (*api.Client, error) {
	return api.NewClient(api.ClientOptions{URL: a.urls[zone]})
}

// parted has the zones of the parts that it is given, and their edges.
type parted struct {
	bare
	*answering
}

// TestEffectOnEdges: one edge that says so does not stand for another.
func TestEffectOnEdges(t *testing.T) {
	const seen = "it has not refused"
	valid, expired := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, test := range []struct {
		spec Spec
		took api.Federation
		not  []api.Federation
	}{
		{
			Spec{Kind: "bad-configuration", Zones: []string{"*"}, Flaw: "syntax"},
			api.Federation{Documents: api.Documents{Error: "no YAML"}}, []api.Federation{{}},
		},
		{
			Spec{Kind: "certificate-expired", Zones: []string{"*"}},
			api.Federation{Certificates: []api.Certificate{{NotAfter: valid}, {NotAfter: valid, Error: "expired"}}},
			[]api.Federation{
				{}, {Certificates: []api.Certificate{{NotAfter: valid}}}, {Certificates: []api.Certificate{{NotAfter: expired, Error: "expired"}}},
			},
		},
	} {
		a := newAnswering(t, "az1", "az2")
		a.documents = file(t, goodDocuments)
		f := create(t, test.spec, parted{bare{&machine{names: []string{"az1/edge", "az2/edge"}}}, a})
		broken(t, f)
		a.said["az1"].Store(&test.took)
		for _, said := range test.not {
			a.said["az2"].Store(&said)
			lacks(t, f, "az2", seen)
		}
		a.said["az2"].Store(&test.took)
		took(t, f)
		a.said["az1"].Store(new(api.Federation))
		lacks(t, f, "az1", seen)
		mended(t, f)

		// Who cannot be asked is not asked.
		f = create(t, test.spec, struct {
			bare
			*zoneMeans
		}{bare{&machine{names: []string{"az1/edge", "az2/edge"}}}, a.zoneMeans})
		broken(t, f)
		took(t, f)
		mended(t, f)
	}
}

// pair writes a certificate of its own for a time.
func pair(t testing.TB, files config.Certificate, notBefore, notAfter time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "drill"}, DNSNames: []string{"drill.test"},
		NotBefore: notBefore, NotAfter: notAfter,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		files.CertFile: {Type: "CERTIFICATE", Bytes: certificate}, files.KeyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// pairIn names a certificate's files.
func pairIn(folder string) config.Certificate {
	return config.Certificate{CertFile: filepath.Join(folder, "edge.crt"), KeyFile: filepath.Join(folder, "edge.key")}
}
