package consul

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

func TestTokenAndTLS(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{ACL: true, TLS: true})
	files := cluster.Files
	base := Options{
		Address: cluster.Address(0), Edge: "a", Entry: entryOf("a", failover.Primary),
		TokenFile: tokenFile(t, cluster.Token("edge", policy(t, "edge-policy.hcl"))),
		CAFile:    files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey,
	}
	a := start(t, base)
	a.Set(failover.Decision{In: true, Weight: 40})
	a.sees("a", 40, true)

	reader := tokenFile(t, cluster.Token("reader", `service_prefix "" { policy = "read" }`))
	for name, c := range map[string]struct {
		edit func(*Options)
		want string
	}{
		"no token":       {func(o *Options) { o.TokenFile = "" }, "Permission denied"},
		"token to read":  {func(o *Options) { o.TokenFile = reader }, "Permission denied"},
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
			o := Options{Address: address, Edge: "a", Entry: entryOf("a", failover.Primary)}
			if token != "" {
				o.TokenFile = tokenFile(t, token+"\r\nand no more\n")
			}
			a := start(t, o)
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
	a := start(t, Options{Address: server.URL, TokenFile: tokenFile(t, "secret"), Edge: "a", Entry: entryOf("a", failover.Primary)})
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

// An agent of version 1.10 or newer answers a question that waits from a copy
// of its own, which no leader confirmed, unless it asks for an order.
func TestNewerAgentIsAskedPastItsCopy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, leader := r.URL.Query(), "true"
		if query.Get("index") != "" && query.Get("near") == "" {
			leader = "false"
			w.Header().Set("X-Consul-Query-Backend", api.QueryBackendStreaming)
		}
		w.Header().Set("X-Consul-Index", "7")
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-KnownLeader", leader)
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(server.Close)
	a := start(t, Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary)})
	for range 3 { // the first does not wait yet
		a.confirmed()
	}
	if n := a.counters.failures.Load(); n > 0 {
		t.Errorf("%d requests failed, the last: %s", n, a.Status().Error)
	}
}
