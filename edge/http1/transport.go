package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
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
	// TLS makes the connections TLS; nil: cleartext. Without a ServerName in
	// it, the endpoint's certificate must be for Address's host.
	TLS *tls.Config
	// Dial opens a connection to Address, without TLS. The default is TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ConnectTimeout is used for exchanges that set none; TLS is included unless
	// they set Timeouts.TLS. Default 250 ms.
	ConnectTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. Default 60 s.
	IdleTimeout time.Duration
	// WriteTimeout bounds a write without progress, for exchanges that set no
	// Timeouts.Idle. Default 30 s.
	WriteTimeout time.Duration
	// MaxConns bounds the open connections: exchanges beyond get
	// exchange.ErrPoolExhausted. Default 1024.
	MaxConns int
	// MaxIdle bounds the unused connections that are kept. Default MaxConns:
	// closing what a burst needed a moment ago costs more than keeping it for
	// IdleTimeout.
	MaxIdle int
	// MaxHeadBytes bounds a response head, up to 16 KiB. Default 16 KiB.
	MaxHeadBytes int
	// MaxFields bounds the number of header fields. Default 128.
	MaxFields int
}

func (o *TransportOptions) validate() error {
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return fmt.Errorf("http1: endpoint address %q: %w", o.Address, err)
	}
	switch {
	case o.Engine == nil:
		return errors.New("http1: a transport needs an engine")
	case o.MaxConns < 0 || o.MaxIdle < 0 || o.MaxHeadBytes < 0 || o.MaxFields < 0:
		return errors.New("http1: a limit is negative")
	case o.ConnectTimeout < 0 || o.IdleTimeout < 0 || o.WriteTimeout < 0:
		return errors.New("http1: a timeout is negative")
	case o.MaxHeadBytes > bufferSize:
		return fmt.Errorf("http1: a head limit of %d bytes is above %d", o.MaxHeadBytes, bufferSize)
	}
	return nil
}

func (o *TransportOptions) setDefaults() {
	orDefault(&o.ConnectTimeout, 250*time.Millisecond)
	orDefault(&o.IdleTimeout, 60*time.Second)
	orDefault(&o.WriteTimeout, 30*time.Second)
	orDefault(&o.MaxConns, 1024)
	orDefault(&o.MaxIdle, o.MaxConns)
	orDefault(&o.MaxHeadBytes, bufferSize)
	orDefault(&o.MaxFields, 128)
}

// Transport carries exchanges to one endpoint over pooled HTTP/1.1
// connections.
type Transport struct {
	options TransportOptions
	limits  headLimits
	eng     *Engine
	dialer  exchange.Dialer
	index   int // the engine's

	mu     sync.Mutex
	idle   []*upConn // mu; the last one was used last
	open   int       // mu; connections that exist or are being opened
	closed bool      // mu
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
		options: options,
		limits:  headLimits{bytes: options.MaxHeadBytes, fields: options.MaxFields},
		eng:     options.Engine,
		dialer:  exchange.Dialer{Address: options.Address, Connect: options.Dial, Timeout: options.ConnectTimeout},
	}
	if t.dialer.Connect == nil {
		t.dialer.Connect = new(net.Dialer).DialContext
	}
	if options.TLS != nil {
		t.dialer.TLS = options.TLS.Clone()
		if t.dialer.TLS.ServerName == "" {
			t.dialer.TLS.ServerName, _, _ = net.SplitHostPort(options.Address) // it has been checked
		}
	}
	t.eng.add(t)
	return t, nil
}

// Close closes the unused connections, and the others when their exchanges
// end. RoundTrip fails from now on.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	idle := t.idle
	t.idle = nil
	t.open -= len(idle)
	t.mu.Unlock()
	t.eng.remove(t)
	for _, c := range idle {
		c.close()
	}
	return nil
}

// TransportStats are a transport's connections at one moment.
type TransportStats struct {
	Open     int // all, those being opened included
	Idle     int // unused
	InFlight int // in use by an exchange
}

// Stats counts.
func (t *Transport) Stats() TransportStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TransportStats{Open: t.open, Idle: len(t.idle), InFlight: t.open - len(t.idle)}
}

