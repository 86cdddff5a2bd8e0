//go:build !race

package gateway

// Not under the race detector, where sync.Pool drops at random what it is given.

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// wholeWay is one request over loopback: client, codec, pipeline, transport,
// origin, all in this process. Client and origin allocate nothing themselves.
func wholeWay(t testing.TB) (once func()) {
	r := newRig(t, func(o *Options) { o.AccessLog = nil })
	r.configure(usersConfig(federation.Strict))
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		nc, err := listener.Accept() // one client, so one connection
		if err != nil {
			return
		}
		defer nc.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write(response); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { _ = r.gateway.Close(); _ = listener.Close(); serving.Wait() })
	r.register(instance("a", "az1", "v2", listener.Addr().String()))
	c := r.dial()
	_ = c.SetDeadline(time.Time{})
	request := []byte("GET /api/v1/users/17 HTTP/1.1\r\nHost: users.test\r\nUser-Agent: bench\r\nAccept: */*\r\nx-release-tag: v2-beta\r\n\r\n")
	buf := make([]byte, 8192)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 1024; {
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
}

func TestWholeWayAllocatesNothing(t *testing.T) {
	once := wholeWay(t)
	for range 100 {
		once()
	}
	// The average: once a second a new Date field is made.
	if n := testing.AllocsPerRun(2000, once); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkProxy(b *testing.B) {
	once := wholeWay(b)
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
