package gateway

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// What an origin may do instead of answering.

// reset reads the request and resets the connection.
func reset(_ *origin, nc net.Conn, _ string) bool {
	_ = nc.(*net.TCPConn).SetLinger(0)
	return false
}

// hang answers nothing until the other side goes.
func hang(_ *origin, nc net.Conn, _ string) bool {
	_, _ = io.Copy(io.Discard, nc)
	return false
}

const unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"

// place is one instance of a test: its id decides the order of firstByID.
type place struct {
	id, zone, version string
	script            func(*origin, net.Conn, string) bool // nil: refuses connections
}

// stage registers origins; refused ones are nil in what it returns.
func (r *rig) stage(places ...place) map[string]*origin {
	r.t.Helper()
	origins := make(map[string]*origin)
	var instances []*federation.Instance
	for _, p := range places {
		var address string
		if p.script == nil {
			address = refusingAddress(r.t)
		} else {
			origins[p.id] = newOrigin(r.t, p.script)
			address = origins[p.id].address
		}
		instances = append(instances, instance(p.id, p.zone, p.version, address))
	}
	r.register(instances...)
	return origins
}

// request is what a test sends.
type request struct {
	method, tag, body string
	stream            bool // the body never comes
}

func (r *rig) send(q request) answer {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	head := q.method + " /users/1 HTTP/1.1\r\nHost: users.test\r\nx-gray-explain: 1\r\n"
	if q.tag != "" {
		head += "x-release-tag: " + q.tag + "\r\n"
	}
	if q.body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(q.body))
	}
	c.send(head + "\r\n" + map[bool]string{false: q.body}[q.stream])
	return c.receive(q.method)
}

// inFlight is what all endpoints together work on.
func (g *Gateway) inFlight() (n int64) {
	for _, name := range g.snapshot.Load().Services() {
		for _, e := range g.snapshot.Load().Service(name).Endpoints {
			n += e.Runtime.InFlight()
		}
	}
	return n
}

