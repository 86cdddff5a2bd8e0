package http1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

// TestRequestFraming sends bodies in each framing and in pieces of each size,
// and compares what the endpoint received byte by byte.
func TestRequestFraming(t *testing.T) {
	const head = "Host: a.test\r\nX-A: 1\r\n"
	long := strings.Repeat("0123456789abcdef", 8<<10/16) // in one piece behind the head
	longer := strings.Repeat("0123456789abcdef", 100<<10/16)
	for _, test := range []struct{ name, request, want, end, chunks string }{
		{"none", "GET / HTTP/1.1\r\n" + head + "\r\n", "GET / HTTP/1.1\r\n" + head + "\r\n", "\r\n\r\n", ""},
		{"none, in a method that has one", "POST / HTTP/1.1\r\n" + head + "\r\n", "POST / HTTP/1.1\r\n" + head + "Content-Length: 0\r\n\r\n", "\r\n\r\n", ""},
		{"of length 0", "PUT / HTTP/1.1\r\n" + head + "Content-Length: 0\r\n\r\n", "PUT / HTTP/1.1\r\n" + head + "Content-Length: 0\r\n\r\n", "\r\n\r\n", ""},
		{"with a length", "POST / HTTP/1.1\r\n" + head + "Content-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\n" + head + "Content-Length: 5\r\n\r\nhello", "hello", ""},
		{"with a length, of GET", "GET / HTTP/1.1\r\n" + head + "Content-Length: 5\r\n\r\nhello", "GET / HTTP/1.1\r\n" + head + "Content-Length: 5\r\n\r\nhello", "hello", ""},
		{"in HTTP/1.0", "POST / HTTP/1.0\r\n" + head + "Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\n" + head + "Content-Length: 5\r\n\r\nhello", "hello", ""},
		{
			"chunked", "POST / HTTP/1.1\r\n" + head + "Transfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n001\r\n!\r\n0\r\n\r\n",
			"POST / HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "hello!",
		},
		{
			"chunked with trailers", "POST / HTTP/1.1\r\n" + head + "TE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\nX-Release-Tag: v2\r\nContent-Length: 9\r\nContent-Type: a\r\nIf-Match: b\r\nX-Forwarded-Any: c\r\nTransfer-Encoding: d\r\nX-Last: 8\r\n\r\n",
			"POST / HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\nConnection: TE\r\nTE: trailers\r\n\r\n", "0\r\nX-Sum: 7\r\nX-Last: 8\r\n\r\n", "hello",
		},
		{"long with a length", "POST / HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(long)) + long, "POST / HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(long)) + long, "|", ""},
		{"longer with a length", "POST / HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(longer)) + longer, "POST / HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(longer)) + longer, "|", ""},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			if size == 1 && len(test.request) > 10_000 {
				continue
			}
			// The endpoint answers when it has seen as many bytes as it must, or
			// the end of what can be framed in more than one way.
			origin := newOrigin(t, func(o *origin, nc net.Conn) {
				for {
					if test.end[len(test.end)-1] != '|' {
						if o.readUntil(nc, "\r\n\r\n") == "" {
							return
						}
						if test.end != "\r\n\r\n" && o.readUntil(nc, test.end) == "" {
							return
						}
					} else if !o.readN(nc, len(test.want)) {
						return
					}
					if _, err := io.WriteString(nc, plainOK); err != nil {
						return
					}
				}
			})
			rig, _ := newProxyRig(t, origin.address, nil)
			c := rig.dial()
			for range 2 { // on one connection, so that each ends where it must
				for rest := test.request; rest != ""; {
					n := min(size, len(rest))
					c.send(rest[:n])
					rest = rest[n:]
				}
				if response := c.receive(http.MethodGet); response.status != 200 || response.body != "ok" {
					t.Fatalf("%s in pieces of %d: %+v", test.name, size, response)
				}
			}
			got := origin.all()
			if test.chunks != "" { // pieces of the client's may have become chunks of ours
				messages := strings.SplitAfter(got, test.end)
				for _, message := range messages[:2] {
					if rest, ok := strings.CutPrefix(message, test.want); !ok || dechunk(t, rest) != test.chunks {
						t.Errorf("%s in pieces of %d: endpoint received %q", test.name, size, message)
					}
				}
				if len(messages) != 3 || messages[2] != "" {
					t.Errorf("%s in pieces of %d: endpoint received %q", test.name, size, got)
				}
				continue
			}
			if got != test.want+test.want {
				t.Errorf("%s in pieces of %d: endpoint received %q, want twice %q", test.name, size, got, test.want)
			}
		}
	}
}

