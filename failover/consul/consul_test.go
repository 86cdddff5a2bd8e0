package consul

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

func TestEntryFollowsDecisions(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(alive.Close)
	entry := entryOf("edge-1", failover.Primary)
	a := start(t, Options{
		Address: cluster.Address(0), Edge: "edge-1", Entry: entry, CheckURL: alive.URL,
		Meta: map[string]string{"release": "v7"},
	})

	// Nothing was decided: it is there, and out.
	first := a.sees("edge-1", 50, false)
	if first.Role != failover.Primary || first.Zone != "az1" || first.Port != 8081 || !slices.Equal(first.Addresses, entry.Addresses) {
		t.Fatalf("published %+v, want %+v", first.Entry, entry)
	}
	client := cluster.Client(0)
	if got := service(t, client, "grayfed-gateway-edge-1"); got.Service.Meta["release"] != "v7" ||
		!slices.Equal(got.Service.Tags, []string{"az1", "primary"}) || got.Service.Address != "203.0.113.5" {
		t.Fatalf("Consul holds %+v", got.Service)
	}

	for _, d := range []failover.Decision{
		{In: true, Weight: 30, Reason: "serving"},
		{In: true, Weight: 60, Reason: "serving"},
		{In: false, Weight: 60, Reason: "draining"},
		{In: true, Weight: 5, Reason: "climbing"},
		{In: false, Weight: 7, Reason: "draining"},
		{In: true, Weight: 8, Reason: "serving"},
	} {
		a.Set(d)
		a.sees("edge-1", d.Weight, d.In)
	}

	// Its weight is brought into what Consul takes.
	a.Set(failover.Decision{In: true, Weight: 0})
	a.sees("edge-1", 1, true)
	a.Set(failover.Decision{In: true, Weight: failover.MaxWeight + 1})
	a.sees("edge-1", failover.MaxWeight, true)
	if s := a.Status(); !s.Registered || !s.Leader || s.Error != "" || time.Since(s.Confirmed) > LeaderFor {
		t.Errorf("status is %+v", s)
	}
	if err := a.Run(t.Context()); !errors.Is(err, errStarted) {
		t.Errorf("a second Run: %v, want %v", err, errStarted)
	}

	// An edge that no longer answers is out, whatever it decided; one that
	// answers again is in.
	address := alive.Listener.Addr().String()
	alive.Close()
	a.sees("edge-1", failover.MaxWeight, false)
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	go func() { _ = server.Serve(again) }()
	t.Cleanup(func() { _ = server.Close() })
	a.sees("edge-1", failover.MaxWeight, true)

	a.stop()
	until(t, "the entry is gone", func() bool { return service(t, client, "grayfed-gateway-edge-1") == nil })
	if a.Status().Registered {
		t.Error("status says that it is registered, after Run")
	}
}

func TestEdgesLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	client := cluster.Client(0)
	a := start(t, Options{Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary)})
	// The id of one begins with that of the other.
	b := start(t, Options{Address: cluster.Address(0), Edge: "a-held", Entry: entryOf("a-held", failover.Standby)})
	b.Set(failover.Decision{In: true, Weight: 9})
	a.sees("a-held", 9, true)
	other := &api.AgentServiceRegistration{ID: "grayfed-gateway", Name: "another", Port: 1}
	if err := client.Agent().ServiceRegister(other); err != nil {
		t.Fatal(err)
	}
	before := service(t, client, "grayfed-gateway-a-held")

	for weight := 1; weight < 4; weight++ {
		a.Set(failover.Decision{In: weight%2 == 1, Weight: weight})
		b.sees("a", weight, weight%2 == 1)
	}
	a.stop()
	b.missing("a")

	b.confirmed()
	after := service(t, client, "grayfed-gateway-a-held")
	if after.Service.ModifyIndex != before.Service.ModifyIndex {
		t.Errorf("another edge's service was written: index %d, then %d", before.Service.ModifyIndex, after.Service.ModifyIndex)
	}
	for i, check := range after.Checks {
		if check.ModifyIndex != before.Checks[i].ModifyIndex {
			t.Errorf("another edge's check %s was written", check.CheckID)
		}
	}
	if services, err := client.Agent().Services(); err != nil || services["grayfed-gateway"] == nil {
		t.Errorf("another service is gone: %v, %v", services, err)
	}
}

