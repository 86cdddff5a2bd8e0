package http1

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

const (
	benchRequest  = "GET /api/v1/users/17 HTTP/1.1\r\nHost: users.test\r\nUser-Agent: bench\r\nAccept: */*\r\nx-release-tag: v2-beta\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"
)

// serveSockets answers whatever it reads with response, on connections from
// accept, with as little work as can be.
func serveSockets(listener net.Listener, response []byte) (wait func()) {
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				for buf := make([]byte, 4096); ; {
					if _, err := nc.Read(buf); err != nil {
						return
					}
					if _, err := nc.Write(response); err != nil {
						return
					}
				}
			})
		}
	})
	return serving.Wait
}

// benchPath is clients, server, transport and origin over loopback.
func benchPath(t testing.TB) *rig {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wait := serveSockets(listener, []byte(benchResponse+strings.Repeat("x", 1024)))
	t.Cleanup(wait)
	t.Cleanup(func() { _ = listener.Close() })
	engine := newTestEngine(t)
	engine.poison = false
	transport := newTestTransport(t, engine, listener.Addr().String(), nil)
	return newRig(t, Options{Engine: engine, Handler: &proxy{transport: transport}})
}

// ask sends the request n times and reads the responses.
func (c *client) ask(n int, buf []byte) error {
	request := []byte(benchRequest)
	for range n {
		if _, err := c.Write(request); err != nil {
			return err
		}
		for got := 0; got < 1024; {
			k, err := c.Read(buf)
			if err != nil {
				return err
			}
			got += k
		}
	}
	return nil
}

// TestSteadyStateAllocatesNothing counts allocations of the whole process
// while requests go from a client over server and transport to an origin.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates") // and nothing else is to be seen here
		return
	}
	c := benchPath(t).dial()
	buf := make([]byte, 8192)
	if err := c.ask(1000, buf); err != nil {
		t.Fatal(err)
	}
	const rounds = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := c.ask(rounds, buf); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.Mallocs-before.Mallocs) / rounds; each >= 0.01 {
		t.Errorf("%.3f allocations a request", each)
	}
}

// BenchmarkProxy reports the CPU time of a request through server and
// transport, next to that of the same clients asking the origin directly:
// what is left is the gateway's.
func BenchmarkProxy(b *testing.B) {
	for _, conns := range []int{1, 64} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) { benchProxy(b, conns) })
	}
}

func benchProxy(b *testing.B, conns int) {
	rig := benchPath(b)
	b.ReportAllocs()
	clients := make([]*client, conns)
	for i := range clients {
		clients[i] = rig.dial()
		_ = clients[i].SetDeadline(time.Time{})
	}
	begin := cpuTime(b)
	b.ResetTimer()
	var asking sync.WaitGroup
	for i, c := range clients {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		asking.Go(func() {
			if err := c.ask(n, make([]byte, 8192)); err != nil {
				b.Error(err)
			}
		})
	}
	asking.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e3, "cpu-µs/op")
}

// BenchmarkOrigin is BenchmarkProxy's client and origin without a gateway
// between them.
func BenchmarkOrigin(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	wait := serveSockets(listener, []byte(benchResponse+strings.Repeat("x", 1024)))
	defer wait()
	defer listener.Close()
	c := (&rig{t: b, address: listener.Addr().String()}).dial()
	_ = c.SetDeadline(time.Time{})
	begin := cpuTime(b)
	b.ResetTimer()
	if err := c.ask(b.N, make([]byte, 8192)); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e3, "cpu-µs/op")
	_ = c.Close()
}

// cpuTime is what this process has used, in user and system mode.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkIdleConnections holds 10,000 keep-alive connections, or as many as
// descriptors allow, that have each carried a request, and reports what of
// this process's anonymous memory one costs, its client's end (a bare
// descriptor) included.
func BenchmarkIdleConnections(b *testing.B) {
	count := min(10_000, (descriptors(b)-100)/2)
	rig := newRig(b, Options{Handler: handlerFunc(func(x *exchange.Exchange) { x.Response.Status = 204 })})
	for b.Loop() {
		runtime.GC()
		before := anonymous(b)
		fds := make([]int, 0, count)
		buf := make([]byte, 512)
		for range count {
			fd := dialRaw(b, rig.address)
			fds = append(fds, fd)
			if _, err := syscall.Write(fd, []byte(get+"\r\n")); err != nil {
				b.Fatal(err)
			}
			if _, err := syscall.Read(fd, buf); err != nil {
				b.Fatal(err)
			}
		}
		eventually(b, "all are idle", func() bool { return rig.server.Stats().Idle == count })
		b.ReportMetric(float64(count), "conns")
		b.ReportMetric(float64(anonymous(b)-before)/float64(count), "RssAnon-B/conn")
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
		eventually(b, "all are gone", func() bool { return rig.server.Stats().Idle == 0 })
	}
}

// dialRaw connects without net, whose own structures are not the server's.
func dialRaw(b *testing.B, address string) int {
	b.Helper()
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != nil {
		b.Fatal(err)
	}
	return fd
}

// descriptors is how many this process may have open.
func descriptors(b *testing.B) int {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// anonymous is RssAnon of this process in bytes.
func anonymous(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kb, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatal("no RssAnon")
	return 0
}
