package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// TransportOptions configure a [Transport]. Zero values of limits and
// timeouts mean the default named with them.
type TransportOptions struct {
	// Address is the endpoint's host:port. Required.
	Address string
	// Engine keeps the deadlines; somebody must run it. Required.
	Engine *Engine
	// TLS makes the connections TLS that negotiates h2. nil: cleartext with
	// prior knowledge.
	TLS *tls.Config
	// Dial opens a connection to Address, without TLS. The default is TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ConnectTimeout is used for exchanges that set none; TLS is included.
	// Default 250 ms.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection without exchanges is kept. Default
	// 90 s.
	IdleTimeout time.Duration
	// WriteTimeout bounds a write without progress, and the wait for a window
	// of exchanges that set no Timeouts.Idle. Default 30 s.
	WriteTimeout time.Duration
	// PingInterval is after how long a silence an exchange asks its connection
	// for a sign of life, PingTimeout how long that may take before the
	// connection is given up. Defaults 15 s and 5 s.
	PingInterval, PingTimeout time.Duration
	// MaxConns bounds the connections, those being opened included, and
	// MaxStreamsPerConn the exchanges on each, as the endpoint's settings do:
	// exchanges beyond get exchange.ErrPoolExhausted. Defaults 16 and 100.
	MaxConns, MaxStreamsPerConn int
	// StreamWindow and ConnWindow bound the bytes of response bodies that were
	// received and not pulled, of an exchange and of a connection. Defaults
	// 256 KiB and 4 MiB; 64 KiB to 1 GiB.
	StreamWindow, ConnWindow int
	// MaxHeadBytes bounds a header section as RFC 9113, section 6.5.2 counts
	// it. Default 32 KiB.
	MaxHeadBytes int
	// MaxFields bounds the number of header fields. Default 128.
	MaxFields int
	// HoldBodies: a request body that does not fit into the first write is
	// announced with Expect, and pulled only when the endpoint asks for it with
	// 100 (Continue) or begins an answer that goes on behind its head. An
	// endpoint that answers with a head alone leaves the request as it was: it
	// can be sent elsewhere, however long its body is.
	HoldBodies bool
}

func (o *TransportOptions) validate() error {
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return fmt.Errorf("http2: endpoint address %q: %w", o.Address, err)
	}
	switch {
	case o.Engine == nil:
		return errors.New("http2: a transport needs an engine")
	case o.MaxConns < 0 || o.MaxStreamsPerConn < 0 || o.MaxHeadBytes < 0 || o.MaxFields < 0:
		return errors.New("http2: a limit is negative")
	case o.ConnectTimeout < 0 || o.IdleTimeout < 0 || o.WriteTimeout < 0 || o.PingInterval < 0 || o.PingTimeout < 0:
		return errors.New("http2: a timeout is negative")
	}
	return validateWindows(o.StreamWindow, o.ConnWindow)
}

func (o *TransportOptions) setDefaults() {
	orDefault(&o.ConnectTimeout, 250*time.Millisecond)
	orDefault(&o.IdleTimeout, 90*time.Second)
	orDefault(&o.WriteTimeout, 30*time.Second)
	orDefault(&o.PingInterval, 15*time.Second)
	orDefault(&o.PingTimeout, 5*time.Second)
	orDefault(&o.MaxConns, 16)
	orDefault(&o.MaxStreamsPerConn, 100)
	orDefault(&o.StreamWindow, 256<<10)
	orDefault(&o.ConnWindow, 4<<20)
	orDefault(&o.MaxHeadBytes, 32<<10)
	orDefault(&o.MaxFields, 128)
}

// Transport carries exchanges to one endpoint, many on each connection.
type Transport struct {
	options TransportOptions
	link    linkOptions
	eng     *Engine
	dialer  exchange.Dialer
	refused [reasonCount]atomic.Int64

	mu      sync.Mutex
	conns   []*clientConn // mu; those that take exchanges
	open    int           // mu; connections that exist or are being opened
	flying  int           // mu; exchanges that have a place
	dialing *dialing      // mu; the attempt that others may wait for
	closed  bool          // mu
}

var _ exchange.Transport = (*Transport)(nil)

// NewTransport returns a transport to one endpoint. Close must be called to
// let go of it.
func NewTransport(options TransportOptions) (*Transport, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	options.setDefaults()
	t := &Transport{
		options: options, eng: options.Engine,
		dialer: exchange.Dialer{Address: options.Address, Connect: options.Dial, Protocol: "h2", Timeout: options.ConnectTimeout},
	}
	if t.dialer.Connect == nil {
		t.dialer.Connect = new(net.Dialer).DialContext
	}
	if options.TLS != nil {
		t.dialer.TLS = options.TLS.Clone()
		t.dialer.TLS.NextProtos = []string{"h2"}
		if t.dialer.TLS.ServerName == "" {
			t.dialer.TLS.ServerName, _, _ = net.SplitHostPort(options.Address) // validated
		}
	}
	t.link = linkOptions{
		client: true, counts: &t.refused,
		headerBytes: options.MaxHeadBytes, fields: options.MaxFields,
		window: options.StreamWindow, connWindow: options.ConnWindow,
		headTimeout: options.WriteTimeout, bodyTimeout: options.WriteTimeout, writeTimeout: options.WriteTimeout,
	}
	return t, nil
}

