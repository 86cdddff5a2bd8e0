package gateway

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// fixedUpstream answers from memory: it is no stand-in for a protocol, it only
// leaves nothing to be measured but the pipeline.
type fixedUpstream struct {
	body exchange.BytesBody
	data []byte
}

func (u *fixedUpstream) RoundTrip(x *exchange.Exchange) error {
	x.Response.Status = 200
	x.Response.Header.Append(exchange.Field{Name: "Content-Type", Value: "text/plain", ID: exchange.FieldContentType})
	u.body.Set(u.data)
	x.Response.Body, x.Response.ContentLength = &u.body, int64(len(u.data))
	return nil
}

func (u *fixedUpstream) Close() error { return nil }

// upstreamFunc answers 200 after the function.
type upstreamFunc func()

func (f upstreamFunc) RoundTrip(x *exchange.Exchange) error {
	f()
	x.Response.Status = 200
	return nil
}

func (f upstreamFunc) Close() error { return nil }

func newExchange() *exchange.Exchange {
	return &exchange.Exchange{Conn: &exchange.Conn{Remote: netip.MustParseAddrPort("192.0.2.7:1234")}}
}

// pipeline is a gateway before fixedUpstream, and a request that is used again.
func pipeline(t testing.TB, change func(*Config, *Options)) (*Gateway, func(x *exchange.Exchange), *exchange.Exchange) {
	t.Helper()
	config := usersConfig(federation.Permissive)
	options := Options{
		Topology: route.Topology{Zone: "az1", Region: "east"},
		NewTransport: func(*federation.Instance) (Upstream, error) {
			return &fixedUpstream{data: make([]byte, 1024)}, nil
		},
		Monitor:  newMonitor(t),
		Requests: newRequests(t),
	}
	if change != nil {
		change(&config, &options)
	}
	g, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.SetConfig(config); err != nil {
		t.Fatal(err)
	}
	catalog := federation.NewCatalog(federation.CatalogOptions{Self: "edge-1", NewRuntime: g.NewRuntime, RecordTTL: time.Minute})
	catalog.Replace([]*federation.Instance{
		instance("v1-a", "az1", "v1", "10.0.0.1:80"), instance("v1-b", "az1", "v1", "10.0.0.2:80"),
		instance("v1-c", "az2", "v1", "10.0.0.3:80"),
		instance("v2-a", "az1", "v2", "10.0.0.4:80"), instance("v2-b", "az2", "v2", "10.0.0.5:80"),
	}, 1)
	g.SetSnapshot(catalog.Snapshot(), nil, true)
	prepare := func(x *exchange.Exchange) {
		header := x.Request.Header
		header.Reset()
		x.Request = exchange.Request{
			Method: "GET", Scheme: "http", Authority: "users.test:8080", Path: "/api/v1/users/17",
			Proto: exchange.HTTP11, Header: header,
		}
		for _, field := range []exchange.Field{
			{Name: "User-Agent", Value: "bench"}, {Name: "Accept", Value: "*/*"},
			{Name: "x-release-tag", Value: "v2-beta", ID: exchange.FieldXReleaseTag},
		} {
			x.Request.Header.Append(field)
		}
		x.Response.Reset()
		x.Start = time.Now()
		x.ClearCancel()
	}
	return g, prepare, newExchange()
}

func TestServeAllocatesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config, *Options)
		spoil  func(*exchange.Exchange)
	}{
		{name: "untrusted"},
		{name: "round robin", change: func(c *Config, _ *Options) {
			c.Policies = map[string]Policy{"users": {Balance: WeightedRoundRobin, MaxRequests: 10}}
		}},
		{name: "limits, queue, breaker and hash", change: func(c *Config, _ *Options) {
			steady, _ := breaker.Profile("steady")
			c.Policies = map[string]Policy{"users": {
				Balance: ConsistentHash, Hash: []HashKey{{HashCookie, "c"}, {HashQuery, "q"}, {Source: HashClientIP}},
				MaxRequests: 10, MaxServiceRequests: 10, Queue: admission.Options{Size: 10, Wait: time.Second}, Breaker: &steady,
			}}
			c.Routes[0].PerTry = time.Second
		}},
		{name: "rate limit", change: func(c *Config, _ *Options) {
			c.Routes[0].RateLimit = &ratelimit.Options{RPM: ratelimit.MaxRPM, Burst: ratelimit.MaxBurst}
		}},
		{name: "spoofed fields", spoil: func(x *exchange.Exchange) {
			for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Request-ID", "X-Forwarded-For"} {
				x.Request.Header.Add(name, "10.0.0.9")
			}
		}},
		{name: "trusted proxy", change: func(_ *Config, o *Options) {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}, spoil: func(x *exchange.Exchange) { x.Request.Header.Add("X-Forwarded-For", "198.51.100.1, 192.0.2.9") }},
		{name: "lookalikes", spoil: func(x *exchange.Exchange) {
			x.Request.Header.Add("x_real_ip", "10.0.0.9")
			x.Request.Header.Add("X.Forwarded.For", "10.0.0.9")
		}},
		{name: "forwarded", change: func(_ *Config, o *Options) {
			o.Forwarded, o.Edge = true, "edge-1"
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}, spoil: func(x *exchange.Exchange) {
			x.Request.Header.Add("X-Forwarded-For", "198.51.100.1, 2001:db8::9")
			x.Request.Header.Add("X-Forwarded-Port", "443")
		}},
		{name: "rewrites", change: func(c *Config, o *Options) {
			o.Edge = "edge-1"
			c.Routes[0].Rewrite = rewrite.Rule{
				Path: rewrite.Path{ReplacePrefix: &rewrite.Replacement{From: "/api", To: "/internal"}}, Host: rewrite.HostUpstream,
				Request: rewrite.Headers{
					Set: []rewrite.Header{{Name: "X-Seen-By", Value: "${edge} for ${client_ip}"}}, Remove: []string{"User-Agent"},
				},
				Response: rewrite.Headers{Add: []rewrite.Header{{Name: "X-Served-By", Value: "${instance}"}}},
			}
		}},
		{name: "header matcher", change: func(c *Config, _ *Options) {
			c.Routes[0].Headers = []route.Match{{Name: "Accept", Exact: "*/*"}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, prepare, x := pipeline(t, test.change)
			once := func() {
				prepare(x)
				if test.spoil != nil {
					test.spoil(x)
				}
				g.Serve(x)
				if x.Response.Status != 200 {
					t.Fatalf("status %d", x.Response.Status)
				}
				g.Done(x, nil)
			}
			once() // the state is made with the first request
			if n := testing.AllocsPerRun(1000, once); n != 0 {
				t.Errorf("%v allocations per request", n)
			}
		})
	}
}

func BenchmarkServe(b *testing.B) {
	g, prepare, x := pipeline(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		prepare(x)
		g.Serve(x)
		g.Done(x, nil)
	}
}

// BenchmarkServeRoutes is the whole pipeline by number of routes, each of which
// is asked as often as the others.
func BenchmarkServeRoutes(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			g, prepare, x := pipeline(b, func(c *Config, _ *Options) {
				c.Routes = make([]Route, n)
				for i := range c.Routes {
					c.Routes[i] = usersRoute()
					c.Routes[i].ID = fmt.Sprintf("r%d", i)
					c.Routes[i].Path = fmt.Sprintf("/api/b%04d/{id:[0-9]+}/r%05d", i/100, i)
				}
			})
			path := []byte("/api/b0000/17/r00000")
			random := uint32(1)
			for b.Loop() {
				random = random*1664525 + 1013904223
				i := int(uint64(random) * uint64(n) >> 32)
				for d, bucket := 0, i/100; d < 4; d, bucket = d+1, bucket/10 {
					path[len("/api/b000")-d] = byte('0' + bucket%10)
				}
				for d, number := 0, i; d < 5; d, number = d+1, number/10 {
					path[len(path)-1-d] = byte('0' + number%10)
				}
				prepare(x)
				x.Request.Path = view(path)
				g.Serve(x)
				g.Done(x, nil)
				if x.Response.Status != 200 {
					b.Fatal(x.Response.Status, string(path))
				}
			}
		})
	}
}

// BenchmarkPrepare is what BenchmarkServe spends on making the request.
func BenchmarkPrepare(b *testing.B) {
	_, prepare, x := pipeline(b, nil)
	for b.Loop() {
		prepare(x)
	}
}
