package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// spoken answers one head with response and closes the connection, by a reset
// if abrupt.
func spoken(response string, abrupt bool) func(o *origin, nc net.Conn) {
	return func(o *origin, nc net.Conn) {
		if o.readUntil(nc, "\r\n\r\n") == "" {
			return
		}
		_, _ = io.WriteString(nc, response)
		if abrupt {
			o.readUntil(nc, "never") // until the test has seen what there is
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
	}
}

// TestMalformedResponses: what an endpoint says wrongly is its fault, the
// client hears 502 and nothing of it, and the connection is not used again.
func TestMalformedResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, response := range map[string]string{
		"nothing":                   "",
		"garbage":                   "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
		"no version":                "200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/2.0":                  "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/0.9":                  "<html>hello, this is a page</html>",
		"status of two digits":      "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
		"status of four digits":     "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
		"status 099":                "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
		"status 600":                "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
		"bare LF":                   "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
		"bare LF after a field":     ok + "Content-Length: 2\n\r\nok",
		"bare CR in the phrase":     "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
		"NUL in a value":            ok + "A: b\x00\r\nContent-Length: 2\r\n\r\nok",
		"CR in a value":             ok + "A: b\rX: 1\r\nContent-Length: 2\r\n\r\nok",
		"obs-fold":                  ok + "A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
		"space before the colon":    ok + "Content-Length : 2\r\n\r\nok",
		"no colon":                  ok + "Content-Length\r\n\r\n",
		"two lengths":               ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"two equal lengths":         ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"length list":               ok + "Content-Length: 2, 2\r\n\r\nok",
		"negative length":           ok + "Content-Length: -2\r\n\r\nok",
		"length with a sign":        ok + "Content-Length: +2\r\n\r\nok",
		"length of 2^63":            ok + "Content-Length: 9223372036854775808\r\n\r\nok",
		"length and encoding":       ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"unknown encoding":          ok + "Transfer-Encoding: gzip\r\n\r\n",
		"encoding list":             ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"chunked twice":             ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunked in HTTP/1.0":       "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bad first chunk":           ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
		"chunk of 2^64":             ok + "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n",
		"large head":                ok + "A: " + strings.Repeat("b", 20<<10) + "\r\nContent-Length: 2\r\n\r\nok",
		"many fields":               ok + strings.Repeat("A: b\r\n", 200) + "\r\n",
		"switch nobody asked for":   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"interim responses only":    strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", maxInterim+1) + plainOK,
		"end within the status":     "HTTP/1.1 2",
		"end within the head":       ok + "Content-Length: 2\r\n",
		"end after interim":         "HTTP/1.1 100 Continue\r\n\r\n",
		"Connection with a control": ok + "Connection: a b\r\nContent-Length: 2\r\n\r\nok",
	} {
		var failed chan error
		var ended chan outcome
		origin := newOrigin(t, spoken(response, false))
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
			failed, ended = failures(p), outcomes(p)
		})
		c := rig.dial()
		c.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n") // no interim responses
		got := c.receive(http.MethodGet)
		if got.status != 502 || got.body != "" || len(got.header) > 2 {
			t.Errorf("%s: client got %+v", name, got)
		}
		if err := (<-ended).err; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e := exchange.AsError(<-failed); e.Fault != exchange.FaultUpstream || e.Phase < exchange.PhaseAwait || !e.Wrote || e.Timeout {
			t.Errorf("%s: %+v", name, e)
		}
		if stats := transport.Stats(); stats.Open != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// TestBrokenOffResponses: a response that the endpoint does not finish reaches
