package http2

import (
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// TestRefusedRequests sends what no handler is to see; each has a twin that
// differs in nothing but the fault.
func TestRefusedRequests(t *testing.T) {
	long := strings.Repeat("x", 9<<10)
	cases := []struct {
		name   string
		fields []string
		end    bool
		status string // empty: a reset with PROTOCOL_ERROR
	}{
		{"connect", []string{":method", "CONNECT", ":authority", "a.test:443"}, true, "405"},
		{"connect with a path", []string{":method", "CONNECT", ":authority", "a.test:443", ":path", "/"}, true, ""},
		{"no method", []string{":scheme", "http", ":path", "/", ":authority", "a.test"}, true, ""},
		{"no scheme", []string{":method", "GET", ":path", "/", ":authority", "a.test"}, true, ""},
		{"no path", []string{":method", "GET", ":scheme", "http", ":authority", "a.test"}, true, ""},
		{"no authority", []string{":method", "GET", ":scheme", "http", ":path", "/"}, true, "400"},
		{"empty path", []string{":method", "GET", ":scheme", "http", ":path", "", ":authority", "a.test"}, true, ""},
		{"relative path", []string{":method", "GET", ":scheme", "http", ":path", "a", ":authority", "a.test"}, true, "400"},
		{"absolute form", []string{":method", "GET", ":scheme", "http", ":path", "http://b.test/", ":authority", "a.test"}, true, "400"},
		{"star without options", []string{":method", "GET", ":scheme", "http", ":path", "*", ":authority", "a.test"}, true, "400"},
		{"space in the path", []string{":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1", ":authority", "a.test"}, true, "400"},
		{"line end in the path", []string{":method", "GET", ":scheme", "http", ":path", "/\r\nA: b", ":authority", "a.test"}, true, "400"},
		{"bad escape", []string{":method", "GET", ":scheme", "http", ":path", "/%2", ":authority", "a.test"}, true, "400"},
		{"fragment", []string{":method", "GET", ":scheme", "http", ":path", "/#a", ":authority", "a.test"}, true, "400"},
		{"fragment in the query", []string{":method", "GET", ":scheme", "http", ":path", "/?#a", ":authority", "a.test"}, true, "400"},
		{"method with a space", []string{":method", "GET /", ":scheme", "http", ":path", "/", ":authority", "a.test"}, true, "400"},
		{"other scheme", []string{":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "a.test"}, true, ""},
		{"userinfo", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "b@a.test"}, true, "400"},
		{"bad port", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a.test:99999"}, true, "400"},
		{"repeated method", get(":method", "GET"), true, ""},
		{"repeated path", get(":path", "/"), true, ""},
		{"unknown pseudo", get(":other", "x"), true, ""},
		{"status in a request", get(":status", "200"), true, ""},
		{"pseudo after regular", []string{":method", "GET", ":scheme", "http", "a", "b", ":path", "/", ":authority", "a.test"}, true, ""},
		{"protocol without connect", get(":protocol", "websocket"), true, ""},
		{"host differs", get("host", "b.test"), true, "400"},
		{"two hosts", get("host", "a.test", "host", "a.test"), true, "400"},
		{"upper case name", get("A-Name", "b"), true, ""},
		{"space in a name", get("a name", "b"), true, ""},
		{"colon in a name", get("a:b", "c"), true, ""},
		{"empty name", get("", "c"), true, ""},
		{"line end in a value", get("a", "b\r\nc: d"), true, ""},
		{"nul in a value", get("a", "b\x00c"), true, ""},
		{"space before a value", get("a", " b"), true, ""},
		{"space after a value", get("a", "b "), true, ""},
		{"connection", get("connection", "close"), true, ""},
		{"keep-alive", get("keep-alive", "1"), true, ""},
		{"proxy-connection", get("proxy-connection", "close"), true, ""},
		{"transfer-encoding", post("transfer-encoding", "chunked"), false, ""},
		{"upgrade", get("upgrade", "websocket"), true, ""},
		{"te", get("te", "gzip"), true, ""},
		{"repeated length", post("content-length", "1", "content-length", "1"), false, ""},
		{"negative length", post("content-length", "-1"), false, ""},
		{"length without a body", post("content-length", "1"), true, ""},
		{"expectation", post("expect", "200-ok"), false, "417"},
		{"large header section", get("a", long, "b", long, "c", long, "d", long), true, "431"},
		{"many fields", get(strings.Split(strings.Repeat("a,b,", 100)+"a,b", ",")...), true, "431"},
		{"long path", []string{":method", "GET", ":scheme", "http", ":path", "/" + long, ":authority", "a.test"}, true, "414"},
		{"tunnel for another protocol", []string{":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority", "a.test", ":protocol", "h2c"}, false, "501"},
	}
	var served atomic.Int64
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		served.Add(1)
		echo(x)
	}}})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client := dialRaw(t, r.address)
			before := served.Load()
			client.headers(1, c.end, c.fields...)
			got := client.response(1)
			switch {
			case c.status == "" && (!got.reset || got.code != http2.ErrCodeProtocol):
				t.Errorf("got %+v, want a reset with PROTOCOL_ERROR", got)
			case c.status != "" && got.status != c.status:
				t.Errorf("got %+v, want status %s", got, c.status)
			}
			if got.closed {
				t.Error("the connection was ended for a fault of one stream")
			}
			if served.Load() != before {
				t.Error("the handler saw it")
			}
			// The connection is good, and its compression state too.
			client.headers(3, true, get("a", "b")...)
			if got := client.response(3); got.status != "200" {
				t.Errorf("the next request got %+v", got)
			}
		})
	}
	refused := r.server.Stats().Refused
	for _, reason := range []Reason{ReasonPseudo, ReasonConnect, ReasonTarget, ReasonAuthority, ReasonFieldName, ReasonFieldValue, ReasonConnection, ReasonContentLength, ReasonFieldsTooLarge} {
		if refused[reason] == 0 {
			t.Errorf("nothing was counted as %s", reason)
		}
	}
}

