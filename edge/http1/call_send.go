package http1

import (
	"net/http"
	"strconv"

	"github.com/grayfed/grayfed/edge/exchange"
)

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
		if req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch {
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