// What others do to the entry is undone, whichever way they did it.
func TestTamperedEntryIsPutRight(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	client := cluster.Client(0)
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(alive.Close)
	// Each way has a victim of its own.
	type victim struct{ id string }
	rival := func(v victim, weight int) *api.AgentService {
		held := service(t, client, v.id).Service
		held.Weights = api.AgentWeights{Passing: weight, Warning: weight}
		return held
	}
	catalog := func(s *api.AgentService) error {
		return second(client.Catalog().Register(&api.CatalogRegistration{Node: cluster.Node(0), SkipNodeUpdate: true, Service: s}, nil))
	}
	for edge, tamper := range map[string]func(victim) error{
		"weight-in-the-catalog": func(v victim) error { return catalog(rival(v, 999)) },
		"weight-at-the-agent": func(v victim) error {
			s := rival(v, 998)
			return client.Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: s.ID, Name: s.Service, Address: s.Address, Port: s.Port, Tags: s.Tags, Meta: s.Meta, Weights: &s.Weights,
			})
		},
		"addresses": func(v victim) error {
			s := rival(v, 20)
			s.Meta[metaAddresses] = "192.0.2.66"
			return catalog(s)
		},
		"state": func(v victim) error { return client.Agent().UpdateTTL(holdID(v.id), "", api.HealthPassing) },
		"state-in-the-catalog": func(v victim) error {
			// This client's own type has a field that the agent does not know.
			return second(client.Raw().Write("/v1/catalog/register", map[string]any{
				"Node": cluster.Node(0), "SkipNodeUpdate": true,
				"Check": map[string]string{"Node": cluster.Node(0), "CheckID": holdID(v.id), "ServiceID": v.id, "Status": api.HealthPassing},
			}, nil, nil))
		},
		"without-own-check":   func(v victim) error { return client.Agent().CheckDeregister(holdID(v.id)) },
		"without-HTTP-check":  func(v victim) error { return client.Agent().CheckDeregister(httpID(v.id)) },
		"gone-from-the-agent": func(v victim) error { return client.Agent().ServiceDeregister(v.id) },
		"gone-from-the-catalog": func(v victim) error {
			return second(client.Catalog().Deregister(&api.CatalogDeregistration{Node: cluster.Node(0), ServiceID: v.id}, nil))
		},
	} {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			metrics := prometheus.NewRegistry()
			a := start(t, Options{
				Address: cluster.Address(0), Edge: edge, Entry: entryOf(edge, failover.Standby),
				CheckURL: alive.URL, Registerer: metrics,
			})
			a.Set(failover.Decision{Weight: 20})
			a.sees(edge, 20, false)
			v := victim{a.id}
			before := service(t, client, v.id)
			if err := tamper(v); err != nil {
				t.Fatal(err)
			}
			want := &publication{weight: 20}
			until(t, "it is put right", func() bool {
				now := service(t, client, v.id)
				return now != nil && sum(now) > sum(before) && a.opts.holds(now, want)
			})
			if got, err := metrics.Gather(); err != nil || len(got) != 9 {
				t.Errorf("there are %d metrics, want 9: %v", len(got), err)
			}

			// Left in peace it writes nothing more, once what was under way is
			// done.
			a.confirmed()
			a.confirmed()
			quiet, registrations := service(t, client, v.id), a.counters.registrations.Load()
			for range 4 {
				a.confirmed()
			}
			if after := service(t, client, v.id); after.Service.ModifyIndex != quiet.Service.ModifyIndex || a.counters.registrations.Load() != registrations {
				t.Error("the entry was written again for nothing")
			}
		})
	}
}

