package listen

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const (
	benchRequest  = "GET /api/v1/users/17 HTTP/1.1\r\nHost: x.test\r\nUser-Agent: bench\r\nAccept: */*\r\nx-release-tag: v2-beta\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"
)

// startOrigin answers whatever it reads, with as little work as can be.
func startOrigin(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	response := []byte(benchResponse + strings.Repeat("x", 1024))
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for buf := make([]byte, 4096); ; {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if _, err := conn.Write(response); err != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(serving.Wait)
	b.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// ask sends the request and reads the response.
func ask(conn net.Conn, buf []byte) error {
	if _, err := conn.Write([]byte(benchRequest)); err != nil {
		return err
	}
	for got := 0; got < 1024+len(benchResponse); {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// BenchmarkTLSProxy reports the CPU time that a proxied request over TLS costs
// the proxy's process, next to that of a proxy of net/http.
func BenchmarkTLSProxy(b *testing.B) {
	a := newAuthority(b)
	pair := a.issue(b, b.TempDir(), 1)
	for _, kind := range []string{"grayfed", "net/http"} {
		b.Run(kind, func(b *testing.B) {
			p := startProxy(b, kind, startOrigin(b), pair)
			const conns = 32
			clients := make([]*tls.Conn, conns)
			for i := range clients {
				conn, err := tls.Dial("tcp", p.address, a.client("http/1.1"))
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				if err := ask(conn, make([]byte, 8192)); err != nil {
					b.Fatal(err)
				}
				clients[i] = conn
			}
			begin := p.cpu()
			b.ResetTimer()
			var asking sync.WaitGroup
			for i, conn := range clients {
				n := b.N / conns
				if i < b.N%conns {
					n++
				}
				asking.Go(func() {
					for buf := make([]byte, 8192); n > 0; n-- {
						if err := ask(conn, buf); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			asking.Wait()
			b.StopTimer()
			b.ReportMetric(float64(p.cpu()-begin)/float64(b.N)/1e3, "proxy-cpu-µs/op")
		})
	}
}

// BenchmarkIdleTLS holds 10,000 TLS connections, or as many as descriptors
// allow, that have each carried a request, and reports the memory that they
// cost the proxy.
func BenchmarkIdleTLS(b *testing.B) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	count := min(10_000, int(min(limit.Cur, 1<<20))-100)
	a := newAuthority(b)
	pair := a.issue(b, b.TempDir(), 1)
	for _, kind := range []string{"grayfed", "net/http"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				p := startProxy(b, kind, startOrigin(b), pair)
				before := p.anonymous()
				buf := make([]byte, 8192)
				for range count {
					conn, err := tls.Dial("tcp", p.address, a.client("http/1.1"))
					if err != nil {
						b.Fatal(err)
					}
					defer conn.Close()
					if err := ask(conn, buf); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(count), "conns")
				b.ReportMetric(float64(p.anonymous()-before)/float64(count), "RssAnon-B/conn")
			}
		})
	}
}
