package http1

import (
	"errors"
	"io"
	"syscall"

	"github.com/grayfed/grayfed/edge/exchange"
)

// callStep is how far the visit to the poller has come that sends a request.
type callStep uint8

const (
	stepCheck    callStep = iota // look at the connection, then send
	stepReceive                  // sent, nothing received yet
	stepReceived                 // the response's first bytes are there
)

// call is one exchange on a connection to the endpoint, and the response's
// body. The connection may go on to other calls before this one is released,
// which is when the response's strings stop being good.
type call struct {
	t *Transport
	c *upConn // nil once the call has nothing to do with it any more
	x *exchange.Exchange

	step    callStep
	awaits  bool // wait for the response once out is sent
	dead    bool // the connection had ended before anything was sent
	wrote   int
	sendErr syscall.Errno

	outBuffer, inBuffer *buffer
	out                 []byte
	in                  inbound
	head                head
	headUntil, deadline int64
	keep                bool // the endpoint lets the connection be used again
	wroteAny            bool
	reused              bool
	upload              *upload
}

// start sends the request and receives the response's head. again: the
// connection was dead and nothing was sent.
func (call *call) start(t *Transport, c *upConn, x *exchange.Exchange) (again bool, failure *exchange.Error) {
	call.t, call.c, call.x = t, c, x
	call.step, call.dead, call.wrote, call.sendErr = stepCheck, false, 0, 0
	call.keep, call.wroteAny, call.reused, call.upload = false, false, c.reused, nil
	call.in.s, call.in.r, call.in.w = &c.sock, 0, 0
	call.deadline = t.eng.at(x.Deadline)
	c.call = call

	rest, streams := call.prepare()
	call.headUntil = sooner(t.eng.until(x.Timeouts.Head), call.deadline)
	if failure, again = call.send(rest); failure == nil && !again {
		if streams {
			call.startUpload()
		}
		failure = call.receive()
	}
	if failure != nil {
		failure.Wrote, failure.Reused = call.wroteAny, call.reused
	}
	if again || failure != nil {
		call.x.Response.Reset()
		call.keep = false
		call.finish()
		call.Release()
	}
	return again, failure
}

func (call *call) dropOut() {
	if call.outBuffer != nil {
		call.t.eng.putBuffer(call.outBuffer)
		call.outBuffer, call.out = nil, nil
	}
}

func (call *call) takeIn() {
	if call.inBuffer == nil {
		call.inBuffer = call.t.eng.getBuffer()
		call.in.buf = call.inBuffer.b
	}
}

func (call *call) dropIn() {
	if call.inBuffer != nil {
		call.t.eng.putBuffer(call.inBuffer)
		call.inBuffer, call.in.buf = nil, nil
	}
}

// failed says what an error of the connection means.
func (call *call) failed(phase exchange.Phase, err error) *exchange.Error {
	failure := &exchange.Error{Phase: phase, Fault: exchange.FaultUpstream, Wrote: true, Reused: call.reused, Err: err}
	switch {
	case errors.Is(err, errInterrupted):
		if cause := call.x.Cause(); cause != nil {
			return exchange.Cancelled(cause, phase, true)
		}
		if call.upload != nil {
			call.upload.abandon()
			if call.upload.failure != nil {
				return call.upload.failure
			}
		}
		failure.Fault = exchange.FaultGateway
	case errors.Is(err, errTimeout):
		failure.Timeout = true
	case errors.Is(err, io.EOF):
		failure.Err = errNoResponse
	}
	return failure
}

// finish parts the call from its connection, which is used again if the
// exchange has left it in a known state.
func (call *call) finish() {
	c := call.c
	if c == nil {
		return
	}
	call.c = nil
	sent := true
	if call.upload != nil {
		sent = call.upload.abandon()
	}
	_ = call.x.Await(nil) // it fails for a non-nil argument only
	c.call, c.relimit = nil, false
	call.in.s = nil
	if call.keep && sent && call.in.done && call.in.r == call.in.w && !c.stopped.Load() {
		call.t.put(c)
		return
	}
	call.t.discard(c)
}

// Release implements [exchange.Releaser]: nobody looks at the response any
// more.
func (call *call) Release() {
	call.keep = call.keep && call.in.done
	call.finish()
	call.dropOut()
	call.dropIn()
	eng := call.t.eng
	call.t, call.x, call.upload, call.in.ready = nil, nil, nil, nil
	eng.calls.Put(call)
}
