package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// tlsRig is a rig whose connections are TLS; origin answers over TLS, too, and
// has the certificate of both.
type tlsRig struct {
	*rig
	origin *httptest.Server
	roots  *x509.CertPool
}

const tlsName = "example.com" // what httptest's certificate is for

func newTLSRig(t *testing.T, handler http.HandlerFunc, change func(*Options, *TransportOptions, *proxy)) *tlsRig {
	t.Helper()
	r := &tlsRig{origin: httptest.NewUnstartedServer(handler), roots: x509.NewCertPool()}
	r.origin.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are wanted
	r.origin.StartTLS()
	t.Cleanup(r.origin.Close)
	r.roots.AddCert(r.origin.Certificate())
	engine := newTestEngine(t)
	p := &proxy{}
	options := Options{Engine: engine, Handler: p}
	p.transport = newTestTransport(t, engine, r.origin.Listener.Addr().String(), func(o *TransportOptions) {
		o.TLS = &tls.Config{RootCAs: r.roots, ServerName: tlsName}
		change(&options, o, p)
	})
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: r.origin.TLS.Certificates})
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
			serving.Go(func() { server.ServeConn(nc, exchange.Conn{ID: 1, TLS: &tls.ConnectionState{}}) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Drain(ctx)
		serving.Wait()
	})
	r.rig = &rig{t: t, engine: engine, server: server, address: listener.Addr().String()}
	return r
}

func (r *tlsRig) dialTLS() *client {
	r.t.Helper()
	c := r.dial()
	c.Conn = tls.Client(c.Conn, &tls.Config{RootCAs: r.roots, ServerName: tlsName})
	c.r = bufio.NewReader(c.Conn)
	return c
}

func unchanged(*Options, *TransportOptions, *proxy) {}

func TestTLSOnBothSides(t *testing.T) {
	r := newTLSRig(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.TLS == nil {
			t.Errorf("origin read %d bytes: %v", len(body), err)
		}
		w.Header().Set("X-Seen", r.Method+" "+r.Host+r.URL.RequestURI())
		_, _ = w.Write(body)
		_, _ = w.Write([]byte("!"))
	}, func(_ *Options, _ *TransportOptions, p *proxy) {
		p.prepare = func(x *exchange.Exchange) {
			if x.Request.Scheme != "https" {
				t.Errorf("scheme %q", x.Request.Scheme)
			}
		}
	})
	c := r.dialTLS()
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for _, body := range []string{"", "hello", large} {
		request := fmt.Sprintf("POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		chunked := fmt.Sprintf("POST /a HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", max(len(body), 1), body)
		if body == "" {
			chunked = "GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n"
		}
		for _, text := range []string{request, chunked} {
			c.send(text)
			got := c.receive(http.MethodPost)
			if got.status != 200 || got.body != body+"!" || !strings.Contains(got.header.Get("X-Seen"), "x.test/a") {
				t.Errorf("%.40q of %d bytes: %d with %d bytes", text, len(body), got.status, len(got.body))
			}
		}
	}
	// Several requests in one record, the last in pieces.
	c.send(strings.Repeat("GET /b HTTP/1.1\r\nHost: x.test\r\n\r\n", 3) + "G")
	for range 3 {
		if got := c.receive(http.MethodGet); got.body != "!" {
			t.Errorf("%+v", got)
		}
	}
	for _, piece := range strings.SplitAfter("ET /b HTTP/1.1\r\nHost: x.test\r\n\r\n", "T") {
		c.send(piece)
	}
	if got := c.receive(http.MethodGet); got.body != "!" {
		t.Errorf("%+v", got)
	}
}

// TestTLSConnectionsAreReused: in the pool of endpoints as with clients.
func TestTLSConnectionsAreReused(t *testing.T) {
	var mu sync.Mutex
	peers := make(map[string]bool)
	r := newTLSRig(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		peers[r.RemoteAddr] = true
	}, unchanged)
	c := r.dialTLS()
	ask := func() {
		t.Helper()
		c.send(get + "\r\n")
		if got := c.receive(http.MethodGet); got.status != 200 {
			t.Fatalf("%+v", got)
		}
	}
	for range 5 {
		ask()
	}
	if len(peers) != 1 {
		t.Errorf("%d connections for one client's requests", len(peers))
	}
	r.origin.CloseClientConnections()
	ask() // over a new one, and nobody sees it
}

