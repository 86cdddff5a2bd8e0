package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/federation"
)

// gate answers each request once it is let through.
func gate(name string) (func(*origin, net.Conn, string) bool, chan struct{}) {
	open := make(chan struct{})
	return func(_ *origin, nc net.Conn, _ string) bool {
		select {
		case <-open:
		case <-time.After(10 * time.Second): // the test has failed
			return false
		}
		_, err := fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
		return err == nil
	}, open
}

func TestMaxRequests(t *testing.T) {
	r := newRig(t, firstByID)
	config := usersConfig(federation.Strict)
	config.Policies = map[string]Policy{"users": {MaxRequests: 1}}
	r.configure(config)
	waits, open := gate("first")
	r.stage(place{"a", "az1", "v1", waits}, place{"b", "az2", "v1", answering("second")})
	got := make(chan answer, 1)
	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "the first is full", func() bool { return r.endpoint("a").InFlight() == 1 })
	r.send(request{method: "GET"}).expect(t, 200, "second") // another zone takes it
	r.catalog.Apply([]federation.Change{{Key: federation.Key{Service: "users", ID: "b"}, Revision: 100}}, 100)
	r.follow()
	r.send(request{method: "GET"}).expect(t, 503, "no-baseline-usable")
	close(open)
	(<-got).expect(t, 200, "first")
	r.settled()
	r.send(request{method: "GET"}).expect(t, 200, "first") // its place is free again
	// The twin: without a limit nobody is turned away.
	r.configure(usersConfig(federation.Strict))
	if b := r.endpoint("a").bounds.Load(); b != nil && !b.hasRoom(1_000_000) {
		t.Error("a limit that was taken back still holds")
	}
}

// Many requests at once and few places: never more in flight than the limit,
// and none is turned away while another endpoint has room.
func TestMaxRequestsHoldsUnderLoad(t *testing.T) {
	var inFlight, most atomic.Int64
	upstream := upstreamFunc(func() {
		n := inFlight.Add(1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		runtime.Gosched()
		inFlight.Add(-1)
	})
	g, prepare, _ := pipeline(t, func(c *Config, o *Options) {
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
		c.Policies = map[string]Policy{"users": {MaxRequests: 2}}
	})
	var all sync.WaitGroup
	for range 4 { // two canaries take two each
		all.Go(func() {
			x := newExchange()
			for range 500 {
				prepare(x)
				g.Serve(x)
				if x.Response.Status != 200 {
					t.Errorf("status %d", x.Response.Status)
				}
				if rung := x.State.(*call).at.rung.String(); !strings.HasPrefix(rung, "canary") {
					t.Errorf("rung %s", rung)
				}
				g.Done(x, nil)
			}
		})
	}
	all.Wait()
	if most.Load() > 4 {
		t.Errorf("%d in flight at once, allowed 4", most.Load())
	}
}

func TestDeclaredCapacity(t *testing.T) {
	var published atomic.Int64
	r := newRig(t, func(o *Options) {
		firstByID(o)
		o.PublishLoad = func(key federation.Key, n int64) {
			if key.ID == "b" {
				published.Store(n)
			} else {
				t.Errorf("load of %s is of no use to anybody", key)
			}
		}
	})
	r.configure(usersConfig(federation.Strict))
	waits, open := gate("far")
	far := newOrigin(t, waits)
	declared := instance("b", "az2", "v1", far.address)
	declared.Capacity = 3
	r.register(instance("c", "az3", "v1", newOrigin(t, answering("farther")).address), declared)

	// Two elsewhere and one of ours: full.
	r.gateway.SetLoad("edge-2", declared.Key, 1)
	r.gateway.SetLoad("edge-3", declared.Key, 1)
	got := make(chan answer, 2)
	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "it is full", func() bool { return r.endpoint("b").InFlight() == 1 })
	r.gateway.Refresh(r.gateway.opts.Now())
	if n := published.Load(); n != 1 {
		t.Errorf("published %d", n)
	}
	r.send(request{method: "GET"}).expect(t, 200, "farther")
	// The twin: another edge has one less.
	r.gateway.SetLoad("edge-3", declared.Key, 0)
	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "there was room for one", func() bool { return r.endpoint("b").InFlight() == 2 })
	close(open)
	(<-got).expect(t, 200, "far")
	(<-got).expect(t, 200, "far")
	r.settled()
	// The edge of the instance's own zone is not bound by it.
	moved := *declared
	moved.Zone = "az1"
	r.put(&moved)
	r.follow()
	r.gateway.SetLoad("edge-2", declared.Key, 100)
	r.send(request{method: "GET"}).expect(t, 200, "far")
	// Loads outlive a new address of the instance.
	again := *declared
	again.Address = refusingAddress(t)
	r.put(&again)
	r.follow()
	if r.endpoint("b").Admits() {
		t.Error("the load that others told is forgotten")
	}
}

