package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Dialer opens the connections of a transport to its endpoint.
type Dialer struct {
	// Address is the endpoint's host:port.
	Address string
	// Connect opens a connection to Address, without TLS.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS has a ServerName; nil: cleartext.
	TLS *tls.Config
	// Protocol is what the endpoint must agree to within TLS (RFC 7301); empty:
	// whatever it takes.
	Protocol string
	// Timeout is for exchanges that set no Timeouts.Connect.
	Timeout time.Duration
}

// TimeoutOf bounds connecting for an exchange, TLS included where that has no
// time of its own.
func (d *Dialer) TimeoutOf(x *Exchange) time.Duration {
	if x.Timeouts.Connect > 0 {
		return x.Timeouts.Connect
	}
	return d.Timeout
}

// Dial opens a connection for an exchange, within its times and until it is
// cancelled.
func (d *Dialer) Dial(x *Exchange) (net.Conn, *Error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.TimeoutOf(x)+x.Timeouts.TLS)
	defer cancel()
	if !x.Deadline.IsZero() {
		var cancelDeadline context.CancelFunc
		ctx, cancelDeadline = context.WithDeadline(ctx, x.Deadline)
		defer cancelDeadline()
	}
	if cause := x.Await(dialing{cancel}); cause != nil {
		return nil, Cancelled(cause, PhaseConnect, false)
	}
	conn, err := d.open(ctx, x)
	_ = x.Await(nil) // it fails for a non-nil argument only
	if err == nil {
		return conn, nil
	}
	if cause := x.Cause(); cause != nil {
		return nil, Cancelled(cause, PhaseConnect, false)
	}
	failure := &Error{Phase: PhaseConnect, Fault: FaultUpstream, Err: fmt.Errorf("connect to %s: %w", d.Address, err)}
	if timedOut, ok := errors.AsType[net.Error](err); ok {
		failure.Timeout = timedOut.Timeout()
	}
	if shortage(err) {
		failure.Fault = FaultGateway
	}
	return nil, failure
}

// dialing is what a cancellation interrupts while a connection is opened.
type dialing struct{ cancel context.CancelFunc }

// Interrupt implements [Interrupter].
func (d dialing) Interrupt() { d.cancel() }

func (d *Dialer) open(ctx context.Context, x *Exchange) (net.Conn, error) {
	reach, cancel := context.WithTimeout(ctx, d.TimeoutOf(x))
	defer cancel()
	conn, err := d.Connect(reach, "tcp", d.Address)
	if err != nil || d.TLS == nil {
		return conn, err
	}
	if x.Timeouts.TLS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.Timeouts.TLS)
		defer cancel()
	}
	secure := tls.Client(conn, d.TLS)
	err = secure.HandshakeContext(ctx)
	if err == nil && d.Protocol != "" && secure.ConnectionState().NegotiatedProtocol != d.Protocol {
		err = fmt.Errorf("endpoint does not negotiate %s", d.Protocol)
	}
	if err != nil {
		_ = conn.Close() // err says why
		return nil, fmt.Errorf("tls handshake: %w", err)
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