func TestTLSEndpointIsVerified(t *testing.T) {
	for what, spoil := range map[string]func(*tls.Config){
		"roots": func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
		"name":  func(c *tls.Config) { c.ServerName = "users.test" },
	} {
		reached := false
		var failure *exchange.Error
		r := newTLSRig(t, func(http.ResponseWriter, *http.Request) { reached = true },
			func(_ *Options, o *TransportOptions, p *proxy) {
				spoil(o.TLS)
				p.failed = func(err error) { failure = exchange.AsError(err) }
			})
		c := r.dialTLS()
		c.send(get + "\r\n")
		if got := c.receive(http.MethodGet); got.status != 502 || reached {
			t.Errorf("%s: %d, reached %t", what, got.status, reached)
		}
		if failure.Phase != exchange.PhaseConnect || failure.Fault != exchange.FaultUpstream || failure.Wrote {
			t.Errorf("%s: %+v", what, failure)
		}
	}
	// The host of the address counts where nothing else is said: httptest's
	// certificate is for 127.0.0.1, too.
	r := newTLSRig(t, func(http.ResponseWriter, *http.Request) {}, func(_ *Options, o *TransportOptions, _ *proxy) { o.TLS.ServerName = "" })
	c := r.dialTLS()
	c.send(get + "\r\n")
	if got := c.receive(http.MethodGet); got.status != 200 {
		t.Errorf("%+v", got)
	}
}

// TestSilentTLSEndpoint: the handshake is part of connecting.
func TestSilentTLSEndpoint(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	transport := newTestTransport(t, newTestEngine(t), listener.Addr().String(), func(o *TransportOptions) {
		o.TLS, o.ConnectTimeout = &tls.Config{}, 20*time.Millisecond
	})
	failure := exchange.AsError(transport.RoundTrip(&exchange.Exchange{Request: exchange.Request{Method: "GET", Path: "/"}}))
	if failure == nil || failure.Phase != exchange.PhaseConnect || !failure.Timeout || failure.Wrote {
		t.Errorf("%+v", failure)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("%+v", stats)
	}
}

// flood is a body that never ends.
type flood struct{ piece []byte }

func (b flood) Next() ([]byte, error)     { return b.piece, nil }
func (b flood) Buffered() ([]byte, bool)  { return nil, false }
func (b flood) Trailer() *exchange.Fields { return nil }
func (b flood) Close() error              { return nil }

// TestTLSClientThatDoesNotRead is cut by the sweeper.
func TestTLSClientThatDoesNotRead(t *testing.T) {
	done := make(chan error, 1)
	r := newTLSRig(t, nil, func(o *Options, _ *TransportOptions, _ *proxy) {
		o.WriteTimeout = 50 * time.Millisecond
		o.Handler = &watched{
			serve: func(x *exchange.Exchange) {
				x.Response.Status, x.Response.ContentLength = 200, -1
				x.Response.Body = flood{bytes.Repeat([]byte("x"), 16<<10)}
			},
			done: func(err error) { done <- err },
		}
	})
	c := r.dialTLS()
	c.send(get + "\r\n")
	failure := exchange.AsError(<-done)
	if failure == nil || !failure.Timeout || failure.Fault != exchange.FaultClient {
		t.Errorf("%+v", failure)
	}
}

// TestCutTLSResponseDoesNotLookWhole: where the end of the connection ends the
// response, TLS's farewell would.
func TestCutTLSResponseDoesNotLookWhole(t *testing.T) {
	for _, cut := range []bool{false, true} {
		r := newTLSRig(t, nil, func(o *Options, _ *TransportOptions, _ *proxy) {
			o.Handler = handlerFunc(func(x *exchange.Exchange) {
				x.Response.Status, x.Response.ContentLength = 200, -1
				x.Response.Body = &broken{cut: cut}
			})
		})
		c := r.dialTLS()
		c.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
		got, err := c.tryReceive(http.MethodGet)
		if cut != (err != nil) || got.body != "piece" && !cut {
			t.Errorf("cut %t: %+v, %v", cut, got, err)
		}
	}
}

// broken is a body that ends after a piece, or fails.
type broken struct{ cut, sent bool }

