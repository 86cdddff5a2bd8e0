package http1

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
	_ exchange.Releaser  = (*call)(nil)
)

// Next implements [exchange.Body].
func (call *call) Next() ([]byte, error) {
	if call.c == nil {
		if call.in.done {
			return nil, io.EOF
		}
		return nil, &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultGateway, Wrote: true, Err: exchange.ErrClosed}
	}
	late := call.deadline != 0 && call.t.eng.now.Load() >= call.deadline
	piece, err := call.in.next()
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
	if late && failure.Timeout {
		// The client took its time for what came before: this wait says nothing
		// about the endpoint.
		failure.Fault = exchange.FaultGateway
	}
	call.keep = false
	call.finish()
	return nil, failure
}

// waits implements [waiter].
func (call *call) waits() bool { return call.in.waits() }

// Buffered implements [exchange.Body].
func (call *call) Buffered() ([]byte, bool) { return call.in.buffered() }

// Trailer implements [exchange.Body].
func (call *call) Trailer() *exchange.Fields {
	if !call.in.done || call.in.trailer.Len() == 0 {
		return nil
	}
	return &call.in.trailer
}

// Close implements [exchange.Body].
func (call *call) Close() error {
	if call.c == nil {
		return nil
	}
	if _, all := call.in.buffered(); all {
		call.in.drop()
	}
	call.finish()
	return nil
}

// SetDeadline implements [exchange.Prolonger].
func (call *call) SetDeadline(t time.Time) {
	if call.c != nil {
		call.deadline = call.t.eng.at(t)
		call.in.deadline = call.deadline
	}
}
