package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// directZone is the one that throughZones reaches directly.
const directZone = "az9"

// throughZones is a rig in az1 that reaches every other zone but directZone
// through its edges, named "ZONE" or "ZONE-NAME", with a canary in each of those
// and the baseline in az1.
func throughZones(t *testing.T, fallback federation.Fallback, edges ...*fakeEdge) (*rig, *origin) {
	t.Helper()
	byID := make(map[string]*fakeEdge)
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Edge = "az1-edge"
		o.Through = func(zone string) bool { return zone != directZone }
		o.NewPeer = func(e *federation.Edge) (Upstream, error) { return byID[e.ID], nil }
	})
	stable := newOrigin(t, answering("stable"))
	instances := []*federation.Instance{instance("stable", "az1", "v1", stable.address)}
	for _, e := range edges {
		byID[e.id] = e
		edge := edgeOf(e.id, federation.EdgeAlive)
		edge.Zone, _, _ = strings.Cut(e.id, "-")
		r.gateway.SetPeer(edge, false)
		canary := instance("canary-"+edge.Zone, edge.Zone, "v2", "192.0.2.9:80")
		if !slices.ContainsFunc(instances, func(i *federation.Instance) bool { return i.ID == canary.ID }) {
			instances = append(instances, canary)
		}
	}
	r.configure(usersConfig(fallback))
	r.register(instances...)
	return r, stable
}

// TestTriesOfAZone: how many attempts that write nothing another zone gets.
func TestTriesOfAZone(t *testing.T) {
	for name, c := range map[string]struct {
		fallback federation.Fallback
		zones    []string
		want     string // what the edges are told, in turn
		status   int
	}{
		"the only zone":               {federation.Strict, []string{"az2"}, "[3]", 503},
		"a lane to fall back to":      {federation.Permissive, []string{"az2"}, "[2]", 200},
		"another zone":                {federation.Strict, []string{"az2", "az4"}, "[1 2]", 503},
		"another zone, another lane":  {federation.Permissive, []string{"az2", "az4"}, "[1 1]", 200},
		"two other zones":             {federation.Strict, []string{"az2", "az4", "az5"}, "[1 1 1]", 503},
		"more zones than attempts":    {federation.Strict, []string{"az2", "az4", "az5", "az6"}, "[1 1 1]", 503},
		"more zones and another lane": {federation.Permissive, []string{"az2", "az4", "az5"}, "[1 1]", 200},
	} {
		t.Run(name, func(t *testing.T) {
			tries := make(chan int, 2*maxUnwritten)
			var edges []*fakeEdge
			for _, zone := range c.zones {
				edges = append(edges, &fakeEdge{id: zone, answer: func(x *exchange.Exchange) error {
					text, _ := x.Request.Header.Get(exchange.FieldXGrayHop)
					h, ok := parseHop(text)
					if !ok {
						t.Errorf("told %q", text)
					}
					tries <- h.tries
					return says(503, "not-processed;reason=no-endpoint")(x)
				}})
			}
			r, _ := throughZones(t, c.fallback, edges...)
			r.ask("POST", "/", tagged, "Content-Length: 0").expect(t, c.status, "")
			var told []int
			for len(tries) > 0 {
				told = append(told, <-tries)
			}
			if fmt.Sprint(told) != c.want {
				t.Errorf("told %v, want %s", told, c.want)
			}
		})
	}
}

// TestLastAttempt: the last attempt that may write nothing is for a canary that
// this edge reaches itself before it is for the baseline, and not for one more
// edge.
func TestLastAttempt(t *testing.T) {
	const none = "not-processed;reason=no-endpoint"
	for direct, want := range map[bool]string{true: "canary", false: "stable"} {
		last := &fakeEdge{id: "az5", answer: says(200, "served")}
		r, stable := throughZones(t, federation.Permissive, &fakeEdge{id: "az2", answer: says(503, none)}, &fakeEdge{id: "az4", answer: says(503, none)}, last)
		instances := []*federation.Instance{
			instance("stable", "az1", "v1", stable.address),
			instance("canary-az2", "az2", "v2", "192.0.2.9:80"), instance("canary-az4", "az4", "v2", "192.0.2.9:80"),
		}
		if direct {
			instances = append(instances, instance("canary-"+directZone, directZone, "v2", newOrigin(t, answering("canary")).address))
		} else {
			instances = append(instances, instance("canary-az5", "az5", "v2", "192.0.2.9:80"))
		}
		r.register(instances...)
		r.ask("POST", "/", tagged, "Content-Length: 0").expect(t, 200, want)
		if asked := last.asked.Load(); asked != 0 {
			t.Errorf("direct %t: one more edge was asked", direct)
		}
	}
}

