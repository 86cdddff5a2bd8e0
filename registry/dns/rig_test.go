package dns

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

// rig is a resolver that asks a server in this process and whose waits end
// when the test says so.
type rig struct {
	t *testing.T
	*Resolver
	server  *server
	catalog *federation.Catalog
	reg     *prometheus.Registry
	files   string

	waits chan time.Duration
	again chan struct{}

	mu     sync.Mutex
	writes []string // guarded by mu: sources given to the catalog
}

// ReplaceLocal implements [Sink].
func (r *rig) ReplaceLocal(source string, instances []*federation.Instance) {
	r.mu.Lock()
	r.writes = append(r.writes, source)
	r.mu.Unlock()
	r.catalog.ReplaceLocal(source, instances)
}

type runtime struct{}

func (runtime) InFlight() int64 { return 0 }
func (runtime) Admits() bool    { return true }
func (runtime) Close()          {}

func newRig(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{
		t: t, server: startServer(t), reg: prometheus.NewPedanticRegistry(), files: t.TempDir(),
		catalog: federation.NewCatalog(federation.CatalogOptions{
			NewRuntime: func(*federation.Instance) federation.Runtime { return runtime{} },
		}),
		waits: make(chan time.Duration), again: make(chan struct{}),
	}
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	o := Options{
		Sink: r, Policy: federation.NewAddressPolicy(everywhere, []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:9081")}),
		Locality: federation.Locality{Cluster: "c1", Zone: "az1", Region: "east"}, Owner: "edge-1",
		Servers:    []netip.AddrPort{r.server.addr},
		ResolvConf: filepath.Join(r.files, "resolv.conf"), Hosts: filepath.Join(r.files, "hosts"),
		Registerer: r.reg,
	}
	for _, c := range change {
		c(&o)
	}
	resolver, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Resolver = resolver
	r.routable = func(netip.Addr) bool { return true }
	r.pause = func(ctx context.Context, d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case r.waits <- d:
		}
		select {
		case <-ctx.Done():
			return false
		case <-r.again:
			return true
		}
	}
	return r
}

// run runs the resolver until the test ends.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
}

// looked waits for the end of a lookup and returns how long the resolver wants
// to wait for the next.
func (r *rig) looked() time.Duration {
	r.t.Helper()
	select {
	case d := <-r.waits:
		return d
	case <-time.After(20 * time.Second):
		r.t.Fatal("no lookup")
		return 0
	}
}

// lookAgain lets that time pass and waits for the next lookup.
func (r *rig) lookAgain() time.Duration {
	r.t.Helper()
	r.again <- struct{}{}
	return r.looked()
}

// resolve follows one upstream from its first lookup on.
func (r *rig) resolve(u Upstream, z zone) time.Duration {
	r.t.Helper()
	r.server.set(z)
	r.SetUpstreams([]Upstream{u})
	r.run()
	return r.looked()
}

func (r *rig) want(service string, addresses ...string) {
	r.t.Helper()
	var got []string
	if view := r.catalog.Snapshot().Service(service); view != nil {
		for _, e := range view.Endpoints {
			got = append(got, e.Address)
		}
	}
	slices.Sort(addresses)
	if !slices.Equal(got, addresses) {
		r.t.Errorf("%s has %q, want %q", service, got, addresses)
	}
}

func (r *rig) wantMetrics(found, absent, failed, refused float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"grayfed_dns_lookups_total found": found, "grayfed_dns_lookups_total absent": absent,
		"grayfed_dns_lookups_total failed": failed, "grayfed_dns_refused_addresses_total": refused,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("metrics %v, want %v", got, want)
	}
}

func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.writes)
}

func (r *rig) file(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.files, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

var api = Upstream{Host: "api.example", Port: 8080}

// one is a zone in which api.example has one address.
func one(addr string, ttl uint32) zone {
	return zone{records: map[string][]record{"api.example.": {{"A", addr, ttl}}}}
}

func within(t *testing.T, d, low, high time.Duration) {
	t.Helper()
	if d < low || d > high {
		t.Errorf("waits %s, want %s to %s", d, low, high)
	}
}
