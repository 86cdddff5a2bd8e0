package http1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// proxy is the least a gateway does: one transport, errors as statuses.
type proxy struct {
	transport exchange.Transport
	prepare   func(x *exchange.Exchange)
	served    func(x *exchange.Exchange)
	failed    func(err error)
	done      func(x *exchange.Exchange, err error)
}

func (p *proxy) Serve(x *exchange.Exchange) {
	if p.prepare != nil {
		p.prepare(x)
	}
	err := p.transport.RoundTrip(x)
	if p.served != nil {
		p.served(x)
	}
	if err == nil {
		return
	}
	if p.failed != nil {
		p.failed(err)
	}
	failure := exchange.AsError(err)
	x.Response.Reset()
	switch {
	case failure.Status != 0:
		x.Response.Status = failure.Status
	case failure.Timeout:
		x.Response.Status = 504
	default:
		x.Response.Status = 502
	}
}

func (p *proxy) Done(x *exchange.Exchange, err error) {
	if p.done != nil {
		p.done(x, err)
	}
}

// rig is a server on loopback.
type rig struct {
	t       testing.TB
	engine  *Engine
	server  *Server
	address string
}

func newRig(t testing.TB, options Options) *rig {
	t.Helper()
	if options.Engine == nil {
		options.Engine = newTestEngine(t)
	}
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.ServeConn(nc, exchange.Conn{ID: 1}) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Drain(ctx)
		serving.Wait()
	})
	return &rig{t: t, engine: options.Engine, server: server, address: listener.Addr().String()}
}

func newTestEngine(t testing.TB) *Engine {
	engine := NewEngine()
	engine.poison = true
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return engine
}

func newTestTransport(t testing.TB, engine *Engine, address string, change func(*TransportOptions)) *Transport {
	t.Helper()
	options := TransportOptions{Address: address, Engine: engine, ConnectTimeout: 5 * time.Second}
	if change != nil {
		change(&options)
	}
	transport, err := NewTransport(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// client is a raw connection to the rig.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{Conn: nc, t: r.t, r: bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer is a response with its whole body.
type answer struct {
	status  int
	header  http.Header
	length  int64 // announced, -1 when nothing is
	chunked bool
	closes  bool
	body    string
	trailer http.Header
}

// receive reads one response to a request of the method.
func (c *client) receive(method string) answer {
	c.t.Helper()
	a, err := c.tryReceive(method)
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	return a
}

func (c *client) tryReceive(method string) (answer, error) {
	response, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	length := int64(-1)
	if announced := response.Header.Get("Content-Length"); announced != "" {
		length, _ = strconv.ParseInt(announced, 10, 64)
	}
	return answer{
		status: response.StatusCode, header: response.Header, length: length,
		chunked: len(response.TransferEncoding) > 0, closes: response.Close,
		body: string(body), trailer: response.Trailer,
	}, err
}

// ended reads to the end of the connection and returns what came before it.
func (c *client) ended() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("end of connection: %v", err)
	}
	return string(rest)
}

// handlerFunc is a handler that is done when it has served.
type handlerFunc func(x *exchange.Exchange)

func (f handlerFunc) Serve(x *exchange.Exchange)     { f(x) }
func (f handlerFunc) Done(*exchange.Exchange, error) {}

func newReader(text string) *bufio.Reader { return bufio.NewReader(strings.NewReader(text)) }
