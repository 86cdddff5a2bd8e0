package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// rawOrigin is an instance that reads what comes over its sockets as leniently
// as net/http does, and keeps account of it.
type rawOrigin struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // mu
	seen  []arrival             // mu
}

// arrival is a request that reached an origin.
type arrival struct {
	line      string // method and target
	host      string
	upgrade   string
	forwarded bool // it bears what the edge adds: it came as a request of its own
}

func newRawOrigin(t testing.TB) *rawOrigin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &rawOrigin{listener: listener, conns: make(map[net.Conn]struct{})}
	o.serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns[nc] = struct{}{}
			o.mu.Unlock()
			o.serving.Go(func() { o.serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		o.mu.Lock()
		for nc := range o.conns {
			_ = nc.Close()
		}
		o.mu.Unlock()
		o.serving.Wait()
	})
	return o
}

func (o *rawOrigin) serve(nc net.Conn) {
	defer func() {
		o.mu.Lock()
		delete(o.conns, nc)
		o.mu.Unlock()
		_ = nc.Close()
	}()
	r := bufio.NewReader(nc)
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch request.RequestURI {
		case "/healthz", "/hostile/bystander":
		default:
			o.mu.Lock()
			o.seen = append(o.seen, arrival{
				line: request.Method + " " + request.RequestURI, host: request.Host, upgrade: request.Header.Get("Upgrade"),
				forwarded: request.Header.Get("X-Forwarded-For") != "",
			})
			o.mu.Unlock()
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		if _, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// take returns what arrived since it was called last.
func (o *rawOrigin) take() []arrival {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.seen
	o.seen = nil
	return seen
}

// expect requires that nothing but the given requests arrived, each as a request
// of its own, in this order.
func (o *rawOrigin) expect(t testing.TB, lines ...string) {
	t.Helper()
	var got []string
	for _, a := range o.take() {
		got = append(got, a.line)
		if !a.forwarded {
			t.Errorf("%s was smuggled past the edge", a.line)
		}
		if a.upgrade != "" && a.upgrade != "websocket" {
			t.Errorf("%s asks for %s", a.line, a.upgrade)
		}
	}
	if !slices.Equal(got, lines) {
		t.Errorf("the origin received %q, want %q", got, lines)
	}
}
