package http1

import (
	"errors"
	"fmt"

	"github.com/grayfed/grayfed/edge/exchange"
)

// maxInterim bounds the interim responses before a final one.
const maxInterim = 16

// receive reads response heads up to the final one.
func (call *call) receive() *exchange.Error {
	c, in, resp := call.c, &call.in, &call.x.Response
	c.relimit = call.upload != nil
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

var errNoResponse = errors.New("connection ended before the response")

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
	switch {
	case call.upload == nil:
	case call.upload.over():
		until = call.upload.until
	default:
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
	call.c.relimit = false
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
