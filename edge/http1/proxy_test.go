package http1

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProxy(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Method+" "+r.Host+r.URL.RequestURI())
		if r.URL.Query().Get("flush") != "" {
			w.(http.Flusher).Flush()
		}
		_, _ = w.Write(body)
		_, _ = w.Write([]byte("!"))
	}))
	defer origin.Close()
	engine := newTestEngine(t)
	transport := newTestTransport(t, engine, origin.Listener.Addr().String(), nil)
	rig := newRig(t, Options{Engine: engine, Handler: &proxy{transport: transport}})
	c := rig.dial()
	for i, request := range []string{
		"GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhello",
		"POST /a HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		"POST /a?flush=1 HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
	} {
		c.send(request)
		response := c.receive(http.MethodGet)
		if i == 0 && response.body != "!" || i > 0 && response.body != "hello!" {
			t.Errorf("%q: %+v", request, response)
		}
		if !strings.Contains(response.header.Get("X-Seen"), "x.test/a") {
			t.Errorf("%v", response.header)
		}
	}
	if stats := transport.Stats(); stats.Open != 1 || stats.Idle != 1 {
		t.Errorf("stats %+v", stats)
	}
}
