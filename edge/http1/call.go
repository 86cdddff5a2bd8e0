package http1

import (
	"errors"
	"fmt"
	"io"
	"strconv"
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

// maxInterim bounds the interim responses before a final one.
const maxInterim = 16

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

var (
	_ exchange.Body     = (*call)(nil)
	_ exchange.Releaser = (*call)(nil)
)

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

// prepare writes the request into the out buffer. rest is a body that does
// not fit there; streams: the body has to be pulled.
func (call *call) prepare() (rest []byte, streams bool) {
	req := &call.x.Request
	call.outBuffer = call.t.eng.getBuffer()
	kind, length := requestFraming(req)
	out := appendRequest(call.outBuffer.b[:0], req, call.t.options.Address, kind, length)
	call.awaits = true
	if kind != bodyNone {
		piece, all := req.Body.Buffered()
		switch {
		case !all:
			call.awaits, streams = false, true
		case len(out)+len(piece)+chunkFrame <= cap(out):
			out = appendPiece(out, kind, piece)
			if kind == bodyChunked {
				out = appendLastChunk(out, req.Body.Trailer())
			}
		case kind == bodyLength:
			call.awaits, rest = false, piece
		default:
			call.awaits, streams = false, true
		}
	}
	call.out = out
	return rest, streams
}

func requestFraming(req *exchange.Request) (bodyKind, int64) {
	switch {
	case req.Body == nil || req.ContentLength == 0:
		return bodyNone, 0
	case req.ContentLength > 0:
		return bodyLength, req.ContentLength
	default:
		return bodyChunked, 0
	}
}

// appendRequest writes a request head.
func appendRequest(out []byte, req *exchange.Request, address string, kind bodyKind, length int64) []byte {
	out = append(out, req.Method...)
	out = append(out, ' ')
	out = append(out, req.Path...)
	if req.HasQuery {
		out = append(out, '?')
		out = append(out, req.Query...)
	}
	out = append(out, " HTTP/1.1\r\nHost: "...)
	if req.Authority != "" {
		out = append(out, req.Authority...)
	} else {
		out = append(out, address...)
	}
	out = append(out, "\r\n"...)
	out, _ = appendFields(out, &req.Header)
	switch kind {
	case bodyLength:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, length, 10)
		out = append(out, "\r\n"...)
	case bodyChunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	default:
		if req.Method == "POST" || req.Method == "PUT" || req.Method == "PATCH" {
			out = append(out, "Content-Length: 0\r\n"...)
		}
	}
	switch {
	case req.Upgrade != "":
		out = append(out, "Connection: Upgrade\r\nUpgrade: "...)
		out = append(out, req.Upgrade...)
		out = append(out, "\r\n"...)
	case req.TETrailers:
		out = append(out, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return append(out, "\r\n"...)
}

func appendLastChunk(out []byte, trailer *exchange.Fields) []byte {
	out = append(out, "0\r\n"...)
	if trailer != nil {
		out, _ = appendFields(out, trailer)
	}
	return append(out, "\r\n"...)
}

// send writes the request as far as it is known, and waits for the response
// if it is known completely.
func (call *call) send(rest []byte) (failure *exchange.Error, again bool) {
	c := call.c
	if c.raw != nil {
		c.rlimit = call.headUntil
		if err := c.rawRead(c.stepFn); err != nil {
			call.wroteAny = call.wrote > 0
			return call.failed(exchange.PhaseAwait, err), false
		}
	} else if c.reused && peerGone(c.nc) {
		call.dead = true
	}
	if call.dead {
		return nil, true
	}
	call.wroteAny = call.wrote > 0
	if call.sendErr != 0 {
		if c.reused && !call.wroteAny {
			return nil, true
		}
		return call.failed(exchange.PhaseSend, call.sendErr), false
	}
	if call.step != stepCheck {
		return nil, false
	}
	for _, piece := range [2][]byte{call.out[call.wrote:], rest} {
		n, err := c.write(piece, call.writeIdle())
		call.wroteAny = call.wroteAny || n > 0
		if err != nil {
			return call.failed(exchange.PhaseSend, err), false
		}
	}
	call.dropOut()
	return nil, false
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
			return cancelled(cause, phase, true)
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
	case err == io.EOF:
		failure.Err = errNoResponse
	}
	return failure
}

var errNoResponse = errors.New("connection ended before the response")

// receive reads response heads up to the final one.
func (call *call) receive() *exchange.Error {
	c, in, resp := call.c, &call.in, &call.x.Response
	c.relimit = call.upload != nil
	defer func() { c.relimit = false }()
	if call.step == stepReceived {
		n, err := c.readResult()
		if err != nil {
			return call.failed(exchange.PhaseAwait, err)
		}
		in.w = n
	} else {
		call.takeIn()
	}
	for interim := 0; ; {
		resp.Reset()
		call.head.reset()
		n, proto, reason := parseResponse(in.buf[in.r:in.w], resp, &call.head, call.t.limits)
		if reason == ReasonNone && n > call.t.limits.bytes {
			reason = ReasonFieldsTooLarge
		}
		if reason != ReasonNone {
			return call.failed(exchange.PhaseAwait, fmt.Errorf("malformed response: %w", reason))
		}
		if n == needMore {
			if failure := call.more(); failure != nil {
				return failure
			}
			continue
		}
		if resp.Status == 101 {
			return call.switchProtocol(n)
		}
		if resp.Status >= 200 {
			if len(in.buf)-in.r-n < headRoom {
				in.buf = append(make([]byte, 0, 2*bufferSize), in.buf[in.r:in.w]...)[:2*bufferSize]
				in.w, in.r = in.w-in.r, 0
				resp.Header.Reset()
				call.head.reset()
				n, proto, _ = parseResponse(in.buf[:in.w], resp, &call.head, call.t.limits)
			}
			in.r += n
			return call.startBody(proto)
		}
		in.r += n
		if interim++; interim > maxInterim {
			return call.failed(exchange.PhaseAwait, errManyInterim)
		}
		if resp.Status != 100 && call.x.Interim != nil {
			// A client that cannot be written to shows by the final response.
			_ = call.x.Interim.WriteInterim(resp.Status, &resp.Header)
		}
	}
}

var errManyInterim = errors.New("too many interim responses")

// more reads more of a response head.
func (call *call) more() *exchange.Error {
	in := &call.in
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) || in.w >= call.t.limits.bytes {
		return call.failed(exchange.PhaseAwait, fmt.Errorf("malformed response: %w", ReasonFieldsTooLarge))
	}
	until := call.headUntil
	if call.upload != nil && !call.upload.over() {
		until = call.deadline // the upload sets the limit when it ends
	}
	n, err := call.c.read(in.buf[in.w:], until)
	if err != nil {
		return call.failed(exchange.PhaseAwait, err)
	}
	in.w += n
	return nil
}