// no client as a complete one.
func TestBrokenOffResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	const chunks = ok + "Transfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", 50_000)
	for _, test := range []struct {
		name, response string
		abrupt         bool
	}{
		{"short of its length", ok + "Content-Length: 5\r\n\r\nhel", false},
		{"far short of its length", ok + "Content-Length: 100000\r\n\r\n" + long, false},
		{"none of its length", ok + "Content-Length: 5\r\n\r\n", false},
		{"within a chunk", chunks + "5\r\nhel", false},
		{"within a long chunk", chunks + "fffff\r\n" + long, false},
		{"after a chunk", chunks + "5\r\nhello\r\n", false},
		{"before a chunk's end", chunks + "5\r\nhello", false},
		{"within a size", chunks + "5\r\nhello\r\n1", false},
		{"after the last size", chunks + "5\r\nhello\r\n0\r\n", false},
		{"within the trailers", chunks + "5\r\nhello\r\n0\r\nA: b\r\n", false},
		{"with a bad later chunk", chunks + "c350\r\n" + long + "\r\nzz\r\n", false},
		{"with bad trailers", chunks + "c350\r\n" + long + "\r\n0\r\nA : b\r\n\r\n", false},
		{"by a reset", ok + "\r\nhello", true},
		{"by a reset, of its length", ok + "Content-Length: 10\r\n\r\nhello", true},
	} {
		for _, version := range []string{"1.1", "1.0"} {
			var ended chan outcome
			origin := newOrigin(t, spoken(test.response, test.abrupt))
			rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { ended = outcomes(p) })
			c := rig.dial()
			c.send("GET / HTTP/" + version + "\r\nHost: a.test\r\n\r\n")
			if test.abrupt {
				if _, err := c.r.Peek(1); err != nil { // the response has begun
					t.Fatal(err)
				}
				origin.closeAll(true)
			}
			if response, err := c.tryReceive(http.MethodGet); err == nil {
				t.Errorf("%s to HTTP/%s: the client takes %d %.50q for complete", test.name, version, response.status, response.body)
			}
			failure := exchange.AsError((<-ended).err)
			if failure == nil || failure.Fault != exchange.FaultUpstream || failure.Phase != exchange.PhaseReceive {
				t.Errorf("%s to HTTP/%s: %+v", test.name, version, failure)
			}
			if stats := transport.Stats(); stats.Open != 0 {
				t.Errorf("%s: %+v", test.name, stats)
			}
		}
	}
}

