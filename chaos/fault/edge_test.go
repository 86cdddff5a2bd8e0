package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge"
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/registry/etcdtest"
)

// oneZone is a target of a real edge with a real etcd, in this process.
type oneZone struct {
	*machine  // for the names of its parts
	t         *testing.T
	documents string
	files     config.Certificate
	url       string
	stop      func()
}

func (z *oneZone) Documents(string) string { return z.documents }

func (z *oneZone) IssueCertificate(_ string, notBefore, notAfter time.Time) error {
	pair(z.t, z.files, notBefore, notAfter)
	return nil
}

func (z *oneZone) Client(string) (*api.Client, error) {
	return api.NewClient(api.ClientOptions{URL: z.url})
}

// newOneZone runs them until the test ends, or stop is called.
func newOneZone(t *testing.T) (*oneZone, *api.Client) {
	t.Helper()
	etcd, _ := etcdtest.Start(t)
	p := config.DefaultProcess()
	p.ID, p.Zone, p.Region = "az1-edge", "az1", "east"
	p.DataDir = filepath.Join(t.TempDir(), "data")
	p.Documents = file(t, goodDocuments)
	p.Listen.Address, p.Admin.Address, p.Gossip.Bind = "127.0.0.1:0", freeAddress(t), freeAddress(t)
	p.Gossip.Advertise = p.Gossip.Bind
	files := pairIn(t.TempDir())
	pair(t, files, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	p.Listeners = []config.Listener{{
		Name: "tls", Address: "127.0.0.1:0", MaxConnections: 10,
		TLS: &config.ListenTLS{Certificates: []config.Certificate{files}},
	}}
	p.Registration.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} // as by default
	p.Etcd.Endpoints = []string{etcd}
	var log bytes.Buffer
	e, err := edge.New(t.Context(), edge.Options{Process: p, Version: "test", Output: &log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	z := &oneZone{
		machine: &machine{names: []string{"az1/edge"}}, t: t, documents: p.Documents, files: files, url: "http://" + p.Admin.Address,
	}
	z.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("edge: %v", err)
		}
	})
	t.Cleanup(func() {
		z.stop()
		if t.Failed() {
			t.Logf("log of the edge:\n%s", log.String())
		}
	})
	client, err := z.Client("az1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	eventually(t, "edge ready", func() error { return client.Ready(t.Context()) })
	return z, client
}

// counts returns a check of how many instances a service has.
func counts(t *testing.T, client *api.Client, service string, want int) func() error {
	return func() error {
		list, err := client.Instances(t.Context(), service)
		if err != nil {
			return err
		}
		if len(list.Instances) != want {
			return fmt.Errorf("%s has %d instances, want %d", service, len(list.Instances), want)
		}
		return nil
	}
}

// TestRegistrationStorm: all register, live on by their heartbeats while one
// without them lapses, and are deregistered; others are left alone.
func TestRegistrationStorm(t *testing.T) {
	z, client := newOneZone(t)
	spec := Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: 40, Rate: 200}
	if f := create(t, spec, z); f.String() != "register 40 instances, 200 a second, in az1" {
		t.Errorf("it is called %q", f)
	}
	const ttl = time.Second
	f, err := storming(&spec, z, ttl)
	if err != nil {
		t.Fatal(err)
	}
	broken(t, f)
	eventually(t, "all are registered", counts(t, client, stormService, spec.Count))
	took(t, f)
	short, none := federation.Duration(ttl), federation.Duration(0)
	var stored int64
	for id, ttl := range map[string]*federation.Duration{"lapses": &short, "stays": &none} {
		instance, err := client.Register(t.Context(), federation.Key{Service: "users", ID: id}, api.Registration{
			Zone: "az1", Address: stormAddress, TTL: ttl,
		}, api.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stored = max(stored, instance.Revision)
	}
	eventually(t, "the one without heartbeats has lapsed", func() error {
		list, err := client.Instances(t.Context(), "users")
		if err != nil {
			return err
		}
		if list.Revision < stored || len(list.Instances) != 1 {
			return fmt.Errorf("revision %d of %d, instances %+v", list.Revision, stored, list.Instances)
		}
		return nil
	})
	// By now they would have lapsed as well. One whose heartbeats are late on a
	// busy machine registers again.
	eventually(t, "all are there", counts(t, client, stormService, spec.Count))
	mended(t, f)
	// The edge's view follows what etcd has confirmed.
	eventually(t, "none of the storm's is left", counts(t, client, stormService, 0))
	if err := counts(t, client, "users", 1)(); err != nil {
		t.Error(err)
	}
}