func (t *Transport) slot() *int { return &t.index }

// sweep closes connections that have been unused for too long.
func (t *Transport) sweep(now int64) {
	for {
		c := t.stale(now)
		if c == nil {
			return
		}
		c.close()
	}
}

// stale takes the longest unused connection off the pool if its time is up.
func (t *Transport) stale(now int64) *upConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == 0 || t.idle[0].idleUntil > now {
		return nil
	}
	c := t.idle[0]
	n := copy(t.idle, t.idle[1:])
	t.idle[n] = nil
	t.idle = t.idle[:n]
	t.open--
	return c
}

// RoundTrip implements [exchange.Transport].
func (t *Transport) RoundTrip(x *exchange.Exchange) error {
	for {
		c, err := t.get(x)
		if err != nil {
			return err
		}
		if err := x.Await(c); err != nil {
			t.put(c)
			return exchange.Cancelled(err, exchange.PhaseConnect, false)
		}
		call := t.eng.calls.Get().(*call)
		again, failure := call.start(t, c, x)
		if again {
			continue // the connection had died unused
		}
		if failure != nil {
			return failure
		}
		return nil
	}
}

// get takes an unused connection or opens one.
func (t *Transport) get(x *exchange.Exchange) (*upConn, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrClosed}
	}
	if n := len(t.idle) - 1; n >= 0 {
		c := t.idle[n]
		t.idle[n] = nil
		t.idle = t.idle[:n]
		t.mu.Unlock()
		return c, nil
	}
	if t.open >= t.options.MaxConns {
		t.mu.Unlock()
		return nil, &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrPoolExhausted}
	}
	t.open++
	t.mu.Unlock()
	c, failure := t.connect(x)
	if failure != nil {
		t.forget()
		return nil, failure
	}
	return c, nil
}

func (t *Transport) connect(x *exchange.Exchange) (*upConn, *exchange.Error) {
	nc, failure := t.dialer.Dial(x)
	if failure != nil {
		return nil, failure
	}
	c := &upConn{t: t}
	c.init(nc, t.eng)
	c.stepFn = c.step
	t.eng.add(c)
	return c, nil
}

// put gives a connection back for another exchange.
func (t *Transport) put(c *upConn) {
	c.reused = true
	c.idleUntil = t.eng.until(t.options.IdleTimeout)
	t.mu.Lock()
	if !t.closed && len(t.idle) < t.options.MaxIdle {
		t.idle = append(t.idle, c)
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.discard(c)
}

// discard closes a connection that was in use.
func (t *Transport) discard(c *upConn) {
	c.close()
	t.forget()
}

func (t *Transport) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
}

// upConn is a connection to the endpoint. Unused, it holds no buffer.
type upConn struct {
	sock
	t         *Transport
	reused    bool  // it has carried an exchange
	idleUntil int64 // t.mu, while it is in the pool
	stepFn    func(fd uintptr) bool
	call      *call // the exchange it carries
}

// Interrupt implements [exchange.Interrupter].
func (c *upConn) Interrupt() { c.interrupt() }

func (c *upConn) close() {
	c.eng.remove(c)
	_ = c.nc.Close() // nothing is left to be told
}

// step sends a request and waits for the beginning of the response, in one
// visit to the poller: what arrives after the visit began cannot be missed, so
// that no read has to be tried before there is something.
func (c *upConn) step(fd uintptr) bool {
	call := c.call
	switch call.step {
	case stepCheck:
		if c.reused && !sysQuiet(fd) {
			call.dead = true
			return true
		}
		n, errno := sysSend(fd, call.out)
		call.wrote = n
		if errno != 0 && errno != syscall.EAGAIN {
			call.sendErr = errno
			return true
		}
		if n < len(call.out) || !call.awaits {
			return true
		}
		call.dropOut()
		call.step = stepReceive
		c.waitRead()
		return false
	default:
		call.takeIn()
		c.rn, c.rerr = sysRecv(fd, call.in.buf)
		if c.rerr == syscall.EAGAIN {
			call.dropIn()
			return false
		}
		call.step = stepReceived
		return true
	}
}
