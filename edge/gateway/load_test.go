package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// Configuration, instances and health change as fast as they can while
// requests come in: not one may fail.
func TestChangesUnderLoad(t *testing.T) {
	r := newRig(t, nil)
	names := []string{"v1-a", "v1-b", "v2-a", "v2-b"}
	origins := make(map[string]*origin)
	for _, name := range names {
		origins[name] = newOrigin(t, answering(name))
	}
	all := func(round int) []*federation.Instance {
		var list []*federation.Instance
		for n, name := range names {
			i := instance(name, "az1", name[:2], origins[name].address)
			if name[3] == 'b' {
				i.Zone = "az2"
			}
			if n == round%4 {
				i.Weight = 1 + round%7
			}
			if n == (round+2)%4 {
				continue // gone, and back again
			}
			list = append(list, i)
		}
		return list
	}
	configs := []Config{usersConfig(federation.Strict), usersConfig(federation.Permissive)}
	configs[1].Routes[0].ID = "users-2"
	configs[1].Policies = map[string]Policy{"users": {Balance: WeightedRoundRobin, MaxRequests: 100}}
	r.configure(configs[0])
	r.register(all(0)...)

	var failed, asked atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 4 {
		tag, want := "", "v1"
		if n%2 == 1 {
			tag, want = tagged+"\r\n", "v2"
		}
		c := r.dial()
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				// POST: nothing that was written would be sent again.
				_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: users.test\r\nContent-Length: 2\r\n"+tag+"\r\nhi")
				if err != nil {
					t.Error(err)
					return
				}
				response, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), want) {
					failed.Add(1)
					t.Errorf("%d %q", response.StatusCode, body)
					return
				}
			}
		})
	}
	for round := range 300 {
		switch round % 3 {
		case 0:
			r.configure(configs[round/3%2])
		case 1:
			r.register(all(round)...)
		default:
			r.gateway.Refresh(r.gateway.opts.Now())
		}
		eventually(t, "a request in between", func() bool { return asked.Load() > int64(round) || failed.Load() > 0 })
	}
	close(stop)
	clients.Wait()
	r.settled()
	if asked.Load() < 300 {
		t.Errorf("only %d requests", asked.Load())
	}
}

// All canaries of an AZ die at once under load: idempotent requests do not
// notice, and the other AZ has them.
func TestCanariesOfAnAZDie(t *testing.T) {
	r := newRig(t, nil)
	config := usersConfig(federation.Strict)
	r.configure(config)
	origins := r.stage(
		place{"v2-a", "az1", "v2", answering("here")}, place{"v2-b", "az1", "v2", answering("here")},
		place{"v2-c", "az2", "v2", answering("there")}, place{"v2-d", "az2", "v2", answering("there")},
		place{"v1-a", "az1", "v1", answering("baseline")},
	)
	var here, there, bad atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		c := r.dial()
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch a := c.ask("GET", "/", tagged); {
				case a.StatusCode == http.StatusOK && a.body == "here":
					here.Add(1)
				case a.StatusCode == http.StatusOK && a.body == "there":
					there.Add(1)
				default:
					bad.Add(1)
					t.Errorf("%d %q", a.StatusCode, a.body)
				}
			}
		})
	}
	// A retry budget of 20% wants requests to be 20% of.
	eventually(t, "the canaries here serve", func() bool { return here.Load() > 500 })
	origins["v2-a"].kill()
	origins["v2-b"].kill()
	killed := there.Load()
	eventually(t, "those of the other zone serve", func() bool { return there.Load() > killed+500 || bad.Load() > 0 })
	close(stop)
	clients.Wait()
}

// count is where n requests go, by the instance.
func count(t *testing.T, g *Gateway, prepare func(x *exchange.Exchange), n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	x := newExchange()
	for range n {
		prepare(x)
		g.Serve(x)
		if e := x.State.(*call).at.endpoint; e != nil {
			got[e.ID]++
		} else {
			got[fmt.Sprint(x.Response.Status)]++
		}
		g.Done(x, nil)
	}
	return got
}

