package http2

import (
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// upload sends a request's body while the response is awaited, and perhaps
// already passed on.
type upload struct {
	call   *call
	active bool          // the connection's mu
	begun  bool          // abandon has something to wait for
	pulled atomic.Bool   // the body cannot be sent again
	done   chan struct{} // takes one value at the end
}

var _ job = (*upload)(nil)

func (u *upload) start() {
	l := u.call.l
	l.mu.Lock()
	u.active = true
	l.mu.Unlock()
	u.begun = true
	l.eng.workers.do(u)
}

// run implements [job].
func (u *upload) run() {
	call := u.call
	err := u.send()
	l := call.l
	l.mu.Lock()
	u.active = false
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		call.abort(http2.ErrCodeCancel, failure)
	}
	call.headUntil = sooner(l.eng.until(call.x.Timeouts.Head), call.deadline)
	wake(call.readable)
	l.flush()
	u.done <- struct{}{}
}

// send sends the body. An [*exchange.Error] is one of the body; another one
// the stream knows of already.
func (u *upload) send() error {
	call := u.call
	req := &call.x.Request
	left, idle := req.ContentLength, call.writeIdle()
	u.pulled.Store(true)
	for {
		piece, err := req.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return exchange.AsError(err)
		}
		if left >= 0 {
			if left -= int64(len(piece)); left < 0 {
				break
			}
		}
		if err := call.send(piece, false, true, idle); err != nil {
			return err
		}
	}
	if req.ContentLength >= 0 && left != 0 {
		return &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultGateway, Wrote: true, Err: errBodyLength}
	}
	trailer := req.Body.Trailer()
	if trailer == nil {
		return call.send(nil, true, true, idle)
	}
	call.encoded, _ = appendFields(call.encoded[:0], trailer)
	l := call.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := call.sendable(); err != nil {
		return err
	}
	call.queueHeader(call.encoded, true) // run flushes
	return nil
}

// abandon ends the upload if it is still under way.
func (u *upload) abandon() {
	if !u.begun {
		return
	}
	u.begun = false
	call := u.call
	l := call.l
	l.mu.Lock()
	active := u.active
	if active {
		call.abort(http2.ErrCodeCancel, errInterrupted)
	}
	l.mu.Unlock()
	if waits, ok := call.x.Request.Body.(exchange.Interrupter); ok && active {
		waits.Interrupt()
	}
	<-u.done
}
