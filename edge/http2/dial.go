package http2

import (
	"fmt"
	"net"
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
		return exchange.Cancelled(cause, exchange.PhaseConnect, false)
	}
	timeout := t.dialer.TimeoutOf(x) + x.Timeouts.TLS
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
		return exchange.Cancelled(cause, exchange.PhaseConnect, false)
	}
	return failure
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