// TestSurplusBytes: what follows a response is no response to another request.
func TestSurplusBytes(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, test := range map[string]struct{ method, response string }{
		"behind a length":     {"GET", plainOK + evil},
		"behind chunks":       {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil},
		"behind a 204":        {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 41\r\n\r\n" + evil},
		"behind a 304":        {"GET", "HTTP/1.1 304 Not Modified\r\n\r\n" + evil},
		"behind a HEAD's":     {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n" + evil},
		"a 204 with chunks":   {"GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"a 204 with a length": {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 41\r\n\r\n"},
	} {
		origin := newOrigin(t, answering(test.response))
		rig, _ := newProxyRig(t, origin.address, nil)
		c := rig.dial()
		for range 3 {
			c.send(test.method + " / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if response := c.receive(test.method); response.body == "evil" || response.status == 502 {
				t.Errorf("%s: %+v", name, response)
			}
		}
		if n := origin.conns.Load(); n != 3 {
			t.Errorf("%s: %d connections for 3 requests", name, n)
		}
	}
}

func TestInterimResponses(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: close\r\n\r\n"
	origin := newOrigin(t, answering("HTTP/1.1 100 Continue\r\n\r\n"+hints+"HTTP/1.1 102 Processing\r\n\r\n"+plainOK))
	rig, _ := newProxyRig(t, origin.address, nil)
	c := rig.dial()
	for range 2 {
		c.send(get + "\r\n")
		for _, want := range []string{"103 Early Hints", "102 Processing", "200 OK"} {
			response, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.Status != want || (want[0] == '2') != (string(body) == "ok") {
				t.Fatalf("%s %q, %v; want %s", response.Status, body, err, want)
			}
			if (response.Header.Get("Link") == "</a.css>") != (response.StatusCode == http.StatusEarlyHints) || response.Header.Get("Connection") != "" || response.Close {
				t.Errorf("%s: %v", response.Status, response.Header)
			}
		}
	}
	if origin.conns.Load() != 1 {
		t.Errorf("%d connections", origin.conns.Load())
	}
	c = rig.dial()
	c.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
	if response := c.receive(http.MethodGet); response.status != 200 || response.body != "ok" {
		t.Errorf("HTTP/1.0: %+v", response)
	}
}

// TestEarlyResponse: the endpoint answers and reads no further while the
// client still sends; the client hears it, and both connections end.
func TestEarlyResponse(t *testing.T) {
	for name, response := range map[string]string{
		"with a body":    "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
		"with chunks":    "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
		"without a body": "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
	} {
		for _, framed := range []string{
			"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n",
			chunked("3b9aca00\r\n"),
		} {
			for _, reads := range []bool{true, false} {
				origin := newOrigin(t, func(o *origin, nc net.Conn) {
					o.readUntil(nc, "\r\n\r\n")
					_, _ = io.WriteString(nc, response)
					if reads {
						_, _ = io.Copy(io.Discard, nc)
						return
					}
					o.readUntil(nc, "never, because nothing so long comes")
				})
				var ended chan outcome
				rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { ended = outcomes(p) })
				c := rig.dial()
				c.send(framed)
				sent := make(chan int, 1)
				go func() {
					total := 0
					for piece := make([]byte, 32<<10); ; {
						n, err := c.Write(piece)
						if total += n; err != nil {
							sent <- total
							return
						}
					}
				}()
				got := c.receive(http.MethodPost)
				if got.status != 413 || !got.closes || (got.body == "no") == (name == "without a body") {
					t.Errorf("%s: %+v", name, got)
				}
				if o := <-ended; o.err != nil || o.status != 413 {
					t.Errorf("%s: %+v", name, o)
				}
				_ = c.Close()
				if n := <-sent; n >= 1_000_000_000 {
					t.Errorf("%s: all was sent", name)
				}
				if stats := transport.Stats(); stats.Open != 0 {
					t.Errorf("%s: %+v", name, stats)
				}
			}
		}
	}
}

func TestPoolIsBounded(t *testing.T) {
	origin := newOrigin(t, answering(plainOK))
	hold := make(chan struct{})
	var failed chan error
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, o *TransportOptions, p *proxy) {
		o.MaxConns, o.MaxIdle = 3, 2
		failed = failures(p)
		p.served = func(x *exchange.Exchange) {
			if x.Request.Path == "/held" {
				<-hold // its connection is in use as long as nobody pulls the body
			}
		}
	})
	var held []*client
	for i := range 3 {
		c := rig.dial()
		c.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
		eventually(t, "it is under way", func() bool { return origin.conns.Load() == int64(i+1) })
		held = append(held, c)
	}
	c := rig.dial()
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.status != 502 {
		t.Errorf("beyond the limit: %+v", response)
	}
	if e := exchange.AsError(<-failed); !errors.Is(e, exchange.ErrPoolExhausted) || e.Fault != exchange.FaultGateway || e.Wrote {
		t.Errorf("beyond the limit: %v", e)
	}
	close(hold)
	for _, c := range held {
		if response := c.receive(http.MethodGet); response.body != "ok" {
			t.Errorf("%+v", response)
		}
	}
	eventually(t, "one connection too many is closed", func() bool { return transport.Stats() == TransportStats{Open: 2, Idle: 2} })
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.body != "ok" || origin.conns.Load() != 3 {
		t.Errorf("%+v over connection %d", response, origin.conns.Load())
	}
	if err := transport.Close(); err != nil {
		t.Fatal(err)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("closed: %+v", stats)
	}
	c.send(get + "\r\n")
	c.receive(http.MethodGet)
	if err := <-failed; !errors.Is(err, exchange.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	origin := newOrigin(t, answering(plainOK))
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, o *TransportOptions, _ *proxy) { o.IdleTimeout = 200 * time.Millisecond })
	c := rig.dial()
	c.send(get + "\r\n")
	c.receive(http.MethodGet)
	eventually(t, "the connection is closed", func() bool { return transport.Stats().Open == 0 })
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.body != "ok" {
		t.Errorf("%+v", response)
	}
}