func TestNotUsable(t *testing.T) {
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Permissive))
	origins := r.stage(place{"a", "az1", "v2", answering("canary")}, place{"b", "az2", "v2", answering("far canary")}, place{"c", "az1", "v1", answering("baseline")})
	get := request{method: "GET", tag: "v2-beta"}
	r.send(get).expect(t, 200, "canary")
	// Draining: gets nothing new.
	drained := instance("a", "az1", "v2", origins["a"].address)
	drained.Draining = true
	r.put(drained)
	r.follow()
	r.send(get).expect(t, 200, "far canary")
	// Unhealthy by gossip.
	r.catalog.ObserveHealth(r.gateway.opts.Now(), federation.HealthRecord{
		Subject: federation.Key{Service: "users", ID: "b"}, Observer: "edge-2", Incarnation: 1, Seq: 1, Status: federation.Unhealthy,
	})
	r.follow()
	a := r.send(get)
	a.expect(t, 200, "baseline")
	if got := a.Header.Get("x-gray-decision"); !strings.HasPrefix(got, "rung=baseline-here; reason=no-canary-usable") {
		t.Errorf("decision %q", got)
	}
	// Strict ends there.
	r.configure(usersConfig(federation.Strict))
	a = r.send(get)
	a.expect(t, 503, "no-canary-usable")
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
}

// What requests experience counts at once: nobody tells the catalog here.
func TestEjectedAtOnce(t *testing.T) {
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"a", "az1", "v1", nil}, place{"b", "az2", "v1", answering("ok")})
	for range 3 {
		r.send(request{method: "GET"}).expect(t, 200, "ok")
	}
	a := r.send(request{method: "POST"})
	a.expect(t, 200, "ok")
	eventually(t, "four lines", func() bool { return strings.Count(r.log.String(), "\n") == 4 })
	if log := r.log.String(); strings.Count(log, `"retries":1`) != 3 || strings.Count(log, `"retries":0`) != 1 {
		t.Errorf("access log: %s", log)
	}
}

func TestPanic(t *testing.T) {
	r := newRig(t, func(o *Options) { firstByID(o); o.PanicThreshold = 50 })
	r.configure(usersConfig(federation.Permissive))
	r.stage(place{"a", "az1", "v1", answering("stable")}, place{"b", "az1", "v2", answering("canary")}, place{"c", "az2", "v2", answering("far")})
	get, canary := request{method: "GET"}, request{method: "GET", tag: "v2-beta"}
	// One of three is not panic: the rung that is empty stays closed.
	r.sick("a")
	r.send(get).expect(t, 503, "no-baseline-usable")
	// Two of three are, but a rung that is not empty comes first.
	r.sick("b", "c")
	r.send(canary).expect(t, 200, "stable")
	// All: each within its tag.
	r.sick("a", "b", "c")
	a := r.send(canary)
	a.expect(t, 200, "canary")
	if got := a.Header.Get("x-gray-decision"); got != "rung=panic; reason=panic; release=v2-beta; zone=az1; instance=b" {
		t.Errorf("decision %q", got)
	}
	r.send(get).expect(t, 200, "stable")
	r.configure(usersConfig(federation.Strict))
	r.send(canary).expect(t, 200, "canary")
	// And nothing is opened to a tag whose canaries are not registered.
	r.register(instance("a", "az1", "v1", "127.0.0.1:1"))
	r.sick("a")
	r.send(canary).expect(t, 503, "no-canary-usable")
}

