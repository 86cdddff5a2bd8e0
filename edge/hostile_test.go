package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// smuggled is a request that an origin must not take for one.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

// TestHostileHTTP1 sends what parsers are known to disagree on, with a request
// hidden in it, to an origin that reads leniently. The whole list of what the
// codec refuses is in its own tests.
func TestHostileHTTP1(t *testing.T) {
	h := newHostile(t)
	stop := h.bystander()
	defer stop()
	const post = "POST /hostile/a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
	const get = "GET /hostile/a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(smuggled))
	large := strings.Repeat("x", 70<<10)
	for _, c := range []struct {
		name, text string
		status     int
		arrives    []string
	}{
		{"TE then CL", post + "Transfer-Encoding: chunked\r\n" + length + "\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"CL then TE", post + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"CL 0 with TE", post + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"two CLs", post + "Content-Length: 0\r\n" + length + "\r\n" + smuggled, 400, nil},
		{"two equal CLs", post + length + length + "\r\n" + smuggled, 400, nil},
		{"CL list", post + "Content-Length: 0, 40\r\n\r\n" + smuggled, 400, nil},
		{"CL with a sign", post + "Content-Length: +0\r\n\r\n" + smuggled, 400, nil},
		{"CL in disguise", post + "Content-Length : 0\r\n\r\n" + smuggled, 400, nil},
		{"TE with a space before the colon", post + length + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE in two fields", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE of another coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE with a vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE behind a bare LF", post + "A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE behind a bare CR", post + "A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE folded", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"TE on HTTP/1.0", "POST /hostile/a HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"bare LF everywhere", "GET /hostile/a HTTP/1.1\nHost: a.test\n\n" + smuggled, 400, nil},
		{"bare LF at the end", get + "\n" + smuggled, 400, nil},
		{"obs-fold", get + "A: b\r\n\tc\r\n\r\n" + smuggled, 400, nil},
		{"tab in the request line", "GET\t/hostile/a\tHTTP/1.1\r\nHost: a.test\r\n\r\n", 400, nil},
		{"space in the target", "GET /hostile/a /b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, nil},
		{"NUL in a value", get + "A: b\x00c\r\n\r\n", 400, nil},
		{"chunk size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + smuggled, 400, nil},
		{"chunk size that overflows", post + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + smuggled, 400, nil},
		{"chunk extension with a bare LF", post + "Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n" + smuggled, 400, nil},
		{"chunk data longer than said", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"body within its length", post + length + "\r\n" + smuggled, 200, []string{"POST /hostile/a"}},
		{"absolute form", "GET http://b.test/hostile/a HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n", 200, []string{"GET /hostile/a"}},
		{"absolute form to nowhere", "GET http:///hostile/a HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, nil},
		{"authority form", "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, nil},
		{"CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n" + smuggled, 405, nil},
		{"two Hosts", get + "Host: b.test\r\n\r\n", 400, nil},
		{"path above the root", "GET /hostile/../../smuggled HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 400, nil},
		{"large field", get + "A: " + large + "\r\n\r\n", 431, nil},
		{"many fields", get + strings.Repeat("A: b\r\n", 200) + "\r\n", 431, nil},
		{"long target", "GET /hostile/" + large + " HTTP/1.1\r\nHost: a.test\r\n\r\n", 414, nil},
		{"upgrade to h2c", get + "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n" + smuggled, 200, []string{"GET /hostile/a"}},
		{"upgrade without 101", strings.Replace(get, "close", "Upgrade", 1) + "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85" + smuggled, 200, []string{"GET /hostile/a"}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/TLS=%v", c.name, secure), func(t *testing.T) {
				statuses := h.send(secure, c.text)
				if len(statuses) == 0 || statuses[0] != c.status {
					t.Errorf("answered with %d, want %d", statuses, c.status)
				}
				for _, status := range statuses[min(1, len(statuses)):] {
					if status < 400 || status > 499 {
						t.Errorf("what followed was answered with %d", status)
					}
				}
				h.origin.expect(t, c.arrives...)
			})
		}
	}
	stop()
	h.expectUnmoved("hostile")
}

// TestHostileHTTP2 has requests that would become others when they are written
// as HTTP/1.
func TestHostileHTTP2(t *testing.T) {
	h := newHostile(t)
	stop := h.bystander()
	defer stop()
	with := func(method, path string, more ...string) []string {
		return append([]string{":method", method, ":scheme", "http", ":authority", "a.test", ":path", path}, more...)
	}
	const path = "/hostile/a"
	length := fmt.Sprint(len(smuggled))
	for _, c := range []struct {
		name    string
		fields  []string
		data    string
		arrives []string // beside nothing
	}{
		{"line end in the path", with("GET", path+" HTTP/1.1\r\nHost: a.test\r\n\r\n"+smuggled), "", nil},
		{"space in the path", with("GET", path+" /b"), "", nil},
		{"request line as the method", with("GET "+path+" HTTP/1.1\r\nA:", path), "", nil},
		{"line end in the method", with("GET\r\n", path), "", nil},
		{"line end in the authority", []string{":method", "GET", ":scheme", "http", ":authority", "a.test\r\nA: b", ":path", path}, "", nil},
		{"line end in the scheme", []string{":method", "GET", ":scheme", "http\r\nA: b", ":authority", "a.test", ":path", path}, "", nil},
		{"line end in a value", with("GET", path, "a", "b\r\nTransfer-Encoding: chunked"), "", nil},
		{"bare LF in a value", with("GET", path, "a", "b\nc: d"), "", nil},
		{"line end in a name", with("GET", path, "a: b\r\nc", "d"), "", nil},
		{"colon in a name", with("GET", path, "transfer-encoding: chunked", ""), "", nil},
		{"transfer-encoding", with("POST", path, "transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled, nil},
		{"upper case", with("POST", path, "Transfer-Encoding", "chunked"), "0\r\n\r\n" + smuggled, nil},
		{"connection", with("GET", path, "connection", "x-forwarded-for"), "", nil},
		{"upgrade", with("GET", path, "upgrade", "h2c"), "", nil},
		{"length below the data", with("POST", path, "content-length", "0"), smuggled, []string{"POST " + path}},
		{"length beyond the data", with("POST", path, "content-length", "999"), smuggled, []string{"POST " + path}},
		{"two lengths", with("POST", path, "content-length", "0", "content-length", length), smuggled, nil},
		{"host beside the authority", with("GET", path, "host", "b.test"), "", nil},
		{"two authorities", with("GET", path, ":authority", "b.test"), "", nil},
		{"two paths", with("GET", path, ":path", "/smuggled"), "", nil},
		{"late pseudo-header", []string{":method", "GET", ":scheme", "http", "a", "b", ":authority", "a.test", ":path", path}, "", nil},
		{"unknown pseudo-header", with("GET", path, ":forwarded", "b"), "", nil},
		{"absolute form", with("GET", "http://b.test"+path), "", nil},
		{"no path", []string{":method", "GET", ":scheme", "http", ":authority", "a.test"}, "", nil},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "a.test:443"}, smuggled, nil},
		{"path above the root", with("GET", "/hostile/%2e%2e/../smuggled"), "", nil},
		{"large section", with("GET", path, "a", strings.Repeat("x", 70<<10)), "", nil},
		{"many fields", with("GET", path, strings.Split(strings.Repeat("a,b,", 200)+"a,b", ",")...), "", nil},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/TLS=%v", c.name, secure), func(t *testing.T) {
				got := h.ask2(t, secure, c.fields, c.data)
				refused := got.reset || got.closed || got.status >= "400" && got.status <= "499"
				if !refused || got.status >= "500" {
					t.Errorf("got %+v, want a refusal", got)
				}
				if arrived := h.origin.take(); len(arrived) > len(c.arrives) || len(arrived) == 1 && (arrived[0].line != c.arrives[0] || !arrived[0].forwarded) {
					t.Errorf("the origin received %+v", arrived)
				}
			})
		}
	}
	// The twin of all of them.
	if got := h.ask2(t, false, with("POST", path, "content-length", length), smuggled); got.status != "200" {
		t.Errorf("a good request got %+v", got)
	}
	h.origin.expect(t, "POST "+path)
	stop()
	h.expectUnmoved("hostile")
}

// ask2 sends one request over a connection of its own.
func (h *hostile) ask2(t *testing.T, secure bool, fields []string, data string) outcome {
	t.Helper()
	c := h.dial2(secure)
	defer func() { _ = c.nc.Close() }()
	block := c.encode(fields...)
	first := block[:min(len(block), 16<<10)]
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: first, EndHeaders: len(first) == len(block), EndStream: data == "",
	})
	for rest := block[len(first):]; err == nil && len(rest) > 0; {
		part := rest[:min(len(rest), 16<<10)]
		rest = rest[len(part):]
		err = c.framer.WriteContinuation(1, len(rest) == 0, part)
	}
	if err == nil && data != "" {
		err = c.framer.WriteData(1, true, []byte(data))
	}
	if err != nil {
		return outcome{closed: true}
	}
	got, err := c.outcome(1)
	if err != nil {
		t.Errorf("no answer: %v", err)
	}
	return got
}

