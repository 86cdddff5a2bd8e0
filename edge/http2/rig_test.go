package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// handler is a handler made of functions.
type handler struct {
	serve func(x *exchange.Exchange)
	done  func(x *exchange.Exchange, err error)
}

func (h handler) Serve(x *exchange.Exchange) { h.serve(x) }

func (h handler) Done(x *exchange.Exchange, err error) {
	if h.done != nil {
		h.done(x, err)
	}
}

// readAll pulls a whole body.
func readAll(body exchange.Body) ([]byte, error) {
	var all []byte
	for body != nil {
		piece, err := body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return all, err
		}
		all = append(all, piece...)
	}
	return all, nil
}

// answer makes a response of a text.
func answer(x *exchange.Exchange, status int, text string) {
	body := new(exchange.BytesBody)
	body.Set([]byte(text))
	x.Response.Status, x.Response.ContentLength = status, int64(len(text))
	if x.Request.Method != http.MethodHead {
		x.Response.Body = body
	}
}

// echo answers with the request's body.
func echo(x *exchange.Exchange) {
	body, err := readAll(x.Request.Body)
	if err != nil {
		answer(x, 400, "body: "+err.Error())
		return
	}
	answer(x, 200, string(body))
}

// runEngine runs an engine for the test.
func runEngine(t testing.TB) *Engine {
	t.Helper()
	engine := NewEngine()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return engine
}

// rig is a server on loopback.
type rig struct {
	t       testing.TB
	engine  *Engine
	server  *Server
	address string
	drained sync.Once
}

func newRig(t testing.TB, options Options) *rig { return newTLSRig(t, options, nil) }

func newTLSRig(t testing.TB, options Options, config *tls.Config) *rig {
	t.Helper()
	if options.Engine == nil {
		options.Engine = runEngine(t)
	}
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, engine: options.Engine, server: server, address: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				info := exchange.Conn{ID: 1}
				if config != nil {
					secure := tls.Server(nc, config)
					if err := secure.Handshake(); err != nil {
						_ = nc.Close()
						return
					}
					state := secure.ConnectionState()
					info.TLS = &state
					nc = secure
				}
				server.ServeConn(nc, info)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.drained.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			_ = server.Drain(ctx)
		})
		serving.Wait()
	})
	return r
}

// await waits for a condition.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// reuse answers without allocating.
type reuse struct{ text []byte }

func newReuse() *reuse { return &reuse{text: []byte("hello, world")} }

func (h *reuse) Serve(x *exchange.Exchange) {
	body, ok := x.State.(*exchange.BytesBody)
	if !ok {
		body = new(exchange.BytesBody)
		x.State = body
	}
	body.Set(h.text)
	x.Response.Status, x.Response.ContentLength, x.Response.Body = 200, 12, body
	x.Response.Header.Append(exchange.Field{Name: "Content-Type", Value: "text/plain", ID: exchange.FieldContentType})
}

func (*reuse) Done(*exchange.Exchange, error) {}
