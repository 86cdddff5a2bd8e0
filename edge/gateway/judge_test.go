package gateway

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/federation"
)

// breaking is a configuration in which three failures open a breaker.
func breaking() Config {
	config := usersConfig(federation.Strict)
	config.Routes[0].Retries = 0
	config.Policies = map[string]Policy{"users": {Breaker: &breaker.Options{
		FailureRatio: 0.5, MinRequests: 3, OpenFor: 500 * time.Millisecond, Window: time.Minute, Trials: 2,
	}}}
	return config
}

// breaker is that of instance a.
func (r *rig) breaker() *breaker.Breaker { return r.endpoint("a").bounds.Load().breaker }

func TestBreakerOpensAndCloses(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Registerer = reg
	})
	r.configure(breaking())
	var broken = make(chan bool, 1)
	broken <- true
	origins := r.stage(place{"a", "az1", "v1", func(o *origin, nc net.Conn, head string) bool {
		is := <-broken
		broken <- is
		if is {
			return respondWith(unavailable)(o, nc, head)
		}
		return answering("well")(o, nc, head)
	}}, place{"b", "az2", "v1", answering("other")})
	for range 3 {
		r.send(request{method: "GET"}).expect(t, 503, "busy")
		r.settled()
	}
	if state := r.breaker().State(); state != breaker.Open {
		t.Fatalf("breaker is %s after three failures", state)
	}
	// The ladder passes over it, and explain says why.
	for range 5 {
		r.send(request{method: "GET"}).expect(t, 200, "other")
	}
	if n := origins["a"].heads.Load(); n != 3 {
		t.Errorf("%d requests reached an endpoint whose breaker is open", n-3)
	}
	e := r.gateway.Explain(Query{Host: "users.test", Path: "/"})
	if e.Chosen == nil || e.Chosen.Instance.ID != "b" || e.Steps[0].BreakerOpen != 1 || !strings.Contains(e.Steps[0].Why, "1 breaker open") {
		t.Errorf("explained: %+v", e)
	}
	if got := counters(t, reg); !slices.Contains(got, "grayfed_breaker_changes_total{service=users,to=open} 1") {
		t.Errorf("counted %v", got)
	}
	// A breaker that stays as it is configured keeps its state.
	config := breaking()
	policy := config.Policies["users"]
	policy.MaxRequests = 100
	config.Policies["users"] = policy
	r.configure(config)
	if state := r.breaker().State(); state != breaker.Open {
		t.Errorf("breaker is %s after a new configuration that says the same", state)
	}
	<-broken
	broken <- false
	eventually(t, "half open", func() bool { return r.breaker().State() == breaker.HalfOpen })
	for range 2 {
		r.send(request{method: "GET"}).expect(t, 200, "well")
		r.settled()
	}
	if state := r.breaker().State(); state != breaker.Closed {
		t.Errorf("breaker is %s after its trials went well", state)
	}
	// The twin: without the policy nothing is passed over.
	r.configure(usersConfig(federation.Strict))
	if r.endpoint("a").bounds.Load() != nil {
		t.Error("bounds without a policy")
	}
}

// Which outcomes a breaker counts, and which it ignores.
func TestBreakerCounts(t *testing.T) {
	open := func(r *rig) bool { return r.breaker().State() == breaker.Open }
	for _, test := range []struct {
		name   string
		script func(*origin, net.Conn, string) bool
		opens  bool
	}{
		{"answers 502", respondWith("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), true},
		{"answers 500", respondWith("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), false},
		{"answers 404", respondWith("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), false},
		{"breaks off", reset, true},
		{"refuses", nil, true},
		{"breaks off within the body", func(_ *origin, nc net.Conn, _ string) bool {
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			return false
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, patient(t))
			r.configure(breaking())
			r.stage(place{"a", "az1", "v1", test.script})
			for range 3 {
				c := r.dial()
				c.send("POST / HTTP/1.1\r\nHost: users.test\r\nConnection: close\r\n\r\n")
				_, _ = io.ReadAll(c.r)
				r.settled()
			}
			if got := open(r); got != test.opens {
				t.Errorf("open: %v", got)
			}
		})
	}

	t.Run("clients that go or send rubbish", func(t *testing.T) {
		r := newRig(t, patient(t))
		r.configure(breaking())
		r.stage(place{"a", "az1", "v1", hang})
		for range 4 {
			c := r.dial()
			c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
			eventually(t, "it is upstream", func() bool { return r.endpoint("a").InFlight() == 1 })
			_ = c.Close()
			r.settled()
			c = r.dial()
			c.send("POST / HTTP/1.1\r\nHost: users.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			eventually(t, "it is upstream", func() bool { return r.endpoint("a").InFlight() == 1 })
			c.send("zz\r\n")
			c.receive("POST").expect(t, 400, "malformed-body")
			r.settled()
		}
		if open(r) {
			t.Error("the endpoint pays for its clients")
		}
	})
}

// What is tried half open and comes to nothing through a client gives its
// place back; a tunnel that stands has gone well, though it lasts.
func TestBreakerTrials(t *testing.T) {
	r := newRig(t, patient(t))
	config := breaking()
	policy := config.Policies["users"]
	policy.Breaker.OpenFor, policy.Breaker.Trials = 100*time.Millisecond, 1
	r.configure(config)
	step := make(chan func(*origin, net.Conn, string) bool, 16)
	r.stage(place{"a", "az1", "v1", func(o *origin, nc net.Conn, head string) bool { return (<-step)(o, nc, head) }})
	for range 3 {
		step <- reset
		r.send(request{method: "POST"}).expect(t, 502, "upstream-failed")
	}
	eventually(t, "half open", func() bool { return r.breaker().State() == breaker.HalfOpen })
	step <- hang
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
	eventually(t, "it is upstream", func() bool { return r.endpoint("a").InFlight() == 1 })
	r.send(request{method: "GET"}).expect(t, 503, "no-baseline-usable") // the only trial is under way
	_ = c.Close()
	r.settled()
	for what, answer := range map[string]string{
		"a tunnel":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a stream":      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
		"a long answer": "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
	} {
		for r.breaker().State() == breaker.Closed {
			step <- reset
			r.send(request{method: "POST"}).expect(t, 502, "upstream-failed")
		}
		eventually(t, "half open", func() bool { return r.breaker().State() == breaker.HalfOpen })
		step <- func(_ *origin, nc net.Conn, _ string) bool {
			_, _ = io.WriteString(nc, answer)
			_, _ = io.Copy(io.Discard, nc)
			return false
		}
		c = r.dial()
		c.send("GET / HTTP/1.1\r\nHost: users.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(answer, line) {
			t.Fatalf("%q, %v", line, err)
		}
		if state := r.breaker().State(); state != breaker.Closed {
			t.Errorf("breaker is %s while %s stands", state, what)
		}
		_ = c.Close()
		r.settled()
	}
}

// What went wrong twice within one exchange is one failure.
func TestBreakerCountsOnce(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(breaking())
	r.stage(place{"a", "az1", "v1", func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.WriteString(nc, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nhalf")
		return false
	}})
	for n := range 3 {
		if state := r.breaker().State(); state != breaker.Closed {
			t.Errorf("breaker is %s after %d failures", state, n)
		}
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: users.test\r\n\r\n")
		_, _ = io.ReadAll(c.r)
		r.settled()
	}
	if state := r.breaker().State(); state != breaker.Open {
		t.Errorf("breaker is %s after three failures", state)
	}
}
