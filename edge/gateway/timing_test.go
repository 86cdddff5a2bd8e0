package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// stream answers with the head at once, and with the rest once it is let go on.
func stream(contentType string) (func(*origin, net.Conn, string) bool, chan struct{}) {
	open := make(chan struct{})
	return func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Type: "+contentType+"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
		select {
		case <-open:
		case <-time.After(20 * time.Second): // the test has failed
			return false
		}
		_, err := io.WriteString(nc, "4\r\nlast\r\n0\r\n\r\n")
		return err == nil
	}, open
}

// total bounds what is no stream to its last byte, and a stream to its head.
func TestStreamsOutlastTotal(t *testing.T) {
	const total = 150 * time.Millisecond
	for contentType, lasts := range map[string]bool{
		"text/event-stream":                true,
		"Text/Event-Stream; charset=utf-8": true,
		"text/event-streams":               false,
		"application/grpc":                 true,
		"application/grpc+proto":           true,
		"application/grpc-web":             false,
		"text/plain":                       false,
	} {
		t.Run(contentType, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient(t))
			config := usersConfig(federation.Strict)
			config.Routes[0].Total = total
			r.configure(config)
			script, open := stream(contentType)
			r.stage(place{"a", "az1", "v1", script})
			c := r.dial()
			begin := time.Now()
			c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
			response, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			first := make([]byte, 5)
			if _, err := io.ReadFull(response.Body, first); err != nil {
				t.Fatal(err)
			}
			if lasts {
				// Longer than the bound with what it is looked after by.
				time.Sleep(time.Until(begin.Add(2*total + 500*time.Millisecond)))
				close(open)
			}
			rest, err := io.ReadAll(response.Body)
			if ended := err == nil && string(rest) == "last"; ended != lasts {
				t.Errorf("got %q, %v", rest, err)
			}
			if !lasts {
				close(open)
			}
		})
	}
}

func TestPerTry(t *testing.T) {
	r := newRig(t, patient(t))
	config := usersConfig(federation.Strict)
	config.Routes[0].PerTry = 100 * time.Millisecond
	r.configure(config)
	slow, open := stream("text/plain")
	origins := r.stage(place{"a", "az1", "v1", hang}, place{"b", "az2", "v1", slow})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
	response, err := http.ReadResponse(c.r, nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	defer response.Body.Close()
	// It is over with the head: what is left of the answer may take longer.
	time.Sleep(600 * time.Millisecond)
	close(open)
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "firstlast" {
		t.Errorf("%q, %v", body, err)
	}
	if a, b := origins["a"].heads.Load(), origins["b"].heads.Load(); a != 1 || b != 1 {
		t.Errorf("asked %d and %d times", a, b)
	}
	// The twin: a request that is not idempotent is not sent again.
	r.send(request{method: "POST", body: "hello"}).expect(t, 504, "upstream-timeout")
}

func TestRetryOn(t *testing.T) {
	for _, test := range []struct {
		name   string
		script func(*origin, net.Conn, string) bool
		on     RetryOn
		status int
	}{
		{"reset, all", reset, 0, 200},
		{"reset, wanted", reset, RetryReset, 200},
		{"reset, not wanted", reset, RetryTimeout | RetryGatewayError | RetryUnavailable, 502},
		{"503, wanted", respondWith(unavailable), RetryGatewayError, 200},
		{"503, not wanted", respondWith(unavailable), RetryReset | RetryTimeout | RetryUnavailable, 503},
		{"timeout, wanted", hang, RetryTimeout, 200},
		{"timeout, not wanted", hang, RetryReset | RetryGatewayError | RetryUnavailable, 504},
		// What wrote nothing is always tried again.
		{"refused", nil, RetryTimeout, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, patient(t))
			config := usersConfig(federation.Strict)
			config.Routes[0].RetryOn = test.on
			config.Routes[0].PerTry = 100 * time.Millisecond
			r.configure(config)
			r.stage(place{"a", "az1", "v1", test.script}, place{"b", "az2", "v1", answering("ok")})
			if a := r.send(request{method: "GET"}); a.StatusCode != test.status {
				t.Errorf("status %d, want %d", a.StatusCode, test.status)
			}
		})
	}
}

// An endpoint that fails everything gets at most 1.2 times the requests.
func TestBudgetBoundsWhatAFailingServiceGets(t *testing.T) {
	const requests = 200
	for name, script := range map[string]func(*origin, net.Conn, string) bool{
		"answers 503": respondWith(unavailable), "resets": reset,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, patient(t))
			config := usersConfig(federation.Strict)
			config.Routes[0].Retries = MaxRetries
			r.configure(config)
			origins := r.stage(place{"a", "az1", "v1", script}, place{"b", "az1", "v1", script}, place{"c", "az2", "v1", script})
			for range requests {
				if a := r.send(request{method: "GET"}); a.StatusCode < 500 {
					t.Fatalf("status %d", a.StatusCode)
				}
			}
			r.settled()
			seen := int64(0)
			for _, o := range origins {
				seen += o.heads.Load()
			}
			if seen < requests+requests/10 || seen > requests*12/10+budgetFloor {
				t.Errorf("%d requests were %d at the endpoints", requests, seen)
			}
		})
	}
}

func TestTimeoutsAreChecked(t *testing.T) {
	g := newRig(t, nil).gateway
	for _, change := range []func(*Config){
		func(c *Config) { c.Routes[0].PerTry = -1 },
		func(c *Config) { c.Routes[0].Timeouts.TLS = -1 },
		func(c *Config) { c.Routes[0].Retries = MaxRetries + 1 },
		func(c *Config) { c.Routes[0].Hash = []HashKey{{Source: HashHeader}} },
		func(c *Config) { c.Policies = map[string]Policy{"users": {Balance: ConsistentHash + 1}} },
		func(c *Config) { c.Policies = map[string]Policy{"users": {LoadBound: 1}} },
		func(c *Config) { c.Policies = map[string]Policy{"users": {MaxServiceRequests: -1}} },
		func(c *Config) { c.Policies = map[string]Policy{"users": {Hash: []HashKey{{Name: "x"}}}} },
	} {
		config := usersConfig(federation.Strict)
		change(&config)
		if err := g.SetConfig(config); err == nil || !strings.Contains(err.Error(), "users") {
			t.Errorf("%+v: %v", config, err)
		}
	}
}