func TestTryingAgain(t *testing.T) {
	get, post := request{method: "GET"}, request{method: "POST", body: "hello"}
	ok := answering("ok")
	head := "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
	canaryGet := request{method: "GET", tag: "v2-beta"}
	for _, test := range []struct {
		name     string
		places   []place
		request  request
		fallback federation.Fallback
		retries  int
		noBudget bool
		status   int
		body     string
		instance string         // that x-gray-decision names
		asked    map[string]int // requests that each origin received
	}{
		// An attempt that wrote no byte may be repeated for any method, outside
		// count and budget ...
		{name: "unwritten, POST", places: []place{{"a", "az1", "v1", nil}, {"b", "az2", "v1", ok}}, request: post,
			noBudget: true, status: 200, body: "ok", instance: "b", asked: map[string]int{"b": 1}},
		{name: "unwritten, GET", places: []place{{"a", "az1", "v1", nil}, {"b", "az2", "v1", ok}}, request: get,
			noBudget: true, status: 200, body: "ok", instance: "b", asked: map[string]int{"b": 1}},
		{name: "unwritten, streamed PATCH", places: []place{{"a", "az1", "v1", nil}, {"b", "az2", "v1", ok}},
			request: request{method: "PATCH", body: "hello", stream: true}, noBudget: true, status: 200, body: "ok", instance: "b", asked: map[string]int{"b": 1}},
		// ... but not one that wrote.
		{name: "written, POST", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: post,
			retries: 5, status: 502, body: "upstream-failed", instance: "a", asked: map[string]int{"a": 1, "b": 0}},

		// On at most 3 endpoints.
		{name: "third endpoint", places: []place{{"a", "az1", "v1", nil}, {"b", "az2", "v1", nil}, {"c", "az2", "v1", ok}}, request: post,
			noBudget: true, status: 200, body: "ok", instance: "c", asked: map[string]int{"c": 1}},
		{name: "no fourth endpoint", places: []place{{"a", "az1", "v1", nil}, {"b", "az2", "v1", nil}, {"c", "az2", "v1", nil}, {"d", "az1", "v1", ok}},
			request: get, retries: 5, status: 502, body: "connect-failed", instance: "c", asked: map[string]int{"d": 0}},

		// The second in another zone, where there is one.
		{name: "another zone", places: []place{{"a", "az1", "v1", nil}, {"b", "az1", "v1", ok}, {"c", "az2", "v1", ok}}, request: post,
			noBudget: true, status: 200, body: "ok", instance: "c", asked: map[string]int{"b": 0, "c": 1}},
		{name: "no other zone", places: []place{{"a", "az1", "v1", nil}, {"b", "az1", "v1", ok}}, request: post,
			noBudget: true, status: 200, body: "ok", instance: "b", asked: map[string]int{"b": 1}},

		// Other retries: only replayable requests.
		{name: "written, GET", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: get,
			retries: 1, status: 200, body: "ok", instance: "b", asked: map[string]int{"a": 1, "b": 1}},
		{name: "written, PUT at hand", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: request{method: "PUT", body: "hello"},
			retries: 1, status: 200, body: "ok", instance: "b", asked: map[string]int{"a": 1, "b": 1}},
		{name: "written, DELETE", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: request{method: "DELETE"},
			retries: 1, status: 200, body: "ok", instance: "b", asked: map[string]int{"a": 1, "b": 1}},
		{name: "written, PUT streamed", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: request{method: "PUT", body: "hello", stream: true},
			retries: 1, status: 502, body: "upstream-failed", instance: "a", asked: map[string]int{"a": 1, "b": 0}},
		{name: "written, PATCH", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: request{method: "PATCH", body: "hello"},
			retries: 1, status: 502, body: "upstream-failed", instance: "a", asked: map[string]int{"a": 1, "b": 0}},

		// As many as the route says ...
		{name: "none", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: get,
			retries: 0, status: 502, body: "upstream-failed", instance: "a", asked: map[string]int{"a": 1, "b": 0}},
		{name: "one of two", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", reset}, {"c", "az2", "v1", ok}}, request: get,
			retries: 1, status: 502, body: "upstream-failed", instance: "b", asked: map[string]int{"a": 1, "b": 1, "c": 0}},
		{name: "two", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", reset}, {"c", "az2", "v1", ok}}, request: get,
			retries: 2, status: 200, body: "ok", instance: "c", asked: map[string]int{"a": 1, "b": 1, "c": 1}},
		// ... under the budget.
		{name: "no budget", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", ok}}, request: get,
			retries: 1, noBudget: true, status: 502, body: "upstream-failed", instance: "a", asked: map[string]int{"a": 1, "b": 0}},

		// A count is not lost to attempts that wrote nothing.
		{name: "both kinds", places: []place{{"a", "az1", "v1", reset}, {"b", "az2", "v1", nil}, {"c", "az2", "v1", ok}}, request: get,
			retries: 1, status: 200, body: "ok", instance: "c", asked: map[string]int{"a": 1, "c": 1}},

		// Gateway errors that an endpoint answers.
		{name: "503, GET", places: []place{{"a", "az1", "v1", respondWith(unavailable)}, {"b", "az2", "v1", ok}}, request: get,
			retries: 1, status: 200, body: "ok", instance: "b", asked: map[string]int{"a": 1, "b": 1}},
		{name: "503, POST", places: []place{{"a", "az1", "v1", respondWith(unavailable)}, {"b", "az2", "v1", ok}}, request: post,
			retries: 1, status: 503, body: "busy", instance: "a", asked: map[string]int{"b": 0}},
		{name: "500, GET", places: []place{{"a", "az1", "v1", respondWith("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")}, {"b", "az2", "v1", ok}}, request: get,
			retries: 1, status: 500, body: "oops", instance: "a", asked: map[string]int{"a": 1, "b": 0}},
		{name: "503 everywhere", places: []place{{"a", "az1", "v1", respondWith(unavailable)}, {"b", "az2", "v1", respondWith(unavailable)}}, request: get,
			retries: 3, status: 503, body: "busy", instance: "b", asked: map[string]int{"a": 1, "b": 1}},
		{name: "503, no budget", places: []place{{"a", "az1", "v1", respondWith(unavailable)}, {"b", "az2", "v1", ok}}, request: get,
			retries: 1, noBudget: true, status: 503, body: "busy", instance: "a", asked: map[string]int{"a": 1, "b": 0}},

		// Never once a response head was passed on.
		{name: "broken body", places: []place{{"a", "az1", "v1", func(_ *origin, nc net.Conn, _ string) bool {
			_, _ = io.WriteString(nc, head)
			return false
		}}, {"b", "az2", "v1", ok}}, request: get, retries: 5, status: 200, body: "", instance: "a", asked: map[string]int{"a": 1, "b": 0}},

		// Retries stay within the lane's rules.
		{name: "strict, refused", places: []place{{"a", "az1", "v2", nil}, {"b", "az1", "v1", ok}}, request: canaryGet, fallback: federation.Strict,
			retries: 5, status: 502, body: "connect-failed", instance: "a", asked: map[string]int{"b": 0}},
		{name: "permissive, refused", places: []place{{"a", "az1", "v2", nil}, {"b", "az1", "v1", ok}}, request: canaryGet, fallback: federation.Permissive,
			retries: 1, status: 200, body: "ok", instance: "b", asked: map[string]int{"b": 1}},
		{name: "permissive, canaries elsewhere first", places: []place{{"a", "az1", "v2", nil}, {"b", "az1", "v1", ok}, {"c", "az2", "v2", ok}}, request: canaryGet, fallback: federation.Permissive,
			retries: 1, status: 200, body: "ok", instance: "c", asked: map[string]int{"b": 0, "c": 1}},
		{name: "permissive, canary answers 503", places: []place{{"a", "az1", "v2", respondWith(unavailable)}, {"b", "az1", "v1", ok}}, request: canaryGet, fallback: federation.Permissive,
			retries: 5, status: 503, body: "busy", instance: "a", asked: map[string]int{"b": 0}},
		{name: "untagged never meets a canary", places: []place{{"a", "az1", "v1", nil}, {"b", "az1", "v2", ok}}, request: get, fallback: federation.Permissive,
			retries: 5, status: 502, body: "connect-failed", instance: "a", asked: map[string]int{"b": 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, patient(t))
			config := usersConfig(test.fallback)
			config.Routes[0].Retries = test.retries
			r.configure(config)
			origins := r.stage(test.places...)
			if test.noBudget {
				for r.gateway.routing.Load().services["users"].budget.take() {
				}
			}
			if test.body == "" { // the answer breaks off
				c := r.dial()
				c.send("GET / HTTP/1.1\r\nHost: users.test\r\nx-gray-explain: 1\r\n\r\n")
				got, _ := io.ReadAll(c)
				if !strings.Contains(string(got), "instance=a") || !strings.HasSuffix(string(got), "half") {
					t.Errorf("got %q", got)
				}
			} else {
				a := r.send(test.request)
				a.expect(t, test.status, test.body)
				if got := a.Header.Get("x-gray-decision"); !strings.HasSuffix(got, "instance="+test.instance) {
					t.Errorf("decision %q, want instance %s", got, test.instance)
				}
			}
			r.settled()
			for id, want := range test.asked {
				if got := int(origins[id].heads.Load()); got != want {
					t.Errorf("%s received %d requests, want %d", id, got, want)
				}
			}
		})
	}
}

