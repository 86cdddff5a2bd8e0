package http1

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
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

// rawOrigin answers each request head that has no body with a fixed text.
func rawOrigin(t testing.TB, response string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	answer := []byte(response)
	go func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := nc.Read(buf); err != nil {
						return
					}
					if _, err := nc.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func BenchmarkProxy(b *testing.B) {
	origin := rawOrigin(b, "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"+strings.Repeat("x", 1024))
	engine := newTestEngine(b)
	engine.poison = false
	transport := newTestTransport(b, engine, origin, nil)
	rig := newRig(b, Options{Engine: engine, Handler: &proxy{transport: transport}})
	c := rig.dial()
	_ = c.SetDeadline(time.Time{})
	request := []byte("GET /api/v1/users/17 HTTP/1.1\r\nHost: users.test\r\nUser-Agent: bench\r\nAccept: */*\r\nx-release-tag: v2-beta\r\n\r\n")
	buf := make([]byte, 8192)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < 1024; {
			k, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
}
