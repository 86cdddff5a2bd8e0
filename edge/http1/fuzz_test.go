package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

// goodRequests seed the fuzz targets together with the refusals.
var goodRequests = []string{
	get + "\r\n",
	"GET /a/b%2fc;d=e?f=g&h=[i] HTTP/1.1\r\nhost: A.test:80\r\nAccept:\t*/* \r\nX: \xc3\xa4\r\n\r\n",
	"GET http://b.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET HTTPS://[::1]:8443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"OPTIONS http://a.test HTTP/1.0\r\nX: y\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get + "\r\n",
	"POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello" + get + "\r\n",
	"GET /g HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
	chunked("5;a=b\r\nhello\r\n0006\r\n world\r\n0\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n") + get + "\r\n",
	"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: X-A, close, te\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\nCookie: a=b\r\nCookie: c\r\nTE: trailers\r\n\r\n",
	asking,
}

// goodResponses seed the fuzz target of responses.
var goodResponses = []string{
	plainOK + plainOK,
	"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.0 404 Not Found\r\nServer: s\r\nContent-Type: text/plain\r\n\r\nnothing",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
	"HTTP/1.1 500 \xc3\xa4\r\nConnection: close, X-A\r\nX-A: b\r\nSet-Cookie: a=b; Path=/\r\nDate: x\r\n\r\nno",
}

// FuzzRequest holds the request parser against net/http and fasthttp: what we
// accept, both read as the same message.
func FuzzRequest(f *testing.F) {
	for _, request := range goodRequests {
		f.Add([]byte(request))
	}
	for _, refusal := range refusals {
		f.Add([]byte(refusal.request))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		own, named, ok := ownRequest(data)
		if !ok || len(data) > 8<<10 {
			return // net/http takes offence at many small chunks
		}
		if other, err := httpRequest(data); err != nil {
			if !refusedByHTTP(data) {
				t.Errorf("net/http refuses %q: %v", data, err)
			}
		} else if what := disagreement(own, other, named); what != "" {
			t.Errorf("net/http reads %q otherwise: %s", data, what)
		}
		if other, err := fastRequest(data); err != nil {
			if !refusedByFast(data, err) {
				t.Errorf("fasthttp refuses %q: %v", data, err)
			}
		} else if what := disagreement(fastView(own), fastView(other), named); what != "" {
			t.Errorf("fasthttp reads %q otherwise: %s", data, what)
		}
	})
}

// refusedByHTTP are messages that we accept and net/http does not: it judges
// the Trailer field, which we do not pass on.
func refusedByHTTP(data []byte) bool { return hasField(data, "trailer:") }

// refusedByFast are messages that we accept and fasthttp does not: it judges
// the Trailer field, too, and refuses a message for trailers that we drop.
func refusedByFast(data []byte, err error) bool {
	return hasField(data, "trailer:") || strings.Contains(err.Error(), "forbidden trailer")
}

func hasField(data []byte, name string) bool {
	return bytes.Contains(bytes.ToLower(data), []byte("\r\n"+name))
}

// FuzzResponse is FuzzRequest for responses.
func FuzzResponse(f *testing.F) {
	for _, response := range goodResponses {
		f.Add([]byte(response), false)
		f.Add([]byte(response), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		own, named, ok := ownResponse(data, method)
		if !ok || len(data) > 8<<10 {
			return
		}
		if other, err := httpResponse(data, method); err != nil {
			if !refusedByHTTP(data) {
				t.Errorf("net/http refuses %q: %v", data, err)
			}
		} else if what := disagreement(own, other, named); what != "" {
			t.Errorf("net/http reads %q otherwise: %s", data, what)
		}
		if other, err := fastResponse(data, method); err != nil {
			if !refusedByFast(data, err) {
				t.Errorf("fasthttp refuses %q: %v", data, err)
			}
		} else if what := disagreement(fastView(own), fastView(other), named); what != "" {
			t.Errorf("fasthttp reads %q otherwise: %s", data, what)
		}
	})
}

// FuzzChunked holds the decoder against net/http's, and against itself with
// the bytes arriving in other pieces.
func FuzzChunked(f *testing.F) {
	const head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, refusal := range refusals {
		if body, ok := strings.CutPrefix(refusal.request, head); ok {
			f.Add([]byte(body), 3)
		}
	}
	f.Add([]byte("5;a=b\r\nhello\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\nrest"), 7)
	f.Add([]byte("0\r\n\r\n"), 1)
	f.Add([]byte("0\r\nA: "+strings.Repeat("b", maxTrailer)+"\r\n\r\n"), 100)
	f.Add([]byte("0\r\nA: "+strings.Repeat("b", maxTrailer-8)+"\r\n\r\n"), 100)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if len(data) > 8<<10 {
			return
		}
		body, rest, done, reason := decodeInPieces(data, len(data)+1)
		if b, r, d, why := decodeInPieces(data, max(size, 1)); b != body || d != done || (why == ReasonNone) != (reason == ReasonNone) || reason == ReasonNone && r != rest {
			t.Errorf("%q in pieces of %d: %q %q %t %v; at once: %q %q %t %v", data, size, b, r, d, why, body, rest, done, reason)
		}
		if reason != ReasonNone {
			return
		}
		other, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if done && (err != nil || string(other) != body) || !strings.HasPrefix(string(other), body) {
			t.Errorf("%q: %q, net/http reads %q, %v", data, body, other, err)
		}
	})
}

