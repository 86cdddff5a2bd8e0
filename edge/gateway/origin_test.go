package gateway

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// origin is a raw endpoint: it keeps what it really received and does what its
// script says with each request head.
type origin struct {
	t        testing.TB
	address  string
	listener net.Listener
	conns    atomic.Int64
	heads    atomic.Int64 // requests whose head came whole
	open     sync.Map

	mu       sync.Mutex
	received []string // mu; heads
}

// newOrigin runs script for each request; the connection ends when it returns
// false.
func newOrigin(t testing.TB, script func(o *origin, nc net.Conn, head string) bool) *origin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{t: t, address: listener.Addr().String(), listener: listener}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			o.conns.Add(1)
			o.open.Store(nc, true)
			serving.Go(func() {
				defer o.open.Delete(nc)
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
				in := bufio.NewReader(nc)
				for {
					head := readHead(in)
					if head == "" {
						return
					}
					o.mu.Lock()
					o.received = append(o.received, head)
					o.mu.Unlock()
					o.heads.Add(1)
					if !script(o, nc, head) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { o.kill(); serving.Wait() })
	return o
}

// kill ends the origin as a dead process ends: nothing listens, all
// connections are reset.
func (o *origin) kill() {
	_ = o.listener.Close()
	o.open.Range(func(nc, _ any) bool {
		_ = nc.(*net.TCPConn).SetLinger(0)
		_ = nc.(*net.TCPConn).Close()
		return true
	})
}

func readHead(in *bufio.Reader) string {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return ""
		}
		head.WriteString(line)
		if line == "\r\n" {
			return head.String()
		}
	}
}

// last is the head received last.
func (o *origin) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.received) == 0 {
		return ""
	}
	return o.received[len(o.received)-1]
}

// answering answers every request with its name as the body.
func answering(name string) func(*origin, net.Conn, string) bool {
	return respondWith("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(name)) + "\r\n\r\n" + name)
}

// respondWith answers every request with the same text.
func respondWith(response string) func(*origin, net.Conn, string) bool {
	return func(_ *origin, nc net.Conn, _ string) bool {
		_, err := io.WriteString(nc, response)
		return err == nil
	}
}

// refusingAddress is one where nothing listens.
func refusingAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
