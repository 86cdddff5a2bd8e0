package http1

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// origin is a raw endpoint: it keeps what it really received and answers as
// its script says.
type origin struct {
	t       testing.TB
	address string
	conns   atomic.Int64
	bytes   atomic.Int64

	mu       sync.Mutex
	received []byte                // mu; of all connections
	open     map[net.Conn]struct{} // mu
}

// newOrigin runs script for each connection; the connection is closed when it
// returns.
func newOrigin(t testing.TB, script func(o *origin, nc net.Conn)) *origin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{t: t, address: listener.Addr().String(), open: make(map[net.Conn]struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			o.conns.Add(1)
			o.mu.Lock()
			o.open[nc] = struct{}{}
			o.mu.Unlock()
			serving.Go(func() {
				defer o.forget(nc)
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
				script(o, nc)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		o.closeAll(false)
		serving.Wait()
	})
	return o
}

func (o *origin) forget(nc net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, nc)
}

// closeAll closes all connections, by a reset if abrupt.
func (o *origin) closeAll(abrupt bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for nc := range o.open {
		if abrupt {
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
		_ = nc.Close()
	}
}

// readUntil reads from nc until what was read ends in suffix, and returns it;
// empty when the connection ended before.
func (o *origin) readUntil(nc net.Conn, suffix string) string {
	var all []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(nc, one); err != nil {
			return ""
		}
		all = append(all, one[0])
		o.bytes.Add(1)
		o.mu.Lock()
		o.received = append(o.received, one[0])
		o.mu.Unlock()
		if len(all) >= len(suffix) && string(all[len(all)-len(suffix):]) == suffix {
			return string(all)
		}
	}
}

// readN reads n bytes and reports whether they came.
func (o *origin) readN(nc net.Conn, n int) bool {
	buf := make([]byte, n)
	if _, err := io.ReadFull(nc, buf); err != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received = append(o.received, buf...)
	return true
}

// all is everything received so far.
func (o *origin) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.received)
}

// answering answers each head that is followed by no body.
func answering(response string) func(o *origin, nc net.Conn) {
	return func(o *origin, nc net.Conn) {
		for o.readUntil(nc, "\r\n\r\n") != "" {
			if _, err := io.WriteString(nc, response); err != nil {
				return
			}
		}
	}
}

// eventually waits for something another goroutine does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !happens(holds) {
		t.Fatalf("never: %s", what)
	}
}

// happens is eventually for goroutines that may not end a test.
func happens(holds func() bool) bool {
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

const plainOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// newProxyRig is a server whose handler forwards everything to address.
func newProxyRig(t testing.TB, address string, change func(*Options, *TransportOptions, *proxy)) (*rig, *Transport) {
	t.Helper()
	engine := newTestEngine(t)
	options := Options{Engine: engine}
	transportOptions := TransportOptions{Address: address, Engine: engine, ConnectTimeout: 5 * time.Second}
	handler := &proxy{}
	if change != nil {
		change(&options, &transportOptions, handler)
	}
	transport, err := NewTransport(transportOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = transport.Close() })
	handler.transport = transport
	options.Handler = handler
	return newRig(t, options), transport
}