// decodeInPieces decodes a chunked body of which size bytes arrive at a time.
func decodeInPieces(data []byte, size int) (body, rest string, done bool, reason Reason) {
	in := inbound{buf: make([]byte, len(data))}
	in.start(bodyChunked, 0)
	var all []byte
	for !in.done {
		piece, more, reason := in.decode()
		if reason != ReasonNone {
			return string(all), "", false, reason
		}
		all = append(all, piece...)
		if more {
			if in.w == len(data) {
				break
			}
			in.w += copy(in.buf[in.w:], data[in.w:min(in.w+size, len(data))])
		}
	}
	return string(all), string(data[in.r:]), in.done, ReasonNone
}

// FuzzServer sends arbitrary bytes in arbitrary pieces to a server. The
// handler must see exactly the requests that the bytes are, whatever the
// pieces; nothing is answered with 5xx.
func FuzzServer(f *testing.F) {
	for _, request := range goodRequests {
		f.Add([]byte(request), []byte{1, 5, 40})
	}
	for _, refusal := range refusals {
		f.Add([]byte(get+"\r\n"+refusal.request), []byte{50, 3})
	}
	engine := newTestEngine(f)
	f.Fuzz(func(t *testing.T, data, pieces []byte) {
		if len(data) > 8<<10 {
			return
		}
		want, more := allRequests(data)
		seen := serveBytes(t, engine, data, pieces)
		if len(seen) < len(want) || len(seen) > len(want)+1 || len(seen) == len(want)+1 && !more {
			t.Fatalf("%q in pieces %v: %d requests served, %d are there", data, pieces, len(seen), len(want))
		}
		for i := range want {
			if want[i] != seen[i] {
				t.Errorf("%q in pieces %v: request %d is %q, served as %q", data, pieces, i, want[i], seen[i])
			}
		}
	})
}

// allRequests are the whole requests in data, up to one that ends the
// connection. more: the head of another is good, its body not yet complete.
func allRequests(data []byte) (all []string, more bool) {
	for {
		var req exchange.Request
		var h head
		n, reason := parseRequest(data, &req, &h, testLimits)
		m, _, ok := ownRequest(data)
		if !ok {
			return all, n != needMore && reason == ReasonNone
		}
		all = append(all, m.method+" "+m.target+" "+m.body)
		if !h.persistent(req.Proto) {
			return all, false
		}
		data = data[len(data)-len(m.rest):]
	}
}

// serveBytes returns the requests that a handler was given, complete ones
// first.
func serveBytes(t *testing.T, engine *Engine, data, pieces []byte) (seen []string) {
	t.Helper()
	server, err := NewServer(Options{Engine: engine, Handler: handlerFunc(func(x *exchange.Exchange) {
		echo(x)
		target := x.Request.Path
		if x.Request.HasQuery {
			target += "?" + x.Request.Query
		}
		body, _ := x.Response.Body.Buffered()
		seen = append(seen, strings.Replace(string(body), " "+x.Request.Path+" ", " "+target+" ", 1))
	})})
	if err != nil {
		t.Fatal(err)
	}
	client, served := socketPair(t)
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeConn(served, exchange.Conn{}) })
	serving.Go(func() {
		for i, rest := 0, data; len(rest) > 0; i++ {
			n := len(rest)
			if i < len(pieces) {
				n = min(n, int(pieces[i])+1)
			}
			if _, err := client.Write(rest[:n]); err != nil {
				break // refused before its end
			}
			rest = rest[n:]
		}
		_ = client.CloseWrite()
	})
	r := bufio.NewReader(client)
	for {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			break // the end, or a response to HEAD, which has no body
		}
		if response.StatusCode >= 500 {
			t.Errorf("%q in pieces %v: answered with %d", data, pieces, response.StatusCode)
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil {
			break
		}
	}
	_, _ = io.Copy(io.Discard, r)
	_ = client.Close()
	serving.Wait()
	return seen
}

// socketPair is two ends of a connection that costs no port.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 0, 2)
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		nc, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, nc.(*net.UnixConn))
	}
	return ends[0], ends[1]
}
