package http1

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

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
