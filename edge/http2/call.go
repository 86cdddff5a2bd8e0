package http2

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// call is one exchange on a stream to the endpoint, and the response's body.
type call struct {
	stream
	t      *Transport
	conn   *clientConn
	x      *exchange.Exchange
	method string
	reused bool // the connection had carried others

	encoded  []byte // scratch of header sections
	headAt   int64  // where in the queue the request is
	queuedIt bool   // it is there
	finished bool
	held     bool // the body waits for the endpoint's word; see TransportOptions.HoldBodies
	deadline int64
	upload   upload

	// The connection's mu guards these: the reader sets them.
	headed       bool
	refused      bool // the endpoint has not looked at the request
	continued    bool // it wants the body
	status       int
	announced    int64
	header       exchange.Fields
	interims     []interim
	interimCount int
	headUntil    int64 // the engine's time at which the response must have begun
}

var (
	_ exchange.Interrupter = (*call)(nil)
	_ exchange.Releaser    = (*call)(nil)
)

func newCall() *call {
	call := new(call)
	call.init()
	call.call = call
	call.upload.call = call
	call.upload.done = make(chan struct{}, 1)
	return call
}

// Interrupt implements [exchange.Interrupter].
func (call *call) Interrupt() {
	call.l.mu.Lock()
	defer call.l.mu.Unlock()
	call.fail(errInterrupted)
}

// start sends the request and receives the response's head. After a failure
// the call must be released.
func (call *call) start(t *Transport, c *clientConn, x *exchange.Exchange) *exchange.Error {
	call.t, call.conn, call.x, call.l = t, c, x, &c.link
	call.method, call.reused = x.Request.Method, c.used.Load()
	call.deadline = t.eng.at(x.Deadline)
	if cause := x.Await(call); cause != nil {
		return exchange.Cancelled(cause, exchange.PhaseConnect, false)
	}
	if x.Request.Upgrade != "" {
		if failure := call.mayConnect(); failure != nil {
			return failure
		}
	}
	call.encoded = appendRequest(call.encoded[:0], &x.Request, t)
	rest, err := call.open()
	if err != nil {
		if !errors.Is(err, errInterrupted) {
			t.retire(c)
		}
		return call.failed(exchange.PhaseSend, err)
	}
	if rest && !call.held {
		call.upload.start()
	}
	if err := call.awaitHead(); err != nil {
		return call.failed(exchange.PhaseAwait, err)
	}
	call.fill()
	return nil
}

// open opens the stream and queues as much of the request as is there and may
// be sent. rest: the body has to be sent yet.
func (call *call) open() (rest bool, err error) {
	l, req := call.l, &call.x.Request
	var first firstPiece
	hasBody := req.Body != nil && req.ContentLength != 0
	if hasBody {
		first.take(req)
	}
	l.mu.Lock()
	switch {
	case call.err != nil:
		err = call.err
	case l.err != nil:
		err = l.err
	case l.gone || call.conn.nextID > maxStreamID:
		err = errGoneAway
	}
	if err != nil {
		l.mu.Unlock()
		return false, err
	}
	id := l.nextID
	l.nextID += 2
	call.stream.start(l, id)
	call.headAt, call.queuedIt = l.queued, true
	call.conn.used.Store(true)
	whole := first.whole && int64(len(first.data)) <= min(call.sendWindow, l.sendWindow, maxFrame)
	if call.held = hasBody && !whole && call.t.options.HoldBodies; call.held {
		call.encoded = appendField(call.encoded, "expect", "100-continue")
	}
	call.queueHeader(call.encoded, !hasBody && req.Upgrade == "")
	call.conn.probe()
	if hasBody && whole {
		call.queueFirst(&first)
	}
	call.headUntil = sooner(l.eng.until(call.x.Timeouts.Head), call.deadline)
	l.flush()
	return hasBody && !whole, nil
}

// firstPiece is a body that is there completely.
type firstPiece struct {
	whole   bool
	data    []byte
	trailer *exchange.Fields
}

func (f *firstPiece) take(req *exchange.Request) {
	f.data, f.whole = req.Body.Buffered()
	f.whole = f.whole && (req.ContentLength < 0 || int64(len(f.data)) == req.ContentLength)
	if f.whole {
		f.trailer = req.Body.Trailer()
	}
}

// queueFirst queues a body that is there completely. mu is held.
func (call *call) queueFirst(f *firstPiece) {
	call.queue(f.data, f.trailer == nil)
	if f.trailer != nil {
		call.encoded, _ = appendFields(call.encoded[:0], f.trailer)
		call.queueHeader(call.encoded, true)
	}
}

// awaitHead waits for the response's head and passes interim ones on.
func (call *call) awaitHead() error {
	l := call.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case len(call.interims) > 0:
			next := call.interims[0]
			call.interims = append(call.interims[:0], call.interims[1:]...)
			if call.x.Interim != nil {
				l.mu.Unlock()
				// A client that cannot be written to shows by the final response.
				_ = call.x.Interim.WriteInterim(next.status, &next.header)
				l.mu.Lock()
			}
			continue
		case call.held && (call.continued || call.headed && !call.peerEnded):
			call.held = false
			l.mu.Unlock()
			call.upload.start()
			l.mu.Lock()
			continue
		case call.headed:
			call.readUntil, call.late = 0, false
			return nil
		case call.err != nil:
			return call.err
		case call.late:
			return errTimeout
		}
		call.readUntil = call.headUntil
		if call.upload.active {
			call.readUntil = call.deadline
		}
		l.mu.Unlock()
		<-call.readable
		l.mu.Lock()
	}
}

