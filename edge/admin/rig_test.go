package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

const deadline = 20 * time.Second

// rig is a running server on a real catalog.
type rig struct {
	*Server
	t        *testing.T
	catalog  *federation.Catalog
	registry *memory
	events   *Events
	state    *state
	metrics  *prometheus.Registry
	base     string
	stop     func() error // waits until Run has ended
}

// newRig starts a server; change may change what it is made of.
func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{
		t:       t,
		catalog: federation.NewCatalog(federation.CatalogOptions{Self: "az1-edge", RecordTTL: time.Hour, NewRuntime: newLoad}),
		events:  newEvents(8),
		state:   &state{},
		metrics: prometheus.NewRegistry(),
	}
	r.registry = &memory{catalog: r.catalog, stored: make(map[federation.Key]*federation.Instance)}
	o := Options{
		Address:          "127.0.0.1:0",
		AllowedAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")},
		Self:             federation.Edge{ID: "az1-edge", Locality: federation.Locality{Zone: "az1", Region: "east"}},
		Catalog:          r.catalog,
		Registrar:        r.registry,
		Heartbeats:       r.registry,
		Status:           r.state,
		Documents:        r.state,
		Explainer:        r.state,
		Failover:         r.state,
		Events:           r.events,
		Ready:            r.state.ready,
		Gatherer:         r.metrics,
		Registerer:       r.metrics,
		Log:              slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.base = "http://" + r.Address().String()
	if o.CertFile != "" {
		r.base = "https://" + r.Address().String()
	}
	r.run()
	return r
}

// restart runs another server of the same parts, changed before it opens.
func (r *rig) restart(change func(*Server)) {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Fatal(err)
	}
	o := r.opts
	o.Registerer = nil // has the first one's
	var err error
	if r.Server, err = New(o); err != nil {
		r.t.Fatal(err)
	}
	change(r.Server)
	if err := r.Open(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.base = "http://" + r.Address().String()
	r.run()
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	r.t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := r.stop(); err != nil {
			r.t.Errorf("the server ended with %v", err)
		}
	})
}

// client is the Go client of the API.
func (r *rig) client() *api.Client {
	r.t.Helper()
	c, err := api.NewClient(api.ClientOptions{URL: r.base, Timeout: deadline})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

// problem reads the problem document.
func (a *answer) problem(t *testing.T) *api.Problem {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != api.ContentTypeProblem {
		t.Fatalf("answer %s has type %q: %s", a.Status, got, a.body)
	}
	p := new(api.Problem)
	if err := json.Unmarshal(a.body, p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if p.Status != a.StatusCode || p.Title == "" || p.Type == "" || p.Instance == "" {
		t.Errorf("answer %s with an incomplete problem %+v", a.Status, p)
	}
	return p
}

// send makes one request; header is name, value, name, value.
func (r *rig) send(method, path, body string, header ...string) *answer {
	r.t.Helper()
	return r.sendTo(http.DefaultClient, r.base, method, path, body, header...)
}

func (r *rig) sendTo(client *http.Client, base, method, path, body string, header ...string) *answer {
	r.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(r.t.Context(), method, base+path, content)
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", api.ContentTypeJSON)
	}
	for n := 0; n < len(header); n += 2 {
		if header[n] == "Host" {
			request.Host = header[n+1]
			continue
		}
		request.Header.Set(header[n], header[n+1])
	}
	response, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return &answer{response, data}
}

// memory stands in for the registry where a test is about what the server does
// before and after it; TestWithTheRegistry has the real one on a real etcd. It
// stores into the real catalog, each write with the next revision.
type memory struct {
	catalog *federation.Catalog

	mu       sync.Mutex
	revision int64                                   // mu
	stored   map[federation.Key]*federation.Instance // mu
	beats    []federation.Key                        // mu
	actors   []string                                // mu
	calls    int                                     // mu
	err      error                                   // mu; refuses everything with it
	queue    bool                                    // mu; as if etcd were away
}

func (m *memory) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) called() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// begin is called with the lock held.
func (m *memory) begin(key federation.Key, o WriteOptions) error {
	m.calls++
	m.actors = append(m.actors, o.Actor)
	if m.err != nil {
		return m.err
	}
	if current := m.stored[key]; o.IfMatch != 0 && (current == nil || current.Revision != o.IfMatch) {
		return ErrPreconditionFailed
	}
	return nil
}

func (m *memory) put(i federation.Instance) federation.Instance {
	if m.queue {
		return i
	}
	m.revision++
	i.Revision = m.revision
	m.stored[i.Key] = &i
	m.catalog.Apply([]federation.Change{{Put: &i, Revision: m.revision}}, m.revision)
	return i
}

func (m *memory) Register(_ context.Context, i federation.Instance, o WriteOptions) (federation.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(i.Key, o); err != nil {
		return federation.Instance{}, err
	}
	i.Owner, i.Stamp = "az1-edge", federation.Stamp{Lamport: 7, Origin: "az1-edge"}
	return m.put(i), nil
}

func (m *memory) Deregister(_ context.Context, key federation.Key, o WriteOptions) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(key, o); err != nil {
		return err
	}
	if m.stored[key] == nil {
		return ErrNotFound
	}
	delete(m.stored, key)
	m.revision++
	m.catalog.Apply([]federation.Change{{Key: key, Revision: m.revision}}, m.revision)
	return nil
}

func (m *memory) Drain(_ context.Context, key federation.Key, o WriteOptions) (federation.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(key, o); err != nil {
		return federation.Instance{}, err
	}
	if m.stored[key] == nil {
		return federation.Instance{}, ErrNotFound
	}
	next := *m.stored[key]
	next.Draining = true
	return m.put(next), nil
}

func (m *memory) Heartbeat(_ context.Context, key federation.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(key, WriteOptions{}); err != nil {
		return err
	}
	if m.stored[key] == nil {
		return ErrNotFound
	}
	m.beats = append(m.beats, key)
	return nil
}

// state stands in for the rest of an edge: status, documents and gateway.
type state struct {
	mu       sync.Mutex
	reason   error // mu; not ready
	services []*federation.Service
	releases []*federation.Release
	routes   api.Routes
	asked    api.ExplainRequest // mu
}

func (s *state) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

func (s *state) setReady(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = reason
}

func (s *state) Clock() uint64                   { return 4711 }
func (s *state) Registry() api.Registry          { return api.Registry{Synced: true, Owned: 3, Queued: 1} }
func (s *state) Documents() api.Documents        { return api.Documents{Hash: "abc"} }
func (s *state) Routes() api.Routes              { return s.routes }
func (s *state) Failover() api.Failover          { return failoverState }
func (s *state) Services() []*federation.Service { return s.services }
func (s *state) Releases() []*federation.Release { return s.releases }

func (s *state) Explain(r api.ExplainRequest) api.Explanation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = r
	return api.Explanation{Outcome: api.OutcomeNoRoute, Status: http.StatusNotFound}
}

// load is a runtime with a fixed load; a capacity of 1 stands for a full one.
type load struct{ full bool }

func newLoad(i *federation.Instance) federation.Runtime { return load{i.Capacity == 1} }
func (l load) InFlight() int64                          { return 5 }
func (l load) Admits() bool                             { return !l.full }
func (l load) Close()                                   {}

// problemOfError is the problem that a client's error holds.
func problemOfError(t *testing.T, err error) *api.Problem {
	t.Helper()
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		t.Fatalf("%v (%T) is no problem", err, err)
	}
	return p
}
