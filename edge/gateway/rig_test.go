package gateway

import (
	"bufio"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/health"
	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// rig is one edge's way of a request: a real listener and codec, the gateway,
// real transports, a real catalog. The health monitor does not run: trackers
// eject by themselves, and nothing comes back behind a test's back.
type rig struct {
	t       testing.TB
	gateway *Gateway
	catalog *federation.Catalog
	sub     *federation.Subscription
	server  *http1.Server
	engine  *http1.Engine
	address string
	log     *logged
	conns   atomic.Uint64
	seq     atomic.Int64                  // of health records
	remote  atomic.Pointer[exchange.Conn] // whom clients are taken for; nil: who they are
	shown   *x509.Certificate             // by edges that send requests here; nil: none
}

// logged keeps the access log.
type logged struct {
	mu    sync.Mutex
	lines []byte // mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, p...)
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.lines)
}

func newMonitor(t testing.TB) *health.Monitor {
	t.Helper()
	return monitorWith(t, health.Ejection{})
}

func monitorWith(t testing.TB, ejection health.Ejection) *health.Monitor {
	t.Helper()
	monitor, err := health.NewMonitor(health.Options{Self: "edge-1", Zone: "az1", Incarnation: 1, Ejection: ejection})
	if err != nil {
		t.Fatal(err)
	}
	return monitor
}

func newRequests(t testing.TB) *observe.Requests {
	t.Helper()
	names := make([]string, 0, route.RungCount)
	for rung := range route.Rung(route.RungCount) {
		names = append(names, rung.String())
	}
	requests, err := observe.NewRequests(nil, names)
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

// newRig is an edge in az1 of region east.
func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, engine: http1.NewEngine(), log: &logged{}}
	r.run(r.engine.Run)

	accessLog, err := observe.NewAccessLog(observe.AccessLogOptions{Output: r.log})
	if err != nil {
		t.Fatal(err)
	}
	r.run(accessLog.Run)

	options := Options{
		Topology: route.Topology{Zone: "az1", Region: "east"},
		NewTransport: func(i *federation.Instance) (Upstream, error) {
			return http1.NewTransport(http1.TransportOptions{Address: i.Address, Engine: r.engine, ConnectTimeout: 5 * time.Second})
		},
		Monitor: newMonitor(t), Requests: newRequests(t), AccessLog: accessLog,
	}
	if change != nil {
		change(&options)
	}
	if r.gateway, err = New(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.gateway.Close() })
	r.catalog = federation.NewCatalog(federation.CatalogOptions{
		Self: "edge-1", NewRuntime: r.gateway.NewRuntime, RecordTTL: time.Minute,
	})
	r.sub = r.catalog.Subscribe()
	r.serve()
	return r
}

// run keeps something running as long as the test.
func (r *rig) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = run(ctx) })
	r.t.Cleanup(func() { cancel(); running.Wait() })
}

func (r *rig) serve() {
	server, err := http1.NewServer(http1.Options{Handler: r.gateway, Engine: r.engine})
	if err != nil {
		r.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.server, r.address = server, listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			info := exchange.Conn{ID: r.conns.Add(1), Remote: nc.RemoteAddr().(*net.TCPAddr).AddrPort()}
			if as := r.remote.Load(); as != nil {
				info.Remote = as.Remote
			}
			serving.Go(func() { server.ServeConn(nc, info) })
		}
	})
	r.t.Cleanup(func() {
		_ = listener.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Drain(ctx)
		serving.Wait()
	})
}

// configure sets the configuration.
func (r *rig) configure(c Config) {
	r.t.Helper()
	if err := r.gateway.SetConfig(c); err != nil {
		r.t.Fatal(err)
	}
}

// instance is one of service "users" in a zone.
func instance(id, zone, version, address string) *federation.Instance {
	return &federation.Instance{
		Key:      federation.Key{Service: "users", ID: id},
		Locality: federation.Locality{Zone: zone, Region: regionOf(zone)},
		Address:  address, Version: version, Weight: 100, Owner: "edge-1",
	}
}

func regionOf(zone string) string {
	if zone == "az3" {
		return "south"
	}
	return "east"
}