// fill puts the head into the exchange's response.
func (call *call) fill() {
	x := call.x
	resp := &x.Response
	x.Keep(call)
	call.l.mu.Lock()
	ended := call.peerEnded && len(call.pieces) == 0
	trailers := call.trailer.Len() > 0
	call.l.mu.Unlock()
	resp.Reset()
	resp.Status, resp.ContentLength = call.status, call.announced
	resp.Header, call.header = call.header, resp.Header
	switch {
	case x.Request.Upgrade != "" && call.status < 300:
		call.switchProtocol()
	case bodyless(call.method, call.status):
		call.finish()
	case ended && !trailers:
		resp.ContentLength = 0
		call.finish()
	default:
		resp.Body = call
	}
}

// failed says what an error of the stream means.
func (call *call) failed(phase exchange.Phase, err error) *exchange.Error {
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		return failure // the request's body failed
	}
	reset, wasReset := errors.AsType[resetError](err)
	l := call.l
	l.mu.Lock()
	refused := call.refused || (wasReset && reset.code == http2.ErrCodeRefusedStream)
	unsent := !call.queuedIt || (l.broken && call.headAt >= l.taken)
	l.mu.Unlock()
	wrote := !unsent && !refused || call.upload.pulled.Load()
	failure := &exchange.Error{Phase: phase, Fault: exchange.FaultUpstream, Wrote: wrote, Reused: call.reused, Err: err}
	switch {
	case errors.Is(err, errInterrupted):
		if cause := call.x.Cause(); cause != nil {
			return exchange.Cancelled(cause, phase, wrote)
		}
		failure.Fault = exchange.FaultGateway
	case errors.Is(err, errTimeout):
		failure.Timeout = true
	case refused:
		// It is about the connection, not about what the endpoint can do.
		failure.Reused = true
	case wasReset:
		// It is not: connections are not closed stream by stream.
		failure.Reused = false
	}
	if reason, ok := errors.AsType[Reason](err); ok {
		failure.Err = fmt.Errorf("malformed response: %w", reason)
	}
	return failure
}

// finish ends the stream; what has not come of the response is not wanted.
func (call *call) finish() {
	if call.finished {
		return
	}
	call.finished = true
	call.upload.abandon()
	_ = call.x.Await(nil) // it fails for a non-nil argument only
	l := call.l
	l.mu.Lock()
	if call.queuedIt {
		call.abort(http2.ErrCodeCancel, errEnded)
		call.remove()
	}
	l.flush()
	call.t.release(call.conn)
}

// Release implements [exchange.Releaser]: nobody looks at the response any
// more.
func (call *call) Release() {
	call.finish()
	eng := call.t.eng
	call.t, call.conn, call.x, call.l = nil, nil, nil, nil
	call.err, call.queuedIt, call.finished = nil, false, false
	call.headed, call.refused, call.held, call.continued = false, false, false, false
	call.header.Reset()
	clear(call.interims)
	call.interims, call.interimCount = call.interims[:0], 0
	call.upload.pulled.Store(false)
	eng.calls.Put(call)
}

// writeIdle is how long a write may go without progress.
func (call *call) writeIdle() time.Duration {
	if idle := call.x.Timeouts.Idle; idle > 0 {
		return idle
	}
	return call.t.options.WriteTimeout
}

// appendRequest encodes a request's header section: RFC 9113, section 8.3.1.
func appendRequest(out []byte, req *exchange.Request, t *Transport) []byte {
	switch {
	case req.Upgrade != "":
		out = appendNamed(out, indexMethodGET, http.MethodConnect)
		out = appendField(out, ":protocol", req.Upgrade)
	case req.Method == http.MethodGet:
		out = appendIndexed(out, indexMethodGET)
	case req.Method == http.MethodPost:
		out = appendIndexed(out, indexMethodPOST)
	default:
		out = appendNamed(out, indexMethodGET, req.Method)
	}
	scheme := byte(indexSchemeHTTP)
	if t.dialer.TLS != nil {
		scheme = indexSchemeHTTPS
	}
	out = appendIndexed(out, scheme)
	authority := req.Authority
	if authority == "" {
		authority = t.options.Address
	}
	out = appendNamed(out, indexAuthority, authority)
	switch {
	case req.HasQuery:
		out = appendInt(out, 0, 4, indexPath)
		out = appendInt(out, 0, 7, uint64(len(req.Path)+1+len(req.Query)))
		out = append(append(append(out, req.Path...), '?'), req.Query...)
	case req.Path == "/":
		out = appendIndexed(out, indexPath)
	default:
		out = appendNamed(out, indexPath, req.Path)
	}
	out = appendRequestFields(out, req)
	if req.Body != nil && req.ContentLength > 0 {
		out = appendContentLength(out, req.ContentLength)
	} else if req.ContentLength == 0 && req.Upgrade == "" &&
		(req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch) {
		out = appendContentLength(out, 0)
	}
	if req.TETrailers {
		out = appendField(out, "te", "trailers")
	}
	return out
}

// appendRequestFields leaves out what WebSocket has over HTTP/1 alone.
func appendRequestFields(out []byte, req *exchange.Request) []byte {
	if req.Upgrade == "" {
		out, _ = appendFields(out, &req.Header)
		return out
	}
	var fields exchange.Fields
	for _, field := range req.Header.All() {
		if !exchange.EqualFold(field.Name, webSocketKey) {
			fields.Append(field)
		}
	}
	out, _ = appendFields(out, &fields)
	return out
}