// Close closes the connections without exchanges, and the others when their
// exchanges end. RoundTrip fails from now on.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	conns := t.conns
	t.conns = nil
	var unused []*clientConn
	for _, c := range conns {
		c.leaving = true
		if c.reserved == 0 {
			unused = append(unused, c)
		}
	}
	t.mu.Unlock()
	for _, c := range unused {
		c.leave()
		<-c.done
	}
	return nil
}

// TransportStats are a transport's connections and exchanges at one moment.
type TransportStats struct {
	Open     int // connections, those being opened included
	Idle     int // of them, those without exchanges that take some
	InFlight int // exchanges
	// Refused counts responses and connections that were refused, by reason.
	Refused map[Reason]int64
}

// Stats counts.
func (t *Transport) Stats() TransportStats {
	stats := TransportStats{Refused: make(map[Reason]int64)}
	for reason := range t.refused {
		if n := t.refused[reason].Load(); n > 0 {
			stats.Refused[Reason(reason)] = n
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	stats.Open, stats.InFlight = t.open, t.flying
	for _, c := range t.conns {
		if c.reserved == 0 {
			stats.Idle++
		}
	}
	return stats
}

// maxRepeats bounds how often an exchange that met a connection about to end
// tries another.
const maxRepeats = 2

// RoundTrip implements [exchange.Transport].
func (t *Transport) RoundTrip(x *exchange.Exchange) error {
	for n := 0; ; n++ {
		c, failure := t.get(x)
		if failure != nil {
			return failure
		}
		call := t.eng.calls.Get().(*call)
		failure = call.start(t, c, x)
		if failure == nil {
			return nil
		}
		again := n < maxRepeats && !failure.Wrote && failure.Fault == exchange.FaultUpstream && !failure.Timeout
		call.Release()
		if !again {
			return failure
		}
	}
}

// get reserves a place on a connection, a new one if need be.
func (t *Transport) get(x *exchange.Exchange) (*clientConn, *exchange.Error) {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrClosed}
		}
		if c := t.leastUsed(); c != nil {
			t.reserve(c)
			t.mu.Unlock()
			return c, nil
		}
		d := t.dialing
		if d != nil && d.waiting < t.options.MaxStreamsPerConn-1 {
			d.waiting++
			t.mu.Unlock()
			if failure := d.wait(t, x); failure != nil {
				return nil, failure
			}
			continue
		}
		if t.open >= t.options.MaxConns {
			t.mu.Unlock()
			return nil, &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrPoolExhausted}
		}
		t.open++
		d = &dialing{done: make(chan struct{})}
		t.dialing = d
		t.mu.Unlock()
		nc, failure := t.dialer.Dial(x)
		var c *clientConn
		if failure == nil {
			c = newClientConn(t, nc)
		}
		t.mu.Lock()
		if t.dialing == d {
			t.dialing = nil
		}
		d.failure = failure
		if failure != nil {
			t.open--
		} else {
			t.reserve(c)
			c.leaving = t.closed
			if !t.closed {
				t.conns = append(t.conns, c)
			}
		}
		t.mu.Unlock()
		close(d.done)
		return c, failure
	}
}

// leastUsed is the connection with the fewest exchanges that has room for one
// more. mu is held.
func (t *Transport) leastUsed() *clientConn {
	var least *clientConn
	for _, c := range t.conns {
		if c.reserved < int(c.capacity.Load()) && (least == nil || c.reserved < least.reserved) {
			least = c
		}
	}
	return least
}

// reserve takes a place on a connection. mu is held.
func (t *Transport) reserve(c *clientConn) {
	c.reserved++
	t.flying++
}

// release gives a place on a connection back.
func (t *Transport) release(c *clientConn) {
	t.mu.Lock()
	c.reserved--
	t.flying--
	last := c.leaving && c.reserved == 0
	t.mu.Unlock()
	if last {
		c.leave()
	}
}

// retire takes a connection out of use; it ends with its last exchange.
func (t *Transport) retire(c *clientConn) {
	t.mu.Lock()
	c.leaving = true
	for i, other := range t.conns {
		if other == c {
			t.conns = append(t.conns[:i], t.conns[i+1:]...)
			break
		}
	}
	last := c.reserved == 0
	t.mu.Unlock()
	if last {
		c.leave()
	}
}

// unused reports whether a connection has no exchange, and takes it out of use
// then.
func (t *Transport) unused(c *clientConn) bool {
	t.mu.Lock()
	busy := c.reserved > 0
	t.mu.Unlock()
	if !busy {
		t.retire(c)
	}
	return !busy
}
