package http2

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// scriptedConn is a connection whose peer says what it says and then closes.
type scriptedConn struct {
	mu      sync.Mutex
	in      *bytes.Reader
	written int
	closed  bool
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.in.Read(p)
}

func (c *scriptedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, os.ErrClosed
	}
	c.written += len(p)
	return len(p), nil
}

func (c *scriptedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *scriptedConn) LocalAddr() net.Addr              { return nil }
func (c *scriptedConn) RemoteAddr() net.Addr             { return nil }
func (c *scriptedConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer sends anything behind a good beginning. Nothing may panic, every
// handler ends, no stream or byte of the windows is lost, and what is written
// is bounded by what was read.
func FuzzServer(f *testing.F) {
	r := newRaw(f, &scriptedConn{in: bytes.NewReader(nil)})
	block := r.encode(post("content-length", "3")...)
	good := appendHeaderBlock(nil, block, 1, false, 10)
	good = append(appendFrameHeader(good, 3, http2.FrameData, http2.FlagDataEndStream, 1), "abc"...)
	f.Add(good)
	f.Add(appendReset(append([]byte(nil), good...), 1, http2.ErrCodeCancel))
	f.Add(appendWindowUpdate(append([]byte(nil), good...), 1, 100))
	f.Add(appendGoAway(appendPing(append([]byte(nil), good...), 0, [8]byte{}), 1, 0))
	f.Add(appendHeaderBlock(nil, r.encode(connect("websocket")...), 3, false, maxFrame))
	f.Add(appendWindowUpdate(append([]byte(nil), good...), 0, 0)) // a fault before the handler has begun
	f.Add(appendSettings(nil, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	engine := NewEngine()
	server, err := NewServer(Options{Engine: engine, Handler: handler{serve: func(x *exchange.Exchange) {
		if x.Request.Method == http.MethodConnect || x.Request.Path == "" || !validAuthority(x.Request.Authority) {
			panic("a request that must not reach a handler")
		}
		echo(x)
	}}, WriteTimeout: time.Nanosecond})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(engine.workers.stop)
	f.Fuzz(func(t *testing.T, frames []byte) {
		script := append(appendSettings([]byte(http2.ClientPreface)), frames...)
		nc := &scriptedConn{in: bytes.NewReader(script)}
		c := newServerConn(server, nc, exchange.Conn{})
		engine.add(c)
		c.serve()
		engine.remove(c)
		if len(c.streams) != 0 || c.active != 0 || c.working != 0 || len(c.blocked) != 0 {
			t.Errorf("%d streams, %d active, %d working, %d blocked are left", len(c.streams), c.active, c.working, len(c.blocked))
		}
		if _, faulty := errors.AsType[*fault](c.err); !faulty && c.recvWindow+c.credit != int64(c.opts.connWindow) {
			t.Errorf("the window is %d and %d, after %v", c.recvWindow, c.credit, c.err)
		}
		if most := 1<<10 + 40*len(script); nc.written > most {
			t.Errorf("%d bytes were written for %d", nc.written, len(script))
		}
	})
}

// FuzzTransport has an endpoint that answers with anything behind a good
// beginning. Nothing may panic, and no exchange or connection is left over.
func FuzzTransport(f *testing.F) {
	r := newRaw(f, &scriptedConn{in: bytes.NewReader(nil)})
	good := appendHeaderBlock(nil, r.encode(":status", "103", "link", "a"), 1, false, maxFrame)
	good = appendHeaderBlock(good, r.encode(":status", "200", "content-length", "3"), 1, false, maxFrame)
	good = append(appendFrameHeader(good, 3, http2.FrameData, 0, 1), "abc"...)
	f.Add(appendHeaderBlock(append([]byte(nil), good...), r.encode("x-trailer", "a"), 1, true, maxFrame))
	f.Add(appendReset(append([]byte(nil), good...), 1, http2.ErrCodeNo))
	f.Add(appendGoAway(append([]byte(nil), good...), 0, http2.ErrCodeNo))
	f.Add(appendReset(nil, 1, http2.ErrCodeRefusedStream))
	f.Add(appendWindowUpdate(nil, 1, maxWindow))
	engine := NewEngine()
	f.Cleanup(engine.workers.stop)
	f.Fuzz(func(t *testing.T, frames []byte) {
		script := append(appendSettings(nil, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}), frames...)
		transport, err := NewTransport(TransportOptions{Engine: engine, Address: "a.test:80", Dial: func(context.Context, string, string) (net.Conn, error) {
			return &scriptedConn{in: bytes.NewReader(script)}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []*exchange.Exchange{request(http.MethodGet, nil, 0), request(http.MethodPost, &scripted{pieces: []string{"a", "b"}}, -1)} {
			x.Interim = new(hinted)
			if err := transport.RoundTrip(x); err == nil {
				if x.Response.Status < 200 || x.Response.Status > 599 {
					t.Errorf("status is %d", x.Response.Status)
				}
				body, err := readAll(x.Response.Body)
				if err == nil && x.Response.Body != nil && x.Response.ContentLength >= 0 && int64(len(body)) != x.Response.ContentLength {
					t.Errorf("%d bytes of %d", len(body), x.Response.ContentLength)
				}
			}
			end(x)
		}
		_ = transport.Close()
		await(t, "the connections' end", func() bool {
			stats := transport.Stats()
			return stats.Open == 0 && stats.InFlight == 0
		})
	})
}