func (b *broken) Next() ([]byte, error) {
	if !b.sent {
		b.sent = true
		return []byte("piece"), nil
	}
	if b.cut {
		return nil, &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultUpstream, Err: io.ErrUnexpectedEOF}
	}
	return nil, io.EOF
}
func (b *broken) Buffered() ([]byte, bool)  { return nil, false }
func (b *broken) Trailer() *exchange.Fields { return nil }
func (b *broken) Close() error              { return nil }

// watched is a handler that says when it is done.
type watched struct {
	serve func(x *exchange.Exchange)
	done  func(err error)
}

func (a *watched) Serve(x *exchange.Exchange)           { a.serve(x) }
func (a *watched) Done(_ *exchange.Exchange, err error) { a.done(err) }

// TestTLSClientGoes while its request is worked on.
func TestTLSClientGoes(t *testing.T) {
	began, cause := make(chan struct{}), make(chan error, 1)
	r := newTLSRig(t, nil, func(o *Options, _ *TransportOptions, _ *proxy) {
		o.Handler = handlerFunc(func(x *exchange.Exchange) {
			close(began)
			happens(func() bool { return x.Cause() != nil })
			cause <- x.Cause()
			x.Response.Status = 204
		})
	})
	c := r.dialTLS()
	c.send(get + "\r\n")
	<-began
	_ = c.Close()
	if err := <-cause; !errors.Is(err, exchange.ErrClientGone) {
		t.Error(err)
	}
}

// TestSlowTLSClients are timed out like others, whether or not TLS has come to
// a whole record.
func TestSlowTLSClients(t *testing.T) {
	r := newTLSRig(t, nil, func(o *Options, _ *TransportOptions, _ *proxy) {
		o.HeadTimeout, o.BodyTimeout, o.Handler = 50*time.Millisecond, 50*time.Millisecond, handlerFunc(echo)
	})
	for _, text := range []string{"GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nbody"} {
		c := r.dialTLS()
		c.send(text)
		if got := c.receive(http.MethodGet); got.status != http.StatusRequestTimeout {
			t.Errorf("%q: %+v", text, got)
		}
	}
	c := r.dialTLS()
	if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Conn.(*tls.Conn).NetConn().Write([]byte{23, 3, 3, 0, 40, 1}); err != nil { // the beginning of a record
		t.Fatal(err)
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("received %q", rest)
	}
}

// TestTunnelOverTLS carries bytes both ways at once.
func TestTunnelOverTLS(t *testing.T) {
	const size = 1 << 20
	r := newTLSRig(t, func(w http.ResponseWriter, _ *http.Request) {
		nc, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, switching+"first")
		_, _ = io.Copy(nc, buffered) // until the client's end
		_, _ = io.WriteString(nc, "last")
	}, unchanged)
	c := r.dialTLS()
	c.send(asking)
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response.Status)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var sending sync.WaitGroup
	sending.Go(func() {
		_, err := c.Write(sent)
		if err = errors.Join(err, c.Conn.(*tls.Conn).CloseWrite()); err != nil {
			t.Error(err)
		}
	})
	got := c.ended()
	sending.Wait()
	if got != "first"+string(sent)+"last" {
		t.Errorf("received %d bytes", len(got))
	}
}

func TestDrainEndsIdleTLSConnections(t *testing.T) {
	r := newTLSRig(t, func(http.ResponseWriter, *http.Request) {}, unchanged)
	c := r.dialTLS()
	c.send(get + "\r\n")
	if got := c.receive(http.MethodGet); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "it is idle", func() bool { return r.server.Stats().Idle == 1 })
	if err := r.server.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("received %q", rest)
	}
}

// lateConn is swept in the moment in which a write of it succeeds.
type lateConn struct {
	net.Conn
	s *sock
}

func (c lateConn) Write(p []byte) (int, error) {
	c.s.writeUntil.Store(expired)
	return len(p), nil
}

// TestWriteThatEndsTooLate counts as timed out: the sweeper's deadline may come
// after it, and TLS does not survive a write that a deadline ends.
func TestWriteThatEndsTooLate(t *testing.T) {
	s := &sock{}
	s.init(lateConn{s: s}, NewEngine())
	if n, err := s.write([]byte("x"), time.Second); n != 1 || !errors.Is(err, errTimeout) {
		t.Errorf("%d, %v", n, err)
	}
}