// dechunk is what net/http finds in a chunked body.
func dechunk(t *testing.T, text string) string {
	t.Helper()
	c := &client{t: t}
	c.r = newReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + text)
	return c.receive(http.MethodGet).body
}

// TestResponseFraming is TestRequestFraming the other way, for each kind of
// client.
func TestResponseFraming(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 100<<10/16)
	for _, test := range []struct {
		name, method, response string
		closes                 bool // the endpoint ends the connection
		status                 int
		length                 int64 // announced to an HTTP/1.1 client, -1 none
		body                   string
		trailer                string
	}{
		{"with a length", "GET", plainOK, false, 200, 2, "ok", ""},
		{"of length 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, 200, 0, "", ""},
		{"without a phrase", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", false, 200, 2, "ok", ""},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\no\r\n1\r\nk\r\n0\r\n\r\n", false, 200, -1, "ok", ""},
		{"chunked with trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a\r\nContent-Length: 3\r\n\r\n", false, 200, -1, "ok", "7"},
		{"until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nok", true, 200, -1, "ok", ""},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\n\r\nok", true, 200, -1, "ok", ""},
		{"HTTP/1.0 kept alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, 200, 2, "ok", ""},
		{"long with a length", "GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(long)) + long, false, 200, int64(len(long)), long, ""},
		{"long chunked", "GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(long), long), false, 200, -1, long, ""},
		{"long until the end", "GET", "HTTP/1.1 200 OK\r\n\r\n" + long, true, 200, -1, long, ""},
		{"to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", false, 200, 77, "", ""},
		{"to HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200, -1, "", ""},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, -1, "", ""},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", false, 304, 77, "", ""},
		{"server error", "GET", "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno", false, 503, 2, "no", ""},
	} {
		for _, size := range []int{1, 1000, 1 << 20} {
			if size == 1 && len(test.response) > 10_000 {
				continue
			}
			origin := newOrigin(t, func(o *origin, nc net.Conn) {
				for o.readUntil(nc, "\r\n\r\n") != "" {
					for rest := test.response; rest != ""; {
						n := min(size, len(rest))
						if _, err := io.WriteString(nc, rest[:n]); err != nil {
							return
						}
						rest = rest[n:]
					}
					if test.closes {
						return
					}
				}
			})
			rig, transport := newProxyRig(t, origin.address, nil)
			for _, version := range []string{"1.1", "1.0"} {
				c := rig.dial()
				for i := range 2 {
					if i == 1 && version == "1.0" {
						break
					}
					c.send(test.method + " / HTTP/" + version + "\r\nHost: a.test\r\n\r\n")
					response := c.receive(test.method)
					if response.status != test.status || response.body != test.body || response.trailer.Get("X-Sum") != test.trailer && version == "1.1" {
						t.Fatalf("%s in pieces of %d to HTTP/%s: %d %.100q %v", test.name, size, version, response.status, response.body, response.trailer)
					}
					if len(response.trailer) > 1 {
						t.Errorf("%s: trailers %v", test.name, response.trailer)
					}
					bodyless := test.method == "HEAD" || test.status == 204 || test.status == 304
					if version == "1.1" {
						if response.length != test.length || response.chunked != (test.length < 0 && !bodyless) || response.closes {
							t.Errorf("%s in pieces of %d: framed as %d, chunked %t, closes %t", test.name, size, response.length, response.chunked, response.closes)
						}
					} else if response.chunked || !response.closes {
						t.Errorf("%s in pieces of %d to HTTP/1.0: chunked %t, closes %t", test.name, size, response.chunked, response.closes)
					}
				}
				_ = c.Close()
				// The client has the last byte before the connection is given back.
				eventually(t, "the connection is free", func() bool { return transport.Stats().InFlight == 0 })
			}
			if !test.closes && origin.conns.Load() != 1 || test.closes && origin.conns.Load() != 3 {
				t.Errorf("%s in pieces of %d: %d connections, %+v", test.name, size, origin.conns.Load(), transport.Stats())
			}
		}
	}
}

// TestCounts sees that body bytes are counted as they were on the wire's
// either side, framing excluded.
func TestCounts(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		for o.readUntil(nc, "\r\n\r\n") != "" && o.readUntil(nc, "0\r\n\r\n") != "" {
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		}
	})
	type counts struct{ request, response int64 }
	seen := make(chan counts, 1)
	rig, _ := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
		p.done = func(x *exchange.Exchange, err error) {
			if err != nil {
				t.Error(err)
			}
			seen <- counts{x.RequestBytes, x.ResponseBytes}
		}
	})
	c := rig.dial()
	for _, pieces := range [][]string{
		{chunked("5\r\nhello\r\n0\r\n\r\n")},
		{chunked("2\r\nhe"), "\r\n3\r\nllo\r\n0\r\n\r\n"},
	} {
		for _, piece := range pieces {
			c.send(piece)
		}
		if response := c.receive(http.MethodPost); response.body != "abc" {
			t.Fatalf("%+v", response)
		}
		if got := <-seen; got != (counts{5, 3}) {
			t.Errorf("counted %+v", got)
		}
	}
}