func TestReplayedBodyIsTheSame(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(usersConfig(federation.Strict))
	got := make(chan string, 1)
	r.stage(place{"a", "az1", "v1", reset}, place{"b", "az2", "v1", func(_ *origin, nc net.Conn, head string) bool {
		got <- field(head, "Content-Length")
		_, err := io.WriteString(nc, "HTTP/1.1 204 No Content\r\n\r\n")
		return err == nil
	}})
	r.send(request{method: "PUT", body: strings.Repeat("x", 5000)}).expect(t, 204, "")
	if length := <-got; length != "5000" {
		t.Errorf("replayed with length %q", length)
	}
}

// A connection that had been used before and ends without an answer was closed
// for being idle: the request is tried again, on the same endpoint if there is
// no other, and the endpoint's health does not suffer.
func TestIdleConnectionThatDies(t *testing.T) {
	dies := func(o *origin, nc net.Conn, _ string) bool {
		if o.heads.Load()%2 == 0 {
			_ = nc.(*net.TCPConn).SetLinger(0)
			return false
		}
		_, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return err == nil
	}
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Strict))
	origins := r.stage(place{"a", "az1", "v1", dies})
	for range 8 {
		r.send(request{method: "GET"}).expect(t, 200, "ok")
		r.settled()
		for range budgetTicks + 1 { // what is tried here is not the budget
			r.gateway.Refresh(time.Now())
		}
	}
	if r.endpoint("a").tracker.Ejected() {
		t.Error("ejected")
	}
	// The twin: what is not idempotent may have been done.
	for origins["a"].heads.Load()%2 == 0 {
		r.send(request{method: "GET"}).expect(t, 200, "ok")
	}
	r.settled()
	r.send(request{method: "POST", body: "hello"}).expect(t, 502, "upstream-failed")
}

func TestManyIdleConnectionsDie(t *testing.T) {
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Strict))
	const conns = 6 // more than eject
	waits, open := gate("ok")
	seen := make(map[net.Conn]bool)
	var mu sync.Mutex
	r.stage(place{"a", "az1", "v1", func(o *origin, nc net.Conn, head string) bool {
		mu.Lock()
		again := seen[nc]
		seen[nc] = true
		mu.Unlock()
		if again {
			return reset(o, nc, head)
		}
		return waits(o, nc, head)
	}})
	got := make(chan answer, conns)
	for range conns {
		go func() { got <- r.send(request{method: "POST"}) }()
	}
	eventually(t, "all wait at once", func() bool { return r.endpoint("a").InFlight() == conns })
	close(open)
	for range conns {
		(<-got).expect(t, 200, "ok")
	}
	r.settled()
	for range conns {
		r.send(request{method: "POST"}).expect(t, 502, "upstream-failed")
		r.settled()
	}
	if r.endpoint("a").tracker.Ejected() {
		t.Error("ejected for connections that it closed for being idle")
	}
}

func TestDeadlineCoversAllAttempts(t *testing.T) {
	r := newRig(t, patient(t))
	origins := r.stage(place{"a", "az1", "v1", hang}, place{"b", "az2", "v1", answering("ok")})
	// A timeout of one attempt leaves time for another.
	config := usersConfig(federation.Strict)
	config.Routes[0].Timeouts.Head = 100 * time.Millisecond
	r.configure(config)
	r.send(request{method: "GET"}).expect(t, 200, "ok")
	r.send(request{method: "POST", body: "hello"}).expect(t, 504, "upstream-timeout")
	// The end of the whole does not, though a connection stands ready.
	config = usersConfig(federation.Strict)
	config.Routes[0].Total, config.Routes[0].Retries = 150*time.Millisecond, 5
	r.configure(config)
	r.send(request{method: "GET"}).expect(t, 504, "upstream-timeout")
	if n := origins["b"].heads.Load(); n != 1 {
		t.Errorf("%d attempts after the deadline", n-1)
	}
}