// An endpoint is made for every instance there is: it must be small, and its
// transport is made when the first request is sent there.
func TestEndpointsAreSmall(t *testing.T) {
	var made atomic.Int64
	g, prepare, x := pipeline(t, func(_ *Config, o *Options) {
		o.NewTransport = func(*federation.Instance) (Upstream, error) { made.Add(1); return &fixedUpstream{}, nil }
	})
	prepare(x)
	g.Serve(x)
	g.Done(x, nil)
	if made.Load() != 1 {
		t.Errorf("%d transports for one request", made.Load())
	}
	const count = 20_000
	instances := make([]*federation.Instance, count)
	for i := range instances {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
		instances[i] = instance(fmt.Sprintf("i-%d", i), "az2", "v1", address.String())
	}
	before := heap()
	runtimes := make([]federation.Runtime, count)
	for i := range runtimes {
		runtimes[i] = g.NewRuntime(instances[i])
	}
	bytes := (heap() - before) / count
	t.Logf("%d bytes of heap an endpoint, its health tracker included", bytes)
	if bytes > 600 {
		t.Errorf("%d bytes of heap an endpoint, of 1024 for all that is kept of an instance", bytes)
	}
	for _, e := range runtimes {
		e.Close()
	}
	runtime.KeepAlive(runtimes)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// An endpoint that changes its address finishes what it has on the old one, and
// no request is lost on the way, not even between the catalog's knowing and
// the gateway's.
func TestNewAddress(t *testing.T) {
	r := newRig(t, nil)
	r.configure(usersConfig(federation.Strict))
	waits, open := gate("old")
	old, next := newOrigin(t, waits), newOrigin(t, answering("new"))
	r.register(instance("a", "az1", "v1", old.address))
	got := make(chan answer, 2)
	for range 2 {
		go func() { got <- r.send(request{method: "POST"}) }()
	}
	eventually(t, "two wait", func() bool { return r.endpoint("a").InFlight() == 2 })
	was := r.endpoint("a")
	before := r.catalog.Snapshot()
	r.replace(instance("a", "az1", "v1", next.address))
	r.gateway.SetSnapshot(before, nil, true) // one that was on its way
	go func() { got <- r.send(request{method: "POST"}) }()
	eventually(t, "the gateway has not heard yet", func() bool { return was.InFlight() == 3 })
	r.follow()
	r.send(request{method: "POST"}).expect(t, 200, "new")
	close(open)
	for range 3 {
		(<-got).expect(t, 200, "old")
	}
	eventually(t, "it is let go", func() bool { return was.InFlight() == 0 })
	stats := (*was.upstream.Load()).(*http1.Transport).Stats()
	if stats.Open != 0 {
		t.Errorf("connections of the old address: %+v", stats)
	}
}

// A transport that is closed at the very moment sends nothing: the newest plan
// has the successor.
func TestClosedUnderway(t *testing.T) {
	r := newRig(t, nil)
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"a", "az1", "v1", answering("old")}, place{"b", "az2", "v1", answering("far")})
	r.send(request{method: "POST"}).expect(t, 200, "old")
	if err := r.endpoint("a").shut(); err != nil {
		t.Fatal(err)
	}
	r.send(request{method: "POST"}).expect(t, 200, "far")
	if err := r.gateway.Close(); err != nil {
		t.Fatal(err)
	}
	r.send(request{method: "POST"}).expect(t, 503, "interrupted")
}

// closingUpstream is closed by the very plan that names its successor.
type closingUpstream struct {
	fixedUpstream
	close func()
}

func (u *closingUpstream) RoundTrip(*exchange.Exchange) error {
	u.close()
	return &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrClosed}
}

func TestSuccessorUnderway(t *testing.T) {
	successor := newOrigin(t, answering("successor"))
	var r *rig
	r = newRig(t, func(o *Options) {
		usual := o.NewTransport
		o.NewTransport = func(i *federation.Instance) (Upstream, error) {
			if i.Address != "10.0.0.1:80" {
				return usual(i)
			}
			return &closingUpstream{close: func() { r.register(instance("a", "az1", "v1", successor.address)) }}, nil
		}
	})
	r.configure(usersConfig(federation.Strict))
	r.register(instance("a", "az1", "v1", "10.0.0.1:80"))
	r.send(request{method: "POST"}).expect(t, 200, "successor")
}

func TestEnterIsExact(t *testing.T) {
	var e endpoint
	e.bounds.Store(&bounds{limit: 5})
	enters := func() bool {
		_, ok := e.enter()
		return ok
	}
	var entered atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 3 {
				if enters() {
					entered.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := entered.Load(); n > 5 || n < 1 || e.inFlight.Load() != n {
		t.Errorf("%d entered, %d in flight", n, e.inFlight.Load())
	}
	for enters() {
		entered.Add(1)
	}
	if entered.Load() != 5 {
		t.Errorf("%d places, want 5", entered.Load())
	}
	e.leave(pass{})
	if !enters() || enters() {
		t.Error("a place that is free again is to be had once")
	}
}

func TestNoTransport(t *testing.T) {
	broken := errors.New("no such protocol")
	r := newRig(t, func(o *Options) {
		firstByID(o)
		usual := o.NewTransport
		o.NewTransport = func(i *federation.Instance) (Upstream, error) {
			if i.ID == "a" {
				return nil, broken
			}
			return usual(i)
		}
	})
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"a", "az1", "v1", nil}, place{"b", "az2", "v1", answering("ok")})
	for range 5 {
		r.send(request{method: "POST"}).expect(t, 200, "ok")
	}
	if r.endpoint("a").Admits() || r.endpoint("a").tracker.Ejected() {
		t.Error("an endpoint without a transport is not usable, which is not its fault")
	}
}

func TestOptions(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"zone":      func(o *Options) { o.Topology.Zone = "" },
		"transport": func(o *Options) { o.NewTransport = nil },
		"monitor":   func(o *Options) { o.Monitor = nil },
		"panic":     func(o *Options) { o.PanicThreshold = 101 },
		"connect":   func(o *Options) { o.ConnectTimeout = -1 },
	} {
		options := Options{Monitor: newMonitor(t), NewTransport: func(*federation.Instance) (Upstream, error) { return nil, nil }}
		options.Topology.Zone = "az1"
		if _, err := New(options); err != nil {
			t.Fatal(err)
		}
		spoil(&options)
		if _, err := New(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