// TestHandlersMistakes sees that what a handler says wrongly cannot split a
// response in two or leave its end open.
func TestHandlersMistakes(t *testing.T) {
	for name, serve := range map[string]func(x *exchange.Exchange){
		"line end in a value":   func(x *exchange.Exchange) { x.Response.Header.Add("X-A", "b\r\nX-Evil: 1") },
		"response in a value":   func(x *exchange.Exchange) { x.Response.Header.Add("X-A", "b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") },
		"line end in a name":    func(x *exchange.Exchange) { x.Response.Header.Add("X-A: b\r\nX-Evil", "1") },
		"bare LF in a value":    func(x *exchange.Exchange) { x.Response.Header.Add("X-A", "b\nX-Evil: 1") },
		"framing as a field":    func(x *exchange.Exchange) { x.Response.Header.Add("Transfer-Encoding", "chunked") },
		"length as a field":     func(x *exchange.Exchange) { x.Response.Header.Add("content-length", "99") },
		"connection as a field": func(x *exchange.Exchange) { x.Response.Header.Add("Connection", "close") },
	} {
		rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) {
			serve(x)
			respondWith(x, 200, "ok")
			x.Response.Header.Add("X-Good", "1")
		})})
		c := rig.dial()
		for range 2 {
			c.send(get + "\r\n")
			response := c.receive(http.MethodGet)
			if response.body != "ok" || response.closes || response.header.Get("X-Evil") != "" || response.header.Get("X-A") != "" || response.header.Get("X-Good") != "1" {
				t.Errorf("%s: %+v", name, response)
			}
		}
	}
	for name, test := range map[string]struct {
		serve  func(x *exchange.Exchange)
		broken bool
	}{
		"no status":       {func(*exchange.Exchange) {}, false},
		"100 as a final":  {func(x *exchange.Exchange) { x.Response.Status = 100 }, false},
		"status 600":      {func(x *exchange.Exchange) { x.Response.Status = 600 }, false},
		"101 and nothing": {func(x *exchange.Exchange) { x.Response.Status = 101 }, false},
		"body too short": {func(x *exchange.Exchange) {
			respondWith(x, 200, "ok")
			x.Response.ContentLength = 3
		}, true},
		"body too long": {func(x *exchange.Exchange) {
			respondWith(x, 200, "okay")
			x.Response.ContentLength = 3
		}, true},
	} {
		c := newRig(t, Options{Handler: handlerFunc(test.serve)}).dial()
		c.send(get + "\r\n" + get + "\r\n")
		response, err := c.tryReceive(http.MethodGet)
		if test.broken && err == nil || !test.broken && (err != nil || response.status != 500) {
			t.Errorf("%s: %+v, %v", name, response, err)
		}
	}
}
