package http1

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/grayfed/grayfed/edge/exchange"
)

// requestBody is a request's body as the transport pulls it, perhaps on a
// goroutine of its own while the response is written already.
type requestBody struct {
	c *serverConn
	s *session
	// pulled: a transport has begun; ended: the whole body has been received.
	pulled, ended atomic.Bool

	mu         sync.Mutex
	asked      bool // mu; 100 (Continue) was sent or is not to be sent any more
	responding bool // mu; the final response has begun
}

var (
	_ exchange.Body        = (*requestBody)(nil)
	_ exchange.Interrupter = (*requestBody)(nil)
	_ exchange.Interim     = (*serverConn)(nil)
)

func (b *requestBody) start(c *serverConn, s *session) {
	b.c, b.s = c, s
	b.pulled.Store(false)
	b.ended.Store(false)
	b.asked = !s.x.Request.ExpectContinue
	b.responding = false
}

// Next implements [exchange.Body].
func (b *requestBody) Next() ([]byte, error) {
	b.pulled.Store(true)
	if err := b.ask(); err != nil {
		return nil, err
	}
	in := &b.s.in
	piece, err := in.next()
	b.s.x.RequestBytes += int64(len(piece))
	if in.done {
		b.ended.Store(true)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return piece, err
	}
	return nil, b.failed(err)
}

// failed makes an error of the body the client's.
func (b *requestBody) failed(err error) *exchange.Error {
	failure := &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultClient, Wrote: true, Status: 400, Err: err}
	if reason, ok := errors.AsType[Reason](err); ok {
		b.c.srv.refused[reason].Add(1)
		return failure
	}
	switch {
	case errors.Is(err, errTimeout):
		b.c.srv.refused[ReasonBodyTimeout].Add(1)
		failure.Timeout, failure.Status = true, ReasonBodyTimeout.Status()
	case errors.Is(err, errInterrupted):
		failure.Fault, failure.Status = exchange.FaultGateway, 0
	default:
		b.c.srv.refused[ReasonBodyShort].Add(1)
	}
	return failure
}

// ask sends 100 (Continue) to a client that waits for it.
func (b *requestBody) ask() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked {
		return nil
	}
	b.asked = true
	if b.responding {
		return b.failed(errInterrupted)
	}
	if b.s.in.r < b.s.in.w || len(b.s.in.ready) > 0 || b.s.in.done {
		return nil // it did not wait
	}
	if _, err := b.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"), b.c.srv.options.WriteTimeout); err != nil {
		return b.failed(err)
	}
	return nil
}

// respond notes that the final response begins: it is too late for 100. It
// reports whether the connection can be used again as far as the body goes.
func (b *requestBody) respond() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.responding = true
	if b.ended.Load() {
		return true
	}
	if b.pulled.Load() {
		return false // who pulled may still be at it
	}
	if _, all := b.s.in.buffered(); all {
		return true
	}
	return b.asked && b.s.in.kind == bodyLength && b.s.in.left <= discardAtMost
}

// discardAtMost is how much of an unwanted body is read to keep a connection.
const discardAtMost = 64 << 10

// finish counts a body that was sent on without being pulled.
func (b *requestBody) finish() {
	if piece, all := b.s.in.buffered(); all {
		b.s.x.RequestBytes = int64(len(piece))
		b.s.in.drop()
		b.ended.Store(true)
	}
}

// discard reads what is left of the body and reports whether it has ended.
func (b *requestBody) discard() bool {
	for !b.s.in.done {
		if _, err := b.s.in.next(); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
	return true
}

// Buffered implements [exchange.Body].
func (b *requestBody) Buffered() ([]byte, bool) { return b.s.in.buffered() }

// Trailer implements [exchange.Body].
func (b *requestBody) Trailer() *exchange.Fields {
	if !b.s.in.done || b.s.in.trailer.Len() == 0 {
		return nil
	}
	return &b.s.in.trailer
}

// Close implements [exchange.Body].
func (b *requestBody) Close() error { return nil }

// Interrupt makes a pull that waits fail; who abandons an upload calls it.
func (b *requestBody) Interrupt() {
	b.c.stoppedReads.Store(true)
	b.c.wakeReader()
}