// TestRegistrationStormRefused: without an edge it does not break out, and
// there is nothing to mend but what may have been registered.
func TestRegistrationStormRefused(t *testing.T) {
	z, client := newOneZone(t)
	f := create(t, Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: 40, Rate: 200}, z)
	broken(t, f)
	eventually(t, "all are registered", counts(t, client, stormService, 40))
	late := create(t, Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: 1, Rate: 1}, z)
	long := create(t, Spec{Kind: "registration-storm", Zones: []string{"az1"}, Count: maxCount, Rate: 100}, z)
	broken(t, long)
	lacks(t, long, "of 100000 instances were registered")
	z.stop()
	var gone *api.UnreachableError
	eventually(t, "what the storm met is told", func() error {
		if err := missing(t, long); !errors.As(err, &gone) {
			return fmt.Errorf("missing is %w", err)
		}
		return nil
	})
	if err := late.Break(limited(t)); !errors.As(err, &gone) || !strings.Contains(err.Error(), "first registration in az1") {
		t.Errorf("break: %v", err)
	}
	for _, f := range []Fault{late, long, f} {
		if err := f.Mend(limited(t)); !errors.As(err, &gone) {
			t.Errorf("mend: %v", err)
		}
	}
}

// TestBadConfigurationAtEdge: a real edge refuses what is pushed, goes on with
// what it had, and takes it again.
func TestBadConfigurationAtEdge(t *testing.T) {
	z, client := newOneZone(t)
	ask := func() api.Documents {
		answer, err := client.Federation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return answer.Documents
	}
	before := ask().Hash
	for _, flaw := range Flaws() {
		f := create(t, Spec{Kind: "bad-configuration", Zones: []string{"az1"}, Flaw: flaw}, z)
		broken(t, f)
		took(t, f)
		if ask().Error == "" {
			t.Errorf("%s took effect, and no error is told", flaw)
		}
		if now := ask().Hash; now != before {
			t.Errorf("%s: it runs on %s, before on %s", flaw, now, before)
		}
		mended(t, f)
		eventually(t, flaw+" is over", func() error {
			if now := ask(); now.Error != "" || now.Hash != before {
				return fmt.Errorf("documents %+v", now)
			}
			return nil
		})
	}
	if content, err := os.ReadFile(z.documents); err != nil || string(content) != goodDocuments {
		t.Errorf("documents %q, %v", content, err)
	}
}

// TestCertificateExpiredAtEdge: a real edge keeps its valid certificate, says
// so, and takes the renewed one.
func TestCertificateExpiredAtEdge(t *testing.T) {
	z, client := newOneZone(t)
	f := create(t, Spec{Kind: "certificate-expired", Zones: []string{"az1"}}, z)
	broken(t, f)
	took(t, f)
	mended(t, f)
	eventually(t, "it has the new one", func() error {
		said, err := client.Federation(t.Context())
		if err == nil && (len(said.Certificates) != 1 || said.Certificates[0].Error != "" || time.Until(said.Certificates[0].NotAfter) < 24*time.Hour) {
			err = fmt.Errorf("certificates %+v", said.Certificates)
		}
		return err
	})
}

// TestStormSlips: a panic in a worker is the storm's error, and one while it is
// mended is the mending's.
func TestStormSlips(t *testing.T) {
	edge, err := api.NewClient(api.ClientOptions{URL: "http://127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	const slip = -1 // no edge has this instance
	s := &storm{count: 1, zones: []string{"az1"}, edges: []*api.Client{edge, edge}}
	s.workers.Go(func() { s.blow(t.Context(), 0, []call{{n: slip, due: time.Now()}}) })
	s.workers.Wait()
	if err := s.effect(limited(t)); err == nil || !strings.Contains(err.Error(), "broke down: panic") {
		t.Errorf("effect: %v", err)
	}
	s.tried[0] = []int{slip}
	if err := s.stop(t.Context()); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("stop: %v", err)
	}
}