// sum grows with each write of the service or one of its checks.
func sum(f *api.ServiceEntry) uint64 {
	indexes := f.Service.ModifyIndex
	for _, c := range f.Checks {
		indexes += c.ModifyIndex
	}
	return indexes
}

func TestAgentComesAndGoes(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	cluster.Kill(0)

	// Without an agent nothing is known, and Run goes on.
	a := start(t, Options{Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary)})
	a.Set(failover.Decision{In: true, Weight: 40})
	until(t, "both the failures are told", func() bool {
		s := a.Status()
		return strings.Contains(s.Error, "register service") && strings.Contains(s.Error, "read service")
	})
	if s := a.Status(); s.Registered || s.Leader || !s.Confirmed.IsZero() {
		t.Fatalf("status is %+v without an agent", s)
	}
	cluster.Restart(0)
	a.sees("a", 40, true)

	// One that lost its data is told all again.
	cluster.Kill(0)
	cluster.Wipe(0)
	cluster.Restart(0)
	cluster.WaitLeader(0)
	a.confirmed()
	a.sees("a", 40, true)

	// While it is frozen, deciding goes on; it is told the last of it.
	cluster.Freeze(0)
	for weight := 1; weight <= 1000; weight++ {
		a.Set(failover.Decision{In: true, Weight: weight})
	}
	until(t, "the view is confirmed no more", func() bool { return !a.Status().Leader })
	cluster.Thaw(0)
	a.sees("a", 1000, true)
	until(t, "all is well", func() bool { s := a.Status(); return s.Leader && s.Registered && s.Error == "" })

	// The end does not wait for an agent that is gone.
	cluster.Kill(0)
	a.stop()
}

// Five servers survive two; without a majority an agent still answers, but
// nothing that it says counts.
func TestQuorum(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 5, consultest.Options{})
	a := start(t, Options{Address: cluster.Address(4), Edge: "a", Entry: entryOf("a", failover.Standby)})
	a.Set(failover.Decision{In: true, Weight: 10})
	a.sees("a", 10, true)

	cluster.Kill(0)
	cluster.Kill(1)
	a.confirmed()
	a.Set(failover.Decision{In: true, Weight: 20})
	a.sees("a", 20, true)

	cluster.Kill(2)
	until(t, "no leader is known", func() bool { return !a.Status().Leader })
	last := a.last.Load().Confirmed
	stale, meta, err := cluster.Client(4).Health().Service(defaultService, "", false, &api.QueryOptions{AllowStale: true})
	if err != nil || len(stale) != 1 {
		t.Fatalf("an agent without a leader has nothing to say, so the test shows nothing: %v, %v", stale, err)
	}
	if got := a.last.Load(); !got.Confirmed.Equal(last) || len(got.Entries) != 1 {
		t.Errorf("without a leader (known: %v) the view became %+v", meta.KnownLeader, got)
	}
	// The agent keeps the entry, and takes what is decided meanwhile.
	a.Set(failover.Decision{In: true, Weight: 30})
	until(t, "the agent holds what was decided without a leader", func() bool {
		held, _, err := cluster.Client(4).Agent().Service("grayfed-gateway-a", nil)
		return err == nil && held.Weights.Passing == 30
	})
	if !a.Status().Registered {
		t.Errorf("the entry is not registered without a leader: %+v", a.Status())
	}

	cluster.Restart(2)
	a.confirmed()
	a.sees("a", 30, true)
}

