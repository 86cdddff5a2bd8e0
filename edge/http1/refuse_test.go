package http1

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

const get = "GET / HTTP/1.1\r\nHost: a.test\r\n"

// refusals are requests that must not reach an endpoint, with what the client
// is told.
var refusals = []struct {
	name    string
	request string
	status  int
	reason  Reason
}{
	{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, ReasonMethod},
	{"leading space", " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonRequestLine},
	{"leading empty line", "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonRequestLine},
	{"method with a colon", "GE:T / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonMethod},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"tab for a space", "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonRequestLine},
	{"no version", "GET /\r\nHost: a.test\r\n\r\n", 400, ReasonRequestLine},
	{"version 1.2", "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", 400, ReasonVersion},
	{"version 2.0", "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", 400, ReasonVersion},
	{"version in lower case", "GET / http/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonVersion},
	{"version with a space behind", "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", 400, ReasonVersion},
	{"bare LF after the request line", "GET / HTTP/1.1\nHost: a.test\r\n\r\n", 400, ReasonBareLF},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: a.test\nA: b\r\n\r\n", 400, ReasonBareLF},
	{"bare LF to end the head", "GET / HTTP/1.1\r\nHost: a.test\r\n\n", 400, ReasonBareLF},
	{"bare CR in a value", get + "A: b\rc\r\n\r\n", 400, ReasonBareCR},
	{"bare CR to end the head", get + "\rA: b\r\n\r\n", 400, ReasonBareCR},
	{"obs-fold", get + "A: b\r\n c\r\n\r\n", 400, ReasonFolded},
	{"obs-fold with a tab", get + "A: b\r\n\tc\r\n\r\n", 400, ReasonFolded},
	{"space before the first field", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400, ReasonFolded},
	{"space before the colon", get + "A : b\r\n\r\n", 400, ReasonFieldName},
	{"tab before the colon", get + "A\t: b\r\n\r\n", 400, ReasonFieldName},
	{"no colon", get + "A\r\n\r\n", 400, ReasonFieldName},
	{"empty name", get + ": b\r\n\r\n", 400, ReasonFieldName},
	{"name with a bracket", get + "A[]: b\r\n\r\n", 400, ReasonFieldName},
	{"name beyond ASCII", get + "\xc3\x84: b\r\n\r\n", 400, ReasonFieldName},
	{"NUL in a value", get + "A: b\x00c\r\n\r\n", 400, ReasonFieldValue},
	{"DEL in a value", get + "A: b\x7fc\r\n\r\n", 400, ReasonFieldValue},
	{"escape far into a value", get + "A: " + strings.Repeat("b", 29) + "\x1bc\r\n\r\n", 400, ReasonFieldValue},
	{"control character behind a tab", get + "A: b\t\x01" + strings.Repeat("c", 9) + "\r\n\r\n", 400, ReasonFieldValue},

	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, ReasonHost},
	{"two Hosts", get + "Host: a.test\r\n\r\n", 400, ReasonHost},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, ReasonHost},
	{"Host with a path", "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n", 400, ReasonHost},
	{"Host with user information", "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", 400, ReasonHost},
	{"Host with a list", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400, ReasonHost},
	{"Host with a port out of range", "GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n", 400, ReasonHost},
	{"Host with a port of letters", "GET / HTTP/1.1\r\nHost: a.test:http\r\n\r\n", 400, ReasonHost},
	{"Host with an empty port", "GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", 400, ReasonHost},
	{"Host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, ReasonHost},
	{"Host missing beside an absolute target", "GET http://a.test/ HTTP/1.1\r\n\r\n", 400, ReasonHost},

	{"relative target", "GET a HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"authority as target", "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"asterisk without OPTIONS", "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"asterisk and more", "OPTIONS *a HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"foreign scheme", "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"user information in the target", "GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"no host in the target", "GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"fragment in the query", "GET /a?b#c HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"backslash", "GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"bad escape", "GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"half an escape", "GET /%a HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"target beyond ASCII", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"control character in the target", "GET /a\x01 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"control character in the query", "GET /a?\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ReasonTarget},
	{"CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 405, ReasonConnect},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ReasonTarget},

	{"TE with CL", get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, ReasonLengthAndEncoding},
	{"CL with TE", get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ReasonLengthAndEncoding},
	{"two CLs", get + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, ReasonContentLength},
	{"two equal CLs", get + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, ReasonContentLength},
	{"CL list", get + "Content-Length: 5, 5\r\n\r\nhello", 400, ReasonContentLength},
	{"CL with a sign", get + "Content-Length: +5\r\n\r\nhello", 400, ReasonContentLength},
	{"negative CL", get + "Content-Length: -5\r\n\r\nhello", 400, ReasonContentLength},
	{"hexadecimal CL", get + "Content-Length: 0x5\r\n\r\nhello", 400, ReasonContentLength},
	{"empty CL", get + "Content-Length:\r\n\r\n", 400, ReasonContentLength},
	{"CL of 2^63", get + "Content-Length: 9223372036854775808\r\n\r\n", 400, ReasonContentLength},
	{"CL of 2^64+5", get + "Content-Length: 18446744073709551621\r\n\r\nhello", 400, ReasonContentLength},
	{"unknown coding", get + "Transfer-Encoding: gzip\r\n\r\n", 400, ReasonTransferEncoding},
	{"coding list", get + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, ReasonTransferEncoding},
	{"chunked twice", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ReasonTransferEncoding},
	{"identity", get + "Transfer-Encoding: identity\r\n\r\n", 400, ReasonTransferEncoding},
	{"quoted chunked", get + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, ReasonTransferEncoding},
	{"chunked with a parameter", get + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400, ReasonTransferEncoding},
	{"empty coding", get + "Transfer-Encoding:\r\n\r\n", 400, ReasonTransferEncoding},
	{"chunked in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ReasonTransferEncoding},
	{"Connection with a space within", get + "Connection: a b\r\n\r\n", 400, ReasonConnection},
	{"unknown expectation", get + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", 417, ReasonExpect},

	{"chunk size of letters", chunked("xyz\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk size with a sign", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"empty chunk size", chunked("\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"space before a chunk size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"space after a chunk size", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk size of 2^64+5", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk size of 2^63", chunked("8000000000000000\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk size with a bare LF", chunked("5\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk extension with a bare LF", chunked("5;a\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk extension with a bare CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk extension without end", chunked("5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk data too long", chunked("5\r\nhello!\r\n0\r\n\r\n"), 400, ReasonChunk},
	{"chunk data with a bare LF behind", chunked("5\r\nhello\n0\r\n\r\n"), 400, ReasonChunk},
	{"bare LF after the last chunk", chunked("0\n\r\n"), 400, ReasonChunk},
	{"folded trailer", chunked("0\r\nA: b\r\n c\r\n\r\n"), 400, ReasonFolded},
	{"trailer without a name", chunked("0\r\n: b\r\n\r\n"), 400, ReasonFieldName},
	{"trailer with a bare LF", chunked("0\r\nA: b\n\r\n"), 400, ReasonBareLF},
	{"too many trailers", chunked("0\r\n" + strings.Repeat("A: b\r\n", maxTrailerFields+1) + "\r\n"), 400, ReasonTrailer},

	{"long target", "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", 414, ReasonTargetTooLong},
	{"endless target", "GET /" + strings.Repeat("a", 40000), 414, ReasonTargetTooLong},
	{"large field", get + "A: " + strings.Repeat("b", 40000) + "\r\n\r\n", 431, ReasonFieldsTooLarge},
	{"large field name", get + strings.Repeat("b", 40000), 431, ReasonFieldsTooLarge},
	{"many fields", get + strings.Repeat("A: b\r\n", 100) + "\r\n", 431, ReasonTooManyFields},
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

// TestRefusedRequestsReachNobody sends each bad request behind a good one:
// the good one is answered, the bad one too, the connection ends, and the
// endpoint has seen the good one only.
func TestRefusedRequestsReachNobody(t *testing.T) {
	origin := newOrigin(t, answering(plainOK))
	rig, transport := newProxyRig(t, origin.address, nil)
	for _, refusal := range refusals {
		for _, whole := range []bool{true, false} {
			before := rig.server.refused[refusal.reason].Load()
			seen := origin.bytes.Load()
			c := rig.dial()
			const first = "GET /first HTTP/1.1\r\nHost: a.test\r\n\r\n"
			if whole {
				c.send(first + refusal.request)
			} else {
				c.send(first)
			}
			if response := c.receive(http.MethodGet); response.status != 200 || response.body != "ok" {
				t.Fatalf("%s: first response %+v", refusal.name, response)
			}
			forwarded := origin.bytes.Load()
			if forwarded-seen != int64(len(first)) {
				t.Errorf("%s: the endpoint received %d bytes of the first request", refusal.name, forwarded-seen)
			}
			if !whole {
				c.send(refusal.request)
			}
			response := c.receive(http.MethodGet)
			if response.status != refusal.status {
				t.Errorf("%s: status %d, want %d", refusal.name, response.status, refusal.status)
			}
			var problem struct {
				Status int
				Title  string
				Detail string
			}
			if err := json.Unmarshal([]byte(response.body), &problem); err != nil || problem.Status != refusal.status ||
				problem.Title != http.StatusText(refusal.status) || problem.Detail == "" {
				t.Errorf("%s: problem document %q: %v", refusal.name, response.body, err)
			}
			if !response.closes {
				t.Errorf("%s: the response does not say that the connection ends", refusal.name)
			}
			if n, err := io.Copy(io.Discard, c.r); n != 0 || err != nil {
				t.Errorf("%s: %d bytes after the refusal, %v", refusal.name, n, err)
			}
			_ = c.Close()
			if got := rig.server.refused[refusal.reason].Load() - before; got != 1 {
				t.Errorf("%s: counted %d times as %s: %v", refusal.name, got, refusal.reason, rig.server.Stats().Refused)
			}
			if origin.bytes.Load() != forwarded {
				t.Errorf("%s: the endpoint received %q", refusal.name, origin.all()[forwarded:])
			}
		}
	}
	if stats := transport.Stats(); stats.Open != 1 || origin.conns.Load() != 1 {
		t.Errorf("refusals cost connections: %+v, %d", stats, origin.conns.Load())
	}
}

// TestRefusalsByteByByte sends bad heads in single bytes: the verdict must not
// depend on where reads end.
func TestRefusalsByteByByte(t *testing.T) {
	rig := newRig(t, Options{Handler: &proxy{}})
	for _, refusal := range refusals {
		if len(refusal.request) > 200 || strings.Contains(refusal.request, "chunked\r\n\r\n") && refusal.reason != ReasonLengthAndEncoding {
			continue
		}
		c := rig.dial()
		for i := range len(refusal.request) {
			if _, err := c.Write([]byte{refusal.request[i]}); err != nil {
				break // refused before its end
			}
		}
		if response := c.receive(http.MethodGet); response.status != refusal.status {
			t.Errorf("%s: status %d, want %d", refusal.name, response.status, refusal.status)
		}
		_ = c.Close()
	}
}

// TestRefusalOfHead: what answers HEAD has no body, a refusal included.
func TestRefusalOfHead(t *testing.T) {
	rig := newRig(t, Options{Handler: handlerFunc(echo)})
	for request, bodyless := range map[string]bool{
		"HEAD / HTTP/1.1\r\n\r\n": true,
		"GET / HTTP/1.1\r\n\r\n":  false,
		"@":                       false, // no method, and not that of the request before
	} {
		c := rig.dial()
		c.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		c.receive(http.MethodHead)
		c.send(request)
		if response := c.receive(http.MethodHead); response.status != 400 || response.length <= 0 {
			t.Errorf("%q: %+v", request, response)
		}
		if rest := c.ended(); (rest == "") != bodyless {
			t.Errorf("%q: %q behind the head", request, rest)
		}
	}
}