// TestDeadConnectionsAreNotUsed: an endpoint that has closed its unused
// connections, or speaks on them unasked, costs no request, of any method.
func TestDeadConnectionsAreNotUsed(t *testing.T) {
	for name, end := range map[string]func(nc net.Conn){
		"closed": func(nc net.Conn) { _ = nc.Close() },
		"reset":  func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); _ = nc.Close() },
		"speaks": func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n") },
	} {
		const conns = 3
		endNow, over := make(chan struct{}), make(chan struct{}, conns)
		first := conns
		origin := newOrigin(t, func(o *origin, nc net.Conn) {
			old := o.conns.Load() <= int64(first)
			for o.readUntil(nc, "\r\n\r\n") != "" {
				if _, err := io.WriteString(nc, plainOK); err != nil {
					return
				}
				if old {
					<-endNow
					end(nc)
					over <- struct{}{}
					o.readUntil(nc, "never")
					return
				}
			}
		})
		var failed chan error
		hold := make(chan struct{})
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
			failed = failures(p)
			p.served = func(*exchange.Exchange) { <-hold }
		})
		var clients []*client
		for i := range conns {
			c := rig.dial()
			c.send(get + "\r\n")
			eventually(t, "it is under way", func() bool { return origin.conns.Load() == int64(i+1) })
			clients = append(clients, c)
		}
		close(hold)
		for _, c := range clients {
			c.receive(http.MethodGet)
		}
		eventually(t, "all are unused", func() bool { return transport.Stats().Idle == conns })
		close(endNow)
		for range conns {
			<-over
		}
		clients[0].send("POST / HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\r\n")
		if response := clients[0].receive(http.MethodPost); response.status != 200 || response.body != "ok" || len(failed) > 0 {
			t.Errorf("%s: %+v, %d attempts failed", name, response, len(failed))
		}
		if stats := transport.Stats(); stats.Open != 1 || origin.conns.Load() != conns+1 {
			t.Errorf("%s: %+v after %d connections", name, stats, origin.conns.Load())
		}
		if strings.Count(origin.all(), "POST") != 1 {
			t.Errorf("%s: %q", name, origin.all())
		}
	}
}