func TestTokenAndTLS(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{ACL: true, TLS: true})
	files := cluster.Files
	base := Options{
		Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary),
		Token:  cluster.Token("edge", policy(t, "edge-policy.hcl")),
		CAFile: files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey,
	}
	a := start(t, base)
	a.Set(failover.Decision{In: true, Weight: 40})
	a.sees("a", 40, true)

	for name, c := range map[string]struct {
		edit func(*Options)
		want string
	}{
		"no token":       {func(o *Options) { o.Token = "" }, "Permission denied"},
		"token to read":  {func(o *Options) { o.Token = cluster.Token("reader", `service_prefix "" { policy = "read" }`) }, "Permission denied"},
		"no authority":   {func(o *Options) { o.CAFile = "" }, "certificate"},
		"no certificate": {func(o *Options) { o.CertFile, o.KeyFile = "", "" }, "certificate"},
	} {
		o := base
		o.Edge, o.Entry.Edge = "b", "b"
		c.edit(&o)
		b := start(t, o)
		until(t, name+": it is told", func() bool { return strings.Contains(b.Status().Error, c.want) })
		if b.Status().Registered {
			t.Errorf("%s: it is registered", name)
		}
		b.stop()
	}
	a.confirmed()
	if len(a.last.Load().Entries) != 1 {
		t.Errorf("who may not is there: %+v", a.last.Load().Entries)
	}

	// The edge's token is good for nothing else.
	mine := a.client
	for name, err := range map[string]error{
		"register another service": mine.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "other"}),
		"write keys":               second(mine.KV().Put(&api.KVPair{Key: "k"}, nil)),
		"read keys":                third(mine.KV().Get("k", nil)),
		"write nodes":              second(mine.Catalog().Register(&api.CatalogRegistration{Node: "n", Address: "192.0.2.1"}, nil)),
		"read policies":            third(mine.ACL().PolicyList(nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("the edge's token may %s: %v", name, err)
		}
	}
	a.stop()
	until(t, "the entry is gone", func() bool { return service(t, cluster.Client(0), "grayfed-gateway-a") == nil })
}

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }

// The environment's settings of Consul are for its command line.
func TestEnvironmentDoesNotCount(t *testing.T) {
	asked := make(chan *http.Request, 100)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r:
		default:
		}
		http.Error(w, "no", http.StatusInternalServerError)
	})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	socket := t.TempDir() + "/s"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	local.Start()
	t.Cleanup(local.Close)

	for name, value := range map[string]string{
		"CONSUL_HTTP_ADDR": "192.0.2.1:1", "CONSUL_HTTP_TOKEN": "stolen", "CONSUL_HTTP_TOKEN_FILE": "/nonexistent",
		"CONSUL_HTTP_AUTH": "user:password", "CONSUL_HTTP_SSL": "true", "CONSUL_NAMESPACE": "ns1",
		"CONSUL_PARTITION": "part1", "CONSUL_CACERT": "/nonexistent", "HTTP_PROXY": "http://192.0.2.1:1",
	} {
		t.Setenv(name, value)
	}
	for _, address := range []string{server.URL, "unix://" + socket} {
		for _, token := range []string{"", "given"} {
			a := start(t, Options{Address: address, Token: token, Edge: "a", Entry: entryOf("a", failover.Primary)})
			seen := make(map[string]bool)
			for len(seen) < 2 { // both what keeps and what watches
				select {
				case r := <-asked:
					seen[r.Method] = true
					if got := r.Header.Get("X-Consul-Token"); got != token {
						t.Errorf("%s: token %q was sent, want %q", r.URL, got, token)
					}
					if r.Header.Get("Authorization") != "" || r.URL.Query().Has("ns") || r.URL.Query().Has("partition") {
						t.Errorf("%s %v was asked", r.URL, r.Header)
					}
				case <-time.After(settle):
					t.Fatalf("%s was not asked", address)
				}
			}
			a.stop()
			for len(asked) > 0 {
				<-asked
			}
		}
	}
}

// An agent that says too much, or sends elsewhere, is not followed.
func TestHostileAgent(t *testing.T) {
	t.Parallel()
	elsewhere := make(chan struct{}, 1)
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere <- struct{}{} }))
	t.Cleanup(target.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-KnownLeader", "true")
		_, _ = w.Write([]byte(`["`))
		for chunk := []byte(strings.Repeat("a", 1<<20)); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	a := start(t, Options{Address: server.URL, Token: "secret", Edge: "a", Entry: entryOf("a", failover.Primary)})
	until(t, "both are told", func() bool {
		s := a.Status().Error
		return strings.Contains(s, errTooLong.Error()) && strings.Contains(s, "307")
	})
	if a.Status().Registered || a.Status().Leader {
		t.Errorf("status is %+v", a.Status())
	}
	if len(elsewhere) > 0 {
		t.Error("the token went elsewhere")
	}
}

