package http2

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

var (
	_ exchange.Body      = (*call)(nil)
	_ exchange.Prolonger = (*call)(nil)
	_ waiter             = (*call)(nil)
)

// Next implements [exchange.Body].
func (call *call) Next() ([]byte, error) {
	if call.finished {
		if call.peerEnded {
			return nil, io.EOF
		}
		return nil, &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultGateway, Wrote: true, Err: exchange.ErrClosed}
	}
	late := call.deadline != 0 && call.t.eng.now.Load() >= call.deadline
	piece, err := call.pull(call.x.Timeouts.Idle, call.deadline)
	if err == nil {
		return piece, nil
	}
	if errors.Is(err, io.EOF) {
		call.finish()
		return nil, err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("response body: %w", err)
	}
	failure := call.failed(exchange.PhaseReceive, err)
	failure.Wrote = true
	if late && failure.Timeout {
		// The client took its time for what came before: this wait says nothing
		// about the endpoint.
		failure.Fault = exchange.FaultGateway
	}
	call.finish()
	return nil, failure
}

// waits implements [waiter].
func (call *call) waits() bool { return !call.finished && call.stream.waits() }

// Buffered implements [exchange.Body].
func (call *call) Buffered() ([]byte, bool) {
	if call.finished {
		return nil, false
	}
	return call.buffered()
}

// Trailer implements [exchange.Body].
func (call *call) Trailer() *exchange.Fields {
	if !call.finished {
		call.l.mu.Lock()
		defer call.l.mu.Unlock()
	}
	if !call.peerEnded || call.trailer.Len() == 0 {
		return nil
	}
	return &call.trailer
}

// Close implements [exchange.Body].
func (call *call) Close() error {
	call.finish()
	return nil
}

// SetDeadline implements [exchange.Prolonger].
func (call *call) SetDeadline(t time.Time) {
	if call.finished {
		return
	}
	call.l.mu.Lock()
	call.deadline = call.t.eng.at(t)
	call.l.mu.Unlock()
}