// TestRandomNamesMakeNoSeries counts the metric series before and after clients
// made up methods, paths, hosts, tags and fields.
func TestRandomNamesMakeNoSeries(t *testing.T) {
	h := newHostile(t)
	client := h.client(func(p *http.Protocols) { p.SetHTTP1(true) })
	client2 := h.client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	if err := h.beside(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if statuses := h.send(false, "GET /no/route HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); len(statuses) != 1 || statuses[0] != 404 {
		t.Fatalf("no route: %d", statuses)
	}
	h.series() // looking makes series too
	before := h.series()
	for n := range 200 {
		request, err := http.NewRequestWithContext(t.Context(), fmt.Sprintf("M%d", n), h.url(fmt.Sprintf("/hostile/%d?q=%d", n, n)), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			request.URL.Path = fmt.Sprintf("/no/%d/route", n)
		}
		request.Host = fmt.Sprintf("h%d.test", n)
		request.Header.Set("X-Release-Tag", fmt.Sprintf("tag-%d", n))
		request.Header.Set("User-Agent", fmt.Sprintf("agent-%d", n))
		request.Header.Set("X-Request-Id", fmt.Sprintf("id-%d", n))
		response, err := []*http.Client{client, client2}[n/2%2].Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode >= 500 {
			t.Fatalf("answered with %d", response.StatusCode)
		}
	}
	for series := range h.series() {
		if _, known := before[series]; !known {
			t.Errorf("new series: %s", series)
		}
	}
}
