package http1

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// afterBrokenSend is how long a response is still awaited from an endpoint
// that took no more of the request: it may have answered before it closed.
const afterBrokenSend = time.Second

// upload sends a request's body while the response is awaited, and perhaps
// already passed on.
type upload struct {
	c    *upConn
	body exchange.Body
	kind bodyKind
	// done is closed when the goroutine has ended; what follows is good then.
	done     chan struct{}
	complete bool
	until    int64 // the limit of the wait for the response
	// failure: the body failed, and with it the exchange.
	failure *exchange.Error
}

func (call *call) startUpload() {
	kind, _ := requestFraming(&call.x.Request)
	u := &upload{c: call.c, body: call.x.Request.Body, kind: kind, done: make(chan struct{})}
	call.upload = u
	go u.run(call.x.Request.ContentLength, call.writeIdle(), call.x.Timeouts.Head, call.deadline)
}

// writeIdle is how long a write may go without progress.
func (call *call) writeIdle() time.Duration {
	if idle := call.x.Timeouts.Idle; idle > 0 {
		return idle
	}
	return call.t.options.WriteTimeout
}

// run sends the body; left is its length, unless it is chunked.
func (u *upload) run(left int64, idle, head time.Duration, deadline int64) {
	defer close(u.done)
	eng := u.c.eng
	buf := eng.getBuffer()
	defer eng.putBuffer(buf)
	for {
		piece, err := u.body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			u.failure = exchange.AsError(err)
			u.c.interrupt()
			return
		}
		if u.kind == bodyLength {
			if left -= int64(len(piece)); left < 0 {
				break
			}
		}
		if !u.sent(u.write(buf.b[:0], piece, idle), deadline) {
			return
		}
	}
	if u.kind == bodyChunked {
		_, err := u.c.write(appendLastChunk(buf.b[:0], u.body.Trailer()), idle)
		if !u.sent(err, deadline) {
			return
		}
	} else if left != 0 {
		u.failure = &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultGateway, Wrote: true, Err: errBodyLength}
		u.c.interrupt()
		return
	}
	u.complete = true
	u.limit(sooner(eng.until(head), deadline))
}

// write sends one piece.
func (u *upload) write(out []byte, piece []byte, idle time.Duration) error {
	if u.kind != bodyChunked {
		_, err := u.c.write(piece, idle)
		return err
	}
	if len(piece)+chunkFrame <= cap(out) {
		_, err := u.c.write(appendPiece(out, u.kind, piece), idle)
		return err
	}
	out = strconv.AppendInt(out, int64(len(piece)), 16)
	if _, err := u.c.write(append(out, "\r\n"...), idle); err != nil {
		return err
	}
	if _, err := u.c.write(piece, idle); err != nil {
		return err
	}
	_, err := u.c.write([]byte("\r\n"), idle)
	return err
}

// sent judges a write. After a failure the response is awaited for a little
// longer: it may say why.
func (u *upload) sent(err error, deadline int64) bool {
	if err == nil {
		return true
	}
	if !errors.Is(err, errInterrupted) {
		u.limit(sooner(u.c.eng.until(afterBrokenSend), deadline))
	}
	return false
}

// limit bounds the wait for the response, which had been unbounded because it
// begins when everything is sent; the wait may be under way.
func (u *upload) limit(until int64) {
	u.until = until
	if until != 0 {
		u.c.limitRead(until)
	}
}

// over reports whether the goroutine has ended.
func (u *upload) over() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// abandon ends the upload if it is still under way, and reports whether it
// had sent everything.
func (u *upload) abandon() bool {
	if !u.over() {
		u.c.interrupt()
		if waits, ok := u.body.(exchange.Interrupter); ok {
			waits.Interrupt()
		}
		<-u.done
	}
	return u.complete
}

// switchProtocol makes a tunnel of the connection, if that was asked for.
// n is the length of the response's head.
func (call *call) switchProtocol(n int) *exchange.Error {
	asked, agreed := call.x.Request.Upgrade, call.head.switchTo()
	if asked == "" || !exchange.EqualFold(asked, agreed) || call.upload != nil {
		return call.failed(exchange.PhaseAwait, fmt.Errorf("malformed response: %w", errNotAsked))
	}
	call.in.r += n
	call.x.Keep(call)
	call.x.Response.Upgrade = agreed
	call.x.Response.ContentLength = -1
	call.x.Response.Tunnel = &upTunnel{call: call, c: call.c}
	return nil
}