// TestReusedConnectionThatEndsUnderARequest is the race that cannot be seen
// beforehand: the caller is told all that it needs to decide on another try.
func TestReusedConnectionThatEndsUnderARequest(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		o.readUntil(nc, "\r\n\r\n")
		_, _ = io.WriteString(nc, plainOK)
		o.readUntil(nc, "\r\n\r\n")
	})
	var failed chan error
	rig, _ := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { failed = failures(p) })
	c := rig.dial()
	for range 2 {
		c.send(get + "\r\n")
		c.receive(http.MethodGet)
	}
	if e := exchange.AsError(<-failed); !e.Reused || !e.Wrote || e.Phase != exchange.PhaseAwait || e.Fault != exchange.FaultUpstream {
		t.Errorf("%+v", e)
	}
}

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	short := func(errno syscall.Errno) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("socket: %w", errno)}
		}
	}
	for name, test := range map[string]struct {
		dial    func(context.Context, string, string) (net.Conn, error)
		cancel  error
		fault   exchange.Fault
		timeout bool
	}{
		"refused":           {nil, nil, exchange.FaultUpstream, false},
		"no answer":         {hang, nil, exchange.FaultUpstream, true},
		"cancelled":         {hang, exchange.ErrZoneLost, exchange.FaultGateway, false},
		"client gone":       {hang, exchange.ErrClientGone, exchange.FaultClient, false},
		"no descriptors":    {short(syscall.EMFILE), nil, exchange.FaultGateway, false},
		"no local port":     {short(syscall.EADDRNOTAVAIL), nil, exchange.FaultGateway, false},
		"no route to there": {short(syscall.EHOSTUNREACH), nil, exchange.FaultUpstream, false},
	} {
		transport := newTestTransport(t, newTestEngine(t), refusing, func(o *TransportOptions) {
			o.Dial = test.dial
			o.ConnectTimeout = 100 * time.Millisecond
		})
		x := new(exchange.Exchange)
		x.Request = exchange.Request{Method: "GET", Path: "/"}
		if test.cancel != nil {
			x.Timeouts.Connect = time.Minute
			go x.Cancel(test.cancel)
		}
		e := exchange.AsError(transport.RoundTrip(x))
		if e == nil || e.Phase != exchange.PhaseConnect || e.Wrote || e.Fault != test.fault || e.Timeout != test.timeout || test.cancel != nil && !errors.Is(e, test.cancel) {
			t.Errorf("%s: %+v", name, e)
		}
		if stats := transport.Stats(); stats.Open != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// TestTimeoutsOfEndpoints: each wait for an endpoint has its bound, and a
// bound that is kept ends nothing.
func TestTimeoutsOfEndpoints(t *testing.T) {
	t.Parallel()
	const short = 300 * time.Millisecond
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		switch head := o.readUntil(nc, "\r\n\r\n"); {
		case strings.HasPrefix(head, "GET /silent"):
		case strings.HasPrefix(head, "GET /stalls"):
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		case strings.HasPrefix(head, "GET /interim"):
			_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n\r\n")
		case strings.HasPrefix(head, "POST /"):
			o.readUntil(nc, "0\r\n\r\n")
			if strings.HasPrefix(head, "POST /hints") { // within the bound, which counts from here
				_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n\r\n")
				time.Sleep(2 * short / 3)
			}
			if !strings.HasPrefix(head, "POST /late") {
				_, _ = io.WriteString(nc, plainOK)
			}
		}
		o.readUntil(nc, "never")
	})
	for _, test := range []struct {
		path, method string
		timeouts     exchange.Timeouts
		deadline     bool
		phase        exchange.Phase // unknown: none
	}{
		{"/silent", "GET", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
		{"/silent", "GET", exchange.Timeouts{}, true, exchange.PhaseAwait},
		{"/interim", "GET", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
		{"/stalls", "GET", exchange.Timeouts{Head: short, Idle: short}, false, exchange.PhaseReceive},
		{"/stalls", "GET", exchange.Timeouts{}, true, exchange.PhaseReceive},
		{"/slow", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseUnknown},
		{"/hints", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseUnknown},
		{"/late", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
	} {
		t.Run(test.method+test.path+fmt.Sprint(test.timeouts), func(t *testing.T) {
			t.Parallel()
			var ended chan outcome
			var failed chan error
			rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
				ended = outcomes(p)
				p.prepare = func(x *exchange.Exchange) {
					x.Timeouts = test.timeouts
					if test.deadline {
						x.Deadline = time.Now().Add(short)
					}
				}
				failed = failures(p)
			})
			c := rig.dial()
			c.send(test.method + " " + test.path + " HTTP/1.1\r\nHost: a.test\r\n")
			if test.method == "POST" { // an upload that takes longer than the head may
				c.send("Transfer-Encoding: chunked\r\n\r\n")
				for range 4 {
					from := rig.engine.now.Load()
					eventually(t, "time passes", func() bool { return rig.engine.now.Load() > from+int64(short/2) })
					c.send("1\r\nx\r\n")
				}
				c.send("0\r\n\r\n")
			} else {
				c.send("\r\n")
			}
			err := (<-ended).err
			if err == nil && len(failed) > 0 {
				err = <-failed
			}
			failure := exchange.AsError(err)
			switch {
			case test.phase == exchange.PhaseUnknown:
				if failure != nil {
					t.Errorf("%+v", failure)
				}
			case failure == nil || !failure.Timeout || failure.Phase != test.phase || failure.Fault != exchange.FaultUpstream:
				t.Errorf("%+v", failure)
			}
			if stats := transport.Stats(); stats.InFlight != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// TestClientGone: a client that goes away ends its call, wherever it is, and
// that is no fault of the endpoint.
func TestClientGone(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		head := o.readUntil(nc, "\r\n\r\n")
		if strings.HasPrefix(head, "GET /begun") {
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		}
		o.readUntil(nc, "never") // returns when the gateway lets go
		gone <- struct{}{}
	})
	for name, test := range map[string]struct {
		request string
		reset   bool
	}{
		"while the head is awaited":           {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n", false},
		"while the head is awaited, by reset": {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n", true},
		"with another request sent ahead":     {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\nGET /next HTTP/1.1\r\n", false},
		"within the response":                 {"GET /begun HTTP/1.1\r\nHost: a.test\r\n\r\n", false},
		"within its own body":                 {"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhe", false},
		"after its body":                      {"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", false},
	} {
		var ended chan outcome
		var failed chan error
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
			failed, ended = failures(p), outcomes(p)
		})
		c := rig.dial()
		before := origin.bytes.Load()
		c.send(test.request)
		eventually(t, "the endpoint has it", func() bool { return origin.bytes.Load() > before })
		if test.reset {
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
		<-gone
		err := (<-ended).err
		if len(failed) > 0 {
			err = <-failed
		}
		if failure := exchange.AsError(err); failure == nil || failure.Fault != exchange.FaultClient {
			t.Errorf("%s: %v", name, err)
		}
		if stats := transport.Stats(); stats.Open != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// TestCancel: the gateway's own cancellation, which is nobody else's fault.
func TestCancel(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "never") })
	transport := newTestTransport(t, newTestEngine(t), origin.address, nil)
	for _, early := range []bool{true, false} {
		x := new(exchange.Exchange)
		x.Request = exchange.Request{Method: "GET", Path: "/"}
		if early {
			x.Cancel(exchange.ErrZoneLost)
		} else {
			before := origin.bytes.Load()
			go func() {
				happens(func() bool { return origin.bytes.Load() > before })
				x.Cancel(exchange.ErrZoneLost)
			}()
		}
		e := exchange.AsError(transport.RoundTrip(x))
		if e == nil || e.Fault != exchange.FaultGateway || !errors.Is(e, exchange.ErrZoneLost) || e.Wrote == early {
			t.Errorf("%+v", e)
		}
		if early && e.Phase != exchange.PhaseConnect || !early && e.Phase != exchange.PhaseAwait {
			t.Errorf("%+v", e)
		}
		x.ClearCancel()
		x.Release()
	}
	eventually(t, "the connections are given up", func() bool { return transport.Stats().InFlight == 0 })
}

// TestBadUploads: a body that turns out bad on its way is the client's fault.
// The endpoint never sees an end of it.
func TestBadUploads(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	for name, test := range map[string]struct {
		request string
		ends    bool // the client ends its side
		status  int
	}{
		"bad later chunk":      {chunked("7530\r\n" + long + "\r\nzz\r\n"), false, 400},
		"bad trailer":          {chunked("7530\r\n" + long + "\r\n0\r\nA : b\r\n\r\n"), false, 400},
		"large trailer":        {chunked("7530\r\n" + long + "\r\n0\r\nA: " + long + "\r\n\r\n"), false, 400},
		"chunk without an end": {chunked("7530\r\n" + long + "xx"), false, 400},
		"ended":                {chunked("7531\r\n" + long), true, 400},
		"ended, of a length":   {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30001\r\n\r\n" + long, true, 400},
	} {
		origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "0\r\n\r\n") })
		var failed chan error
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { failed = failures(p) })
		c := rig.dial()
		c.send(test.request)
		if test.ends {
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}
		if response := c.receive(http.MethodPost); response.status != test.status || !response.closes {
			t.Errorf("%s: %+v", name, response)
		}
		if e := exchange.AsError(<-failed); e.Fault != exchange.FaultClient || e.Status != test.status || !e.Wrote {
			t.Errorf("%s: %+v", name, e)
		}
		eventually(t, "the endpoint's connection is closed", func() bool { return transport.Stats().Open == 0 })
		if strings.HasSuffix(origin.all(), "0\r\n\r\n") {
			t.Errorf("%s: the endpoint takes the body for complete", name)
		}
	}
}