// startBody prepares the body that follows a final response's head.
func (call *call) startBody(proto exchange.Proto) *exchange.Error {
	in, resp := &call.in, &call.x.Response
	in.idle, in.deadline = call.x.Timeouts.Idle, call.deadline
	call.keep = call.head.persistent(proto)
	announced := int64(-1)
	if call.head.lengths > 0 {
		announced = call.head.length
	}
	switch {
	case bodyless(call.x.Request.Method, resp.Status):
		in.start(bodyNone, 0)
		resp.ContentLength = announced
		if resp.Status == 204 {
			resp.ContentLength = 0
			// What is announced must not come; if it does, it is no response.
			call.keep = call.keep && announced <= 0 && call.head.codings == 0
		}
	case call.head.codings > 0:
		in.start(bodyChunked, 0)
		resp.ContentLength = -1
		if reason := in.decodeAhead(); reason != ReasonNone {
			return call.failed(exchange.PhaseReceive, fmt.Errorf("malformed response: %w", reason))
		}
	case announced >= 0:
		in.start(bodyLength, announced)
		resp.ContentLength = announced
	default:
		in.start(bodyUntilClose, 0)
		call.keep = false
		resp.ContentLength = -1
	}
	call.x.Keep(call)
	if in.kind == bodyNone || (in.kind == bodyLength && announced == 0) {
		call.finish()
	} else {
		resp.Body = call
	}
	return nil
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
	c.call = nil
	call.in.s = nil
	if call.keep && sent && call.in.done && call.in.r == call.in.w && !c.stopped.Load() {
		c.readUntil.Store(0)
		call.t.put(c)
		return
	}
	call.t.discard(c)
}

// Next implements [exchange.Body].
func (call *call) Next() ([]byte, error) {
	if call.c == nil {
		if call.in.done {
			return nil, io.EOF
		}
		return nil, &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultGateway, Wrote: true, Err: exchange.ErrClosed}
	}
	piece, err := call.in.next()
	if err == nil {
		return piece, nil
	}
	if err == io.EOF {
		call.finish()
		return nil, err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("response body: %w", err)
	}
	failure := call.failed(exchange.PhaseReceive, err)
	call.keep = false
	call.finish()
	return nil, failure
}

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
