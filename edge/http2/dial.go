package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// dialing is a connection that is being opened. Others wait for it: what one
// connection carries needs no second.
type dialing struct {
	waiting int           // the transport's mu
	done    chan struct{} // closed at its end
	failure *exchange.Error
}

// patience is what a cancellation interrupts while an exchange waits for a
// connection that another one opens.
type patience chan struct{}

// Interrupt implements [exchange.Interrupter].
func (p patience) Interrupt() { wake(p) }

// wait waits for the connection, as long as x would wait for its own.
func (d *dialing) wait(t *Transport, x *exchange.Exchange) *exchange.Error {
	interrupted := make(patience, 1)
	if cause := x.Await(interrupted); cause != nil {
		return cancelled(cause, exchange.PhaseConnect, false)
	}
	timeout := t.connectTimeout(x) + x.Timeouts.TLS
	if !x.Deadline.IsZero() {
		timeout = min(timeout, time.Until(x.Deadline))
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	failure := &exchange.Error{
		Phase: exchange.PhaseConnect, Fault: exchange.FaultUpstream, Timeout: true,
		Err: fmt.Errorf("connect to %s: %w", t.options.Address, errTimeout),
	}
	select {
	case <-interrupted:
	case <-timer.C:
	case <-d.done:
		failure = nil
		if d.failure != nil && d.failure.Fault == exchange.FaultUpstream {
			copied := *d.failure
			failure = &copied
		}
	}
	_ = x.Await(nil) // it fails for a non-nil argument only
	if cause := x.Cause(); cause != nil {
		return cancelled(cause, exchange.PhaseConnect, false)
	}
	return failure
}

func (t *Transport) connectTimeout(x *exchange.Exchange) time.Duration {
	if x.Timeouts.Connect > 0 {
		return x.Timeouts.Connect
	}
	return t.options.ConnectTimeout
}

// interruptible is what a cancellation interrupts while a connection is opened.
type interruptible struct{ cancel context.CancelFunc }

// Interrupt implements [exchange.Interrupter].
func (i interruptible) Interrupt() { i.cancel() }

func (t *Transport) connect(x *exchange.Exchange) (*clientConn, *exchange.Error) {
	ctx, cancel := context.WithTimeout(context.Background(), t.connectTimeout(x)+x.Timeouts.TLS)
	defer cancel()
	if !x.Deadline.IsZero() {
		var cancelDeadline context.CancelFunc
		ctx, cancelDeadline = context.WithDeadline(ctx, x.Deadline)
		defer cancelDeadline()
	}
	if err := x.Await(interruptible{cancel}); err != nil {
		return nil, cancelled(err, exchange.PhaseConnect, false)
	}
	nc, err := t.openConn(ctx, x)
	_ = x.Await(nil) // it fails for a non-nil argument only
	if err == nil {
		return newClientConn(t, nc), nil
	}
	if cause := x.Cause(); cause != nil {
		return nil, cancelled(cause, exchange.PhaseConnect, false)
	}
	failure := &exchange.Error{
		Phase: exchange.PhaseConnect, Fault: exchange.FaultUpstream,
		Err: fmt.Errorf("connect to %s: %w", t.options.Address, err),
	}
	if timedOut, ok := errors.AsType[net.Error](err); ok {
		failure.Timeout = timedOut.Timeout()
	}
	if shortage(err) {
		failure.Fault = exchange.FaultGateway
	}
	return nil, failure
}

var errNoHTTP2 = errors.New("endpoint does not negotiate h2")

// openConn opens a connection on which HTTP/2 may be spoken.
func (t *Transport) openConn(ctx context.Context, x *exchange.Exchange) (net.Conn, error) {
	reach, cancel := context.WithTimeout(ctx, t.connectTimeout(x))
	defer cancel()
	nc, err := t.dial(reach, "tcp", t.options.Address)
	if err != nil || t.tls == nil {
		return nc, err
	}
	if x.Timeouts.TLS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.Timeouts.TLS)
		defer cancel()
	}
	secure := tls.Client(nc, t.tls)
	if err = secure.HandshakeContext(ctx); err == nil && secure.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoHTTP2
	}
	if err != nil {
		_ = nc.Close() // err says why
		return nil, fmt.Errorf("tls: %w", err)
	}
	return secure, nil
}

// shortage reports an error that says something of this machine, not of the
// endpoint: no descriptor, memory or local port is left.
func shortage(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// newClientConn begins a connection and starts its reader.
func newClientConn(t *Transport, nc net.Conn) *clientConn {
	c := &clientConn{t: t, done: make(chan struct{}), greeted: make(chan struct{})}
	c.init(nc, t.eng, c, &t.link)
	c.nextID = 1
	c.capacity.Store(int32(min(t.options.MaxStreamsPerConn, int(c.peer.streams))))
	t.eng.add(c)
	c.mu.Lock()
	c.put(append(c.room(), preface...))
	c.mu.Unlock()
	c.greet(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(t.options.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(t.options.MaxHeadBytes)},
	)
	go c.run()
	return c
}
