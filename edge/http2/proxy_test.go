package http2

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// proxy is the least a gateway does: one transport, errors as statuses.
type proxy struct {
	transport exchange.Transport
	prepare   func(x *exchange.Exchange)
	failed    func(err error)
	done      func(x *exchange.Exchange, err error)
}

func (p *proxy) Serve(x *exchange.Exchange) {
	if p.prepare != nil {
		p.prepare(x)
	}
	err := p.transport.RoundTrip(x)
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

// newOrigin is net/http's server on HTTP/2 over cleartext.
func newOrigin(t testing.TB, h http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// newProxy is a gateway in front of an endpoint.
func newProxy(t testing.TB, p *proxy, upstream TransportOptions) *rig {
	t.Helper()
	engine := runEngine(t)
	upstream.Engine = engine
	if upstream.ConnectTimeout == 0 {
		upstream.ConnectTimeout = 5 * time.Second
	}
	transport, err := NewTransport(upstream)
	if err != nil {
		t.Fatal(err)
	}
	p.transport = transport
	t.Cleanup(func() { _ = transport.Close() })
	return newRig(t, Options{Handler: p, Engine: engine})
}