// An answer that says itself that it has no leader is none.
func TestLeaderlessAnswerDoesNotCount(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && !r.URL.Query().Has("consistent") {
			t.Error("a read was not consistent")
		}
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-KnownLeader", "false")
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(server.Close)
	a := start(t, Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary)})
	until(t, "it is told", func() bool { return strings.Contains(a.Status().Error, errNoLeader.Error()) })
	if a.Status().Leader || !a.last.Load().Confirmed.IsZero() {
		t.Errorf("status is %+v", a.Status())
	}
}

func TestRunEndsAtOnce(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	p, err := New(Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{Address: "http://127.0.0.1:8500", Edge: "a", Entry: entryOf("a", failover.Primary)}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Options){
		`address "127.0.0.1:8500"`:         func(o *Options) { o.Address = "127.0.0.1:8500" },
		`address "http://h"`:               func(o *Options) { o.Address = "http://h" },
		`address "http://h:1/path"`:        func(o *Options) { o.Address = "http://h:1/path" },
		`address "http://u:p@h:1"`:         func(o *Options) { o.Address = "http://u:p@h:1" },
		`address "unix://relative"`:        func(o *Options) { o.Address = "unix://relative" },
		"address nothing":                  func(o *Options) { o.Address = "" },
		"token has characters":             func(o *Options) { o.Token = "a\nb" },
		"certificates are for an https":    func(o *Options) { o.CAFile = "ca.pem" },
		"certificate and key go together":  func(o *Options) { o.Address, o.CertFile = "https://h:1", "c.pem" },
		"read certificate authority":       func(o *Options) { o.Address, o.CAFile = "https://h:1", "/nonexistent" },
		"no certificate in it":             func(o *Options) { o.Address, o.CAFile = "https://h:1", "consul_test.go" },
		"load client certificate":          func(o *Options) { o.Address, o.CertFile, o.KeyFile = "https://h:1", "/no", "/no" },
		`service "a b" is not a name`:      func(o *Options) { o.Service = "a b" },
		`entry is of edge "b"`:             func(o *Options) { o.Entry.Edge = "b" },
		"edge nothing is not a name":       func(o *Options) { o.Edge, o.Entry.Edge = "", "" },
		`zone "-" is not a name`:           func(o *Options) { o.Entry.Zone = "-" },
		"role is unknown":                  func(o *Options) { o.Entry.Role = failover.RoleUnknown },
		"there are 0 addresses":            func(o *Options) { o.Entry.Addresses = nil },
		"address 0.0.0.0 cannot":           func(o *Options) { o.Entry.Addresses = []netip.Addr{netip.IPv4Unspecified()} },
		"port is 0":                        func(o *Options) { o.Entry.Port = 0 },
		"weight is 1001":                   func(o *Options) { o.Entry.Weight = 1001 },
		"zone is the entry's own":          func(o *Options) { o.Meta = map[string]string{"zone": "x"} },
		`key "a b"`:                        func(o *Options) { o.Meta = map[string]string{"a b": "x"} },
		"has 513 bytes":                    func(o *Options) { o.Meta = map[string]string{"a": strings.Repeat("x", 513)} },
		`check URL "ftp://h"`:              func(o *Options) { o.CheckURL = "ftp://h" },
		`check URL "http:///v1/failover/"`: func(o *Options) { o.CheckURL = "http:///v1/failover/" },
	} {
		o := good()
		edit(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
	taken := prometheus.NewRegistry()
	o := good()
	o.Registerer = taken
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); err == nil {
		t.Error("the same metrics were registered twice")
	}
}
