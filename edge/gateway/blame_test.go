package gateway

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestClientGone(t *testing.T) {
	r := newRig(t, func(o *Options) { firstByID(o) })
	config := usersConfig(federation.Strict)
	config.Routes[0].Retries = 5
	r.configure(config)
	released := make(chan struct{}, 16)
	origins := r.stage(place{"a", "az1", "v1", func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.Copy(io.Discard, nc) // until the gateway hangs up
		released <- struct{}{}
		return false
	}}, place{"b", "az2", "v1", answering("ok")})
	for range 6 { // more than eject
		c := r.dial()
		c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
		eventually(t, "the request is upstream", func() bool { return r.endpoint("a").InFlight() == 1 })
		_ = c.Close()
		<-released
		r.settled()
	}
	if n := origins["b"].heads.Load(); n != 0 {
		t.Errorf("%d retries for a client that went", n)
	}
	if r.endpoint("a").tracker.Ejected() {
		t.Error("the endpoint pays for its clients")
	}
	eventually(t, "six lines", func() bool { return strings.Count(r.log.String(), `"status":499`) == 6 })
	if log := r.log.String(); !strings.Contains(log, `"fault":"client"`) || strings.Contains(log, `"status":5`) {
		t.Errorf("access log: %s", log)
	}
}

// What the client does wrong is 4xx, whatever the endpoint makes of it, and
// never the endpoint's fault.
func TestClientFaults(t *testing.T) {
	r := newRig(t, firstByID)
	config := usersConfig(federation.Strict)
	config.Routes[0].Total = 150 * time.Millisecond
	r.configure(config)
	r.stage(place{"a", "az1", "v1", hang})
	const head = "POST / HTTP/1.1\r\nHost: users.test\r\n"
	for range 6 { // more than eject
		c := r.dial()
		c.send(head + "Content-Length: 10\r\n\r\nhalf")
		c.receive("POST").expect(t, 408, "body-timeout")
		_ = c.Close()
		c = r.dial()
		c.send(head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
		eventually(t, "the head went through", func() bool { return r.gateway.inFlight() > 0 })
		c.send("zz\r\n")
		c.receive("POST").expect(t, 400, "malformed-body")
		_ = c.Close()
		r.settled()
	}
	if r.endpoint("a").tracker.Ejected() {
		t.Error("the endpoint pays for its clients")
	}
	// The twin: a client that sent everything is not to blame for a timeout.
	for range 5 {
		r.send(request{method: "POST", body: "hello"}).expect(t, 504, "upstream-timeout")
		r.settled()
	}
	if !r.endpoint("a").tracker.Ejected() {
		t.Error("an endpoint that never answers is not ejected")
	}
}

// Which outcomes speak against an endpoint, and which for it.
func TestBlame(t *testing.T) {
	half := func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		return false
	}
	endless := func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		for {
			if _, err := nc.Write(make([]byte, 1<<16)); err != nil {
				return false
			}
		}
	}
	for _, test := range []struct {
		name    string
		script  func(*origin, net.Conn, string) bool
		ejected bool
	}{
		{"answers 502", respondWith("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), true},
		{"answers 503", respondWith(unavailable), true},
		{"answers 504", respondWith("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), true},
		{"answers 500", respondWith("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), false},
		{"answers 404", respondWith("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), false},
		{"breaks off before the head", reset, true},
		{"breaks off within the body", half, true},
		{"answers rubbish", respondWith("SSH-2.0-OpenSSH_9.6\r\n\r\n"), true},
		{"client leaves within the body", endless, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, firstByID)
			r.configure(usersConfig(federation.Strict))
			r.stage(place{"a", "az1", "v1", test.script})
			for range 5 {
				c := r.dial()
				c.send("POST / HTTP/1.1\r\nHost: users.test\r\nConnection: close\r\n\r\n")
				if _, err := c.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if test.name == "client leaves within the body" {
					_ = c.Close()
				} else if _, err := io.ReadAll(c.r); err != nil && test.name != "breaks off within the body" {
					t.Fatal(err)
				}
				r.settled()
			}
			if got := r.endpoint("a").tracker.Ejected(); got != test.ejected {
				t.Errorf("ejected %v", got)
			}
		})
	}

	t.Run("an answer ends a row of failures", func(t *testing.T) {
		r := newRig(t, firstByID)
		r.configure(usersConfig(federation.Strict))
		r.stage(place{"a", "az1", "v1", answering("ok")})
		tracker := r.endpoint("a").tracker
		for range 2 {
			now := time.Now().UnixNano()
			tracker.ConnectFailure(now)
			tracker.ConnectFailure(now)
			r.send(request{method: "GET"}).expect(t, 200, "ok")
			r.settled()
		}
		if tracker.Ejected() {
			t.Error("ejected")
		}
	})
}

// A client that takes an answer so slowly that the time for it is over brings
// nothing upon the endpoint, however long that pauses then.
func TestSlowDownload(t *testing.T) {
	const total, piece = 100 * time.Millisecond, 32 << 20
	for name, slow := range map[string]bool{"client": true, "endpoint": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, firstByID)
			config := usersConfig(federation.Strict)
			config.Routes[0].Total = total
			r.configure(config)
			r.stage(place{"a", "az1", "v1", func(_ *origin, nc net.Conn, _ string) bool {
				_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*piece)
				if slow { // more than all buffers on the way hold
					_, _ = nc.Write(make([]byte, piece))
				}
				return hang(nil, nc, "")
			}})
			for range 5 {
				c := r.dial()
				began := time.Now()
				c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
				if _, err := c.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if slow {
					eventually(t, "the time is over", func() bool { return time.Since(began) > 2*total })
				}
				_, _ = io.Copy(io.Discard, c.r)
				r.settled()
			}
			if got := r.endpoint("a").tracker.Ejected(); got == slow {
				t.Errorf("ejected %v", got)
			}
		})
	}
}
