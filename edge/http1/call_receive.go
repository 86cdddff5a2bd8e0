package http1

import (
	"errors"
	"fmt"
	"net/http"

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

// responseFraming is how a response's body is delimited, and the length that
// it announces, -1 for none: RFC 9112, section 6.3.
func responseFraming(method string, status int, h *head) (bodyKind, int64) {
	announced := int64(-1)
	if h.lengths > 0 {
		announced = h.length
	}
	switch {
	case bodyless(method, status):
		return bodyNone, announced
	case h.codings > 0:
		return bodyChunked, announced
	case announced >= 0:
		return bodyLength, announced
	default:
		return bodyUntilClose, announced
	}
}

// startBody prepares the body that follows a final response's head.
func (call *call) startBody(proto exchange.Proto) *exchange.Error {
	call.c.relimit = false
	in, resp := &call.in, &call.x.Response
	in.idle, in.deadline = call.x.Timeouts.Idle, call.deadline
	call.keep = call.head.persistent(proto)
	kind, announced := responseFraming(call.x.Request.Method, resp.Status, &call.head)
	in.start(kind, announced)
	resp.ContentLength = announced
	switch kind {
	case bodyNone:
		if resp.Status == http.StatusNoContent {
			resp.ContentLength = 0
			// What is announced must not come; if it does, it is no response.
			call.keep = call.keep && announced <= 0 && call.head.codings == 0
		}
	case bodyChunked:
		if reason := in.decodeAhead(); reason != ReasonNone {
			return call.failed(exchange.PhaseReceive, fmt.Errorf("malformed response: %w", reason))
		}
	case bodyUntilClose:
		call.keep = false
	default:
	}
	call.x.Keep(call)
	if in.kind == bodyNone || (in.kind == bodyLength && announced == 0) {
		call.finish()
	} else {
		resp.Body = call
	}
	return nil
}