// register makes these the instances there are.
func (r *rig) register(instances ...*federation.Instance) {
	r.replace(instances...)
	r.follow()
}

// replace does so in the catalog; the gateway is not told yet.
func (r *rig) replace(instances ...*federation.Instance) {
	revision := r.catalog.Snapshot().Revision + 1
	for _, i := range instances {
		i.Revision = revision
	}
	r.catalog.Replace(instances, revision)
}

// put changes one instance in the catalog.
func (r *rig) put(i *federation.Instance) {
	i.Revision = r.catalog.Snapshot().Revision + 1
	r.catalog.Apply([]federation.Change{{Put: i, Revision: i.Revision}}, i.Revision)
}

// follow gives the gateway what the catalog has changed.
func (r *rig) follow() {
	select {
	case <-r.sub.C():
	default:
	}
	r.gateway.SetSnapshot(r.sub.Take())
}

// endpoint is what the gateway keeps of an instance of users.
func (r *rig) endpoint(id string) *endpoint {
	r.t.Helper()
	e := r.catalog.Snapshot().Endpoint(federation.Key{Service: "users", ID: id})
	if e == nil {
		r.t.Fatalf("no instance %s", id)
	}
	return e.Runtime.(*endpoint)
}

// settled waits until nothing is in flight any more: a client has its answer
// before the gateway is done with the request.
func (r *rig) settled() {
	r.t.Helper()
	eventually(r.t, "nothing in flight", func() bool {
		for _, e := range r.catalog.Snapshot().Service("users").Endpoints {
			if e.Runtime.InFlight() != 0 {
				return false
			}
		}
		return true
	})
}

// firstByID makes every choice fall on the first zone of the lane and the
// endpoint with the lowest id.
func firstByID(o *Options) { o.Rand = func() uint64 { return 0 } }

// patientFailures in a row would eject an endpoint.
const patientFailures = 1000

// patient has nothing ejected, for tests of what is tried again.
func patient(t testing.TB) func(*Options) {
	return func(o *Options) {
		firstByID(o)
		o.Monitor = monitorWith(t, health.Ejection{ConnectFailures: patientFailures, GatewayFailures: patientFailures, MinRequests: 100_000})
	}
}

// usersRoute takes everything to the service users.
func usersRoute() Route {
	return Route{
		Route:   route.Route{ID: "users", Path: "/**", Service: "users", Explain: true},
		Total:   10 * time.Second,
		Retries: 1,
	}
}

// usersConfig has baseline v1 and the release v2-beta.
func usersConfig(fallback federation.Fallback) Config {
	return Config{
		Routes:   []Route{usersRoute()},
		Services: []*federation.Service{{Name: "users", Baseline: &federation.Selector{Version: "v1"}}},
		Releases: []*federation.Release{
			{Name: "v2-beta", Fallback: fallback, Services: map[string]federation.Selector{"users": {Version: "v2"}}},
			{Name: "elsewhere", Fallback: federation.Strict, Services: map[string]federation.Selector{"orders": {Version: "v2"}}},
		},
	}
}

// client is a raw connection to the rig.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{Conn: nc, t: r.t, r: bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer is a response read whole.
type answer struct {
	*http.Response
	body string
}

func (c *client) receive(method string) answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("response body: %v", err)
	}
	return answer{response, string(body)}
}

// ask sends one request on a connection of its own. fields are header lines.
func (r *rig) ask(method, path string, fields ...string) answer {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	return c.ask(method, path, fields...)
}

func (c *client) ask(method, path string, fields ...string) answer {
	c.t.Helper()
	lines := ""
	for _, field := range fields {
		lines += field + "\r\n"
	}
	c.send(method + " " + path + " HTTP/1.1\r\nHost: users.test\r\n" + lines + "\r\n")
	return c.receive(method)
}

// expect fails unless the answer has this status and contains text.
func (a answer) expect(t testing.TB, status int, text string) {
	t.Helper()
	if a.StatusCode != status || !strings.Contains(a.body, text) {
		t.Fatalf("got %d %q, want %d with %q", a.StatusCode, a.body, status, text)
	}
}

// eventually waits for something another goroutine does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

const (
	tagged  = "x-release-tag: v2-beta"
	explain = "x-gray-explain: 1"
)