// TestOneLimitOfUnwrittenAttempts: what another edge has tried in vain counts as
// if it had been tried from here, and so do edges that cannot be reached.
func TestOneLimitOfUnwrittenAttempts(t *testing.T) {
	const spent, none = "not-processed;reason=not-reached;tried=3", "not-processed;reason=no-endpoint"
	for name, c := range map[string]struct {
		edges  []*fakeEdge
		status int
		asked  string
	}{
		"spent by one":         {[]*fakeEdge{{id: "az2", answer: says(503, spent)}, {id: "az4", answer: says(200, "served")}}, 503, "[1 0]"},
		"the twin":             {[]*fakeEdge{{id: "az2", answer: says(503, none)}, {id: "az4", answer: says(200, "served")}}, 200, "[1 1]"},
		"two edges of a zone":  {[]*fakeEdge{{id: "az2-a", answer: unreachable}, {id: "az2-b", answer: says(200, "served")}}, 200, "[1 1]"},
		"the second elsewhere": {[]*fakeEdge{{id: "az2-a", answer: unreachable}, {id: "az2-b", answer: unreachable}, {id: "az4", answer: says(200, "served")}}, 200, "[1 0 1]"},
		"none is reached": {
			[]*fakeEdge{{id: "az2-a", answer: unreachable}, {id: "az2-b", answer: unreachable}, {id: "az4-a", answer: unreachable}, {id: "az4-b", answer: unreachable}},
			502, "[1 0 1 1]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := throughZones(t, federation.Strict, c.edges...)
			r.ask("POST", "/", tagged, "Content-Length: 0").expect(t, c.status, "")
			var asked []int32
			for _, e := range c.edges {
				asked = append(asked, e.asked.Load())
			}
			if fmt.Sprint(asked) != c.asked {
				t.Errorf("asked %v, want %s", asked, c.asked)
			}
		})
	}
}

// TestTimeOfATry: where an attempt through another edge has a time of its own,
// that edge may connect as often as it does before; the request's time stays.
func TestTimeOfATry(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct{ perTry, total, want time.Duration }{
		"one try":                     {second, time.Hour, second + hopSlack + 3*2*second},
		"one try, without a total":    {second, 0, second + hopSlack + 3*2*second},
		"one try, nearly all of it":   {second, 3 * second, 3*second + hopSlack},
		"no time for one try":         {0, 3 * second, 3*second + hopSlack},
		"no time for one try, or all": {0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bounds := make(chan time.Duration, 1)
			r, _ := throughZones(t, federation.Strict, &fakeEdge{id: "az2", answer: func(x *exchange.Exchange) error {
				bound := time.Duration(0)
				if !x.Deadline.IsZero() {
					bound = x.Deadline.Sub(x.Start)
				}
				bounds <- bound
				return says(200, "served")(x)
			}})
			config := usersConfig(federation.Strict)
			config.Routes[0].PerTry, config.Routes[0].Total, config.Routes[0].Timeouts.Connect = c.perTry, c.total, 2*second
			r.configure(config)
			r.ask("POST", "/", tagged, "Content-Length: 0").expect(t, 200, "")
			// The time of a try counts from when it begins.
			if got := <-bounds; got < c.want || c.perTry == 0 && got != c.want || c.total == 3*second && got != c.want {
				t.Errorf("bounded by %s, want %s", got, c.want)
			}
		})
	}
}

// TestNoPartOfABodyIsSentOn: an edge that has had a part of a body cannot say
// that the request is as it was.
func TestNoPartOfABodyIsSentOn(t *testing.T) {
	for _, verdict := range []func(*exchange.Exchange) error{says(503, "not-processed;reason=no-endpoint"), says(431, "")} {
		for _, pulls := range []bool{true, false} {
			edge := &fakeEdge{id: "az2", answer: func(x *exchange.Exchange) error {
				if pulls {
					if piece, err := x.Request.Body.Next(); err != nil || len(piece) == 0 {
						t.Errorf("%q, %v", piece, err)
					}
				}
				return verdict(x)
			}}
			r, stable := throughZones(t, federation.Permissive, edge)
			c := r.dial()
			c.send("POST / HTTP/1.1\r\nHost: users.test\r\n" + tagged + "\r\nContent-Length: 6\r\n\r\nabc")
			eventually(t, "the edge has answered", func() bool { return edge.asked.Load() == 1 && (pulls || stable.heads.Load() == 1) })
			_, _ = io.WriteString(c, "def")
			got := c.receive("POST")
			if pulls && (got.StatusCode != http.StatusServiceUnavailable || stable.heads.Load() != 0) {
				t.Errorf("part of it was pulled: %d %q, the baseline was asked %d times", got.StatusCode, got.body, stable.heads.Load())
			}
			if !pulls {
				got.expect(t, 200, "stable")
			}
		}
	}
}

// TestGoneEdgesLeaveNoSeries: neither do requests that end after them.
func TestGoneEdgesLeaveNoSeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	edge := &fakeEdge{id: "a", answer: says(200, "served;instance=canary")}
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Edge, o.Registerer = "az1-edge", reg
		o.Through = func(zone string) bool { return zone == "az2" }
		o.NewPeer = func(*federation.Edge) (Upstream, error) { return edge, nil }
	})
	series := func() (found []string) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				for _, label := range metric.GetLabel() {
					if label.GetName() == "edge" && label.GetValue() == "a" {
						found = append(found, family.GetName())
					}
				}
			}
		}
		return found
	}
	r.gateway.SetPeer(edgeOf("a", federation.EdgeAlive), false)
	r.configure(usersConfig(federation.Strict))
	r.register(instance("canary", "az2", "v2", "192.0.2.9:80"))
	r.ask("GET", "/", tagged).expect(t, 200, "")
	if got := fmt.Sprint(series()); got != "[grayfed_peer_attempts_total]" {
		t.Errorf("while it lives: %s", got)
	}
	edge.answers(func(x *exchange.Exchange) error {
		r.gateway.SetPeer(edgeOf("a", federation.EdgeAlive), true)
		return says(200, "served;instance=canary")(x)
	})
	r.ask("GET", "/", tagged)
	if got := series(); got != nil {
		t.Errorf("of an edge that is gone: %s", got)
	}
}
