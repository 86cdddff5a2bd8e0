package exchange

import (
	"errors"
	"fmt"
)

// Phase is how far an exchange had come when it failed.
type Phase uint8

// The phases, in order.
const (
	PhaseUnknown Phase = iota
	PhaseParse         // reading the client's request head
	PhaseConnect       // reaching the endpoint, TLS included
	PhaseSend          // sending the request, body included
	PhaseAwait         // waiting for the response head
	PhaseReceive       // reading the response's body or trailers
	PhaseRespond       // writing the response to the client
	PhaseTunnel        // after 101
)

var phaseNames = [...]string{"unknown", "parse", "connect", "send", "await", "receive", "respond", "tunnel"}

// String is the name used in logs.
func (p Phase) String() string {
	if int(p) >= len(phaseNames) {
		return "unknown"
	}
	return phaseNames[p]
}

// Fault is whose failure it was. Only FaultUpstream counts against an
// endpoint's health.
type Fault uint8

// Whose failure it was.
const (
	FaultUnknown  Fault = iota
	FaultClient         // malformed, too slow, gone
	FaultUpstream       // refused, reset, malformed, too slow
	FaultGateway        // ours: a limit, a shutdown, a cancellation by the gateway
)

var faultNames = [...]string{"unknown", "client", "upstream", "gateway"}

// String is the name used in logs.
func (f Fault) String() string {
	if int(f) >= len(faultNames) {
		return "unknown"
	}
	return faultNames[f]
}

// Error is a failure of one attempt or of the exchange.
type Error struct {
	Phase   Phase
	Fault   Fault
	Timeout bool
	// Wrote: at least one byte of the request may have reached the endpoint.
	// While false, the attempt may be repeated for any method.
	Wrote bool
	// Reused: the endpoint's connection had carried other exchanges before.
	// Together with Wrote and no byte of a response this is mostly an
	// endpoint that closed an idle connection at the wrong moment.
	Reused bool
	// Status is what the client is to be told, when this error decides it
	// (400, 408, 413, 431, ...); 0 otherwise.
	Status int
	Err    error
}

// Error says what failed, in which phase and whose fault it was.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (%s's fault): %v", e.Phase, e.Fault, e.Err)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Causes that a gateway decides on.
var (
	// ErrClientGone: the client closed its connection or reset its stream.
	ErrClientGone = errors.New("client went away")
	// ErrUnreachable: nobody could connect to the endpoint any more while the
	// request waited for its answer.
	ErrUnreachable = errors.New("endpoint unreachable")
	// ErrZoneLost: the endpoint's zone was declared dead while it worked.
	ErrZoneLost = errors.New("zone lost")
	// ErrDrained: the endpoint drains, and the exchange lasted for longer than
	// it was granted.
	ErrDrained = errors.New("endpoint drained")
	// ErrPoolExhausted: the endpoint's connection limit is reached.
	ErrPoolExhausted = errors.New("connection limit reached")
	// ErrClosed: the transport has been closed.
	ErrClosed = errors.New("transport closed")
)

// Cancelled is the error of an attempt that a cancellation ended; wrote is
// [Error.Wrote].
func Cancelled(cause error, phase Phase, wrote bool) *Error {
	fault := FaultGateway
	if errors.Is(cause, ErrClientGone) {
		fault = FaultClient
	}
	return &Error{Phase: phase, Fault: fault, Wrote: wrote, Err: cause}
}

// AsError returns the [*Error] in err's chain; an error of any other kind
// becomes one of the gateway's own, with nothing known about it.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Fault: FaultGateway, Wrote: true, Err: err}
}