func TestAcceptedRequests(t *testing.T) {
	cases := []struct {
		name   string
		fields []string
		want   string // path, query and authority as the handler sees them
	}{
		{"usual", get(), "/||a.test"},
		{"host alone", []string{":method", "GET", ":scheme", "http", ":path", "/", "host", "a.test"}, "/||a.test"},
		{"host agrees", get("host", "a.test"), "/||a.test"},
		{"star", []string{":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a.test"}, "*||a.test"},
		{"query", []string{":method", "GET", ":scheme", "https", ":path", "/a%2f?b?{c}", ":authority", "[::1]:80"}, "/a%2f|b?{c}|[::1]:80"},
		{"te trailers", get("te", "trailers"), "/||a.test"},
	}
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		answer(x, 200, x.Request.Path+"|"+x.Request.Query+"|"+x.Request.Authority)
	}}})
	for _, c := range cases {
		client := dialRaw(t, r.address)
		client.headers(1, true, c.fields...)
		if got := client.response(1); got.status != "200" || got.body != c.want {
			t.Errorf("%s: got %+v, want %q", c.name, got, c.want)
		}
	}
}

// TestBodyLengthDisagrees sends bodies that are not as long as announced: the
// handler may have begun, but must not take the body for whole.
func TestBodyLengthDisagrees(t *testing.T) {
	for _, c := range []struct{ name, body string }{{"short", "12"}, {"long", "1234"}} {
		t.Run(c.name, func(t *testing.T) {
			read := make(chan error, 1)
			began := make(chan struct{})
			r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
				close(began)
				_, err := readAll(x.Request.Body)
				read <- err
			}}})
			client := dialRaw(t, r.address)
			client.headers(1, false, post("content-length", "3")...)
			<-began
			client.check(client.framer.WriteData(1, true, []byte(c.body)))
			if got := client.response(1); !got.reset || got.code != http2.ErrCodeProtocol {
				t.Errorf("got %+v", got)
			}
			if failure := exchange.AsError(<-read); failure == nil || failure.Fault != exchange.FaultClient || failure.Status != 400 {
				t.Errorf("the handler read the body with %v", failure)
			}
		})
	}
	t.Run("before it began", func(t *testing.T) {
		var served atomic.Int64
		r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { served.Add(1); echo(x) }}})
		client := dialRaw(t, r.address)
		var batch strings.Builder
		direct := http2.NewFramer(&batch, nil)
		client.check(direct.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: client.encode(post("content-length", "3")...), EndHeaders: true}))
		client.check(direct.WriteData(1, true, []byte("12")))
		_, err := client.nc.Write([]byte(batch.String()))
		client.check(err)
		if got := client.response(1); !got.reset || got.code != http2.ErrCodeProtocol {
			t.Errorf("got %+v", got)
		}
		if served.Load() != 0 {
			t.Error("the handler saw it")
		}
	})
}

// What must not come in a trailer (RFC 9110, section 6.5.1), and what could
// pass for a field of the gateway's there, goes no further.
func TestForbiddenTrailers(t *testing.T) {
	got := make(chan exchange.Fields, 1)
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		echo(x)
		got <- *x.Request.Body.Trailer()
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, false, post()...)
	client.headers(1, true, "x-sum", "7", "x-release-tag", "v2", "x_real_ip", "10.0.0.1", "authorization", "a", "content-type", "b",
		"if-match", "c", "x-forwarded-any", "d", "range", "e", "x-last", "8")
	if answer := client.response(1); answer.status != "200" {
		t.Fatalf("got %+v", answer)
	}
	trailer := <-got
	if trailer.Len() != 2 || trailer.At(0).Name != "x-sum" || trailer.At(1).Name != "x-last" {
		t.Errorf("trailer is %v", trailer.All())
	}
}