func near(got, want, within int) bool { return got >= want-within && got <= want+within }

func TestShares(t *testing.T) {
	for _, balance := range []Balance{P2C, WeightedRoundRobin} {
		g, prepare, _ := pipeline(t, func(c *Config, o *Options) {
			c.Policies = map[string]Policy{"users": {Balance: balance}}
			o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstreamFunc(func() {}), nil }
		})
		catalog := federation.NewCatalog(federation.CatalogOptions{Self: "edge-1", NewRuntime: g.NewRuntime})
		weigh := func(zone string, weights ...int) (list []*federation.Instance) {
			for n, weight := range weights {
				i := instance(fmt.Sprintf("%s-%d", zone, n), zone, "v2", fmt.Sprintf("10.0.0.%d:80", n+1))
				i.Weight = weight
				list = append(list, i)
			}
			return list
		}
		// Weights within a zone.
		catalog.Replace(weigh("az1", 100, 300, 0), 1)
		g.SetSnapshot(catalog.Snapshot(), nil, true)
		got := count(t, g, prepare, 4000)
		if !near(got["az1-0"], 1000, 150) || !near(got["az1-1"], 3000, 150) || got["az1-2"] != 0 {
			t.Errorf("%v: weights 1 to 3 to 0 got %v", balance, got)
		}
		// One of them down: the other takes all, the zone next door nothing.
		tracker := g.snapshot.Load().Endpoint(federation.Key{Service: "users", ID: "az1-1"}).Runtime.(*endpoint).tracker
		for range 3 {
			tracker.ConnectFailure(1)
		}
		if got := count(t, g, prepare, 100); got["az1-0"] != 100 {
			t.Errorf("%v: with one down got %v", balance, got)
		}
	}
}

func TestRoutesShareTheirService(t *testing.T) {
	config := usersConfig(federation.Strict)
	second := usersRoute()
	second.ID, second.Path = "second", "/second"
	config.Routes = append(config.Routes, second)
	r := newRig(t, nil)
	r.configure(config)
	r.stage(place{"a", "az1", "v1", answering("ok")})
	r.ask("GET", "/second").expect(t, 200, "ok")
	r.ask("GET", "/first").expect(t, 200, "ok")
	if n := r.gateway.routing.Load().services["users"].budget.requests.Load(); n != 2 {
		t.Errorf("the budget knows of %d requests", n)
	}
	// It goes on over a new configuration.
	r.configure(config)
	if n := r.gateway.routing.Load().services["users"].budget.requests.Load(); n != 2 {
		t.Errorf("after a new configuration the budget knows of %d requests", n)
	}
}

// BenchmarkOneChange is one instance's change in a service of 10,000, from the
// catalog's snapshot to the plan that requests use.
func BenchmarkOneChange(b *testing.B) {
	g, _, _ := pipeline(b, nil)
	catalog := federation.NewCatalog(federation.CatalogOptions{Self: "edge-1", NewRuntime: g.NewRuntime})
	all := make([]*federation.Instance, 10_000)
	for n := range all {
		zone := fmt.Sprintf("az%d", 1+n%3)
		all[n] = instance(fmt.Sprintf("i-%05d", n), zone, fmt.Sprintf("v%d", 1+n%2), fmt.Sprintf("10.0.%d.%d:80", n/250, n%250+1))
		all[n].Revision = 1
	}
	catalog.Replace(all, 1)
	g.SetSnapshot(catalog.Snapshot(), nil, true)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		changed := *all[n%len(all)]
		changed.Weight = 1 + n%100
		changed.Revision = int64(n + 2)
		b.StopTimer()
		catalog.Apply([]federation.Change{{Put: &changed, Revision: changed.Revision}}, changed.Revision)
		b.StartTimer()
		g.SetSnapshot(catalog.Snapshot(), []string{"users"}, false)
	}
}
