package http1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/grayfed/grayfed/edge/exchange"
)

// statusLines holds the status line of each status with a known phrase.
var statusLines = func() (lines [600]string) {
	for status := 100; status < len(lines); status++ {
		lines[status] = fmt.Sprintf("HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	}
	return lines
}()

// bodyless reports whether a response has no body whatever its fields say.
func bodyless(method string, status int) bool {
	return status < 200 || status == 204 || status == 304 || method == "HEAD"
}

// appendFields writes fields, without those that end at this hop and without
// what would break the line it stands on: nothing that a codec parsed does,
// and a handler's mistake must not split a message in two.
func appendFields(out []byte, fields *exchange.Fields) (_ []byte, hasDate bool) {
	list := fields.All()
	for i := range list {
		field := &list[i]
		if isFraming(field.ID) {
			continue
		}
		line := len(out)
		out = append(out, field.Name...)
		out = append(out, ": "...)
		out = append(out, field.Value...)
		if skipText(out, line) < len(out) {
			out = out[:line]
			continue
		}
		hasDate = hasDate || field.ID == exchange.FieldDate
		out = append(out, "\r\n"...)
	}
	return out, hasDate
}

// respond writes the response. It reports whether the connection may carry
// another request, and what went wrong within the response, if anything.
func (c *serverConn) respond(x *exchange.Exchange) (again bool, failure *exchange.Error) {
	s := c.sess
	req, resp := &x.Request, &x.Response
	if resp.Status < 100 || resp.Status > 599 || (resp.Status < 200 && resp.Tunnel == nil) {
		resp.Reset()
		resp.Status = 500
	}
	if resp.Tunnel != nil {
		return false, c.serveTunnel(x)
	}
	again = s.head.persistent(req.Proto) && !resp.CloseConnection && !c.srv.draining.Load()
	if req.Body != nil {
		again = s.body.respond() && again
	}
	kind, length := bodyNone, int64(0)
	switch {
	case bodyless(req.Method, resp.Status):
		length = resp.ContentLength
		if resp.Status == 204 || (resp.Status == 304 && length == 0) {
			length = -1
		}
	case resp.Body == nil:
	case resp.ContentLength >= 0:
		kind, length = bodyLength, resp.ContentLength
	case req.Proto == exchange.HTTP11:
		kind = bodyChunked
	default:
		kind, again = bodyUntilClose, false
	}

	out := append(s.takeOut(c.eng), statusLines[resp.Status]...)
	out, hasDate := appendFields(out, &resp.Header)
	if !hasDate {
		out = append(out, *c.eng.date.Load()...)
	}
	switch {
	case kind == bodyChunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case kind != bodyUntilClose && length >= 0:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, length, 10)
		out = append(out, "\r\n"...)
	}
	switch {
	case !again:
		out = append(out, "Connection: close\r\n"...)
	case req.Proto == exchange.HTTP10:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	out = append(out, "\r\n"...)
	s.out = out
	if kind == bodyNone {
		return again, c.flush()
	}
	return again, c.stream(x, kind)
}

// flush writes what is in the session's out buffer.
func (c *serverConn) flush() *exchange.Error {
	s := c.sess
	_, err := c.write(s.out, c.srv.options.WriteTimeout)
	s.out = s.out[:0]
	if err != nil {
		return c.writeFailed(err)
	}
	return nil
}

func (c *serverConn) writeFailed(err error) *exchange.Error {
	failure := &exchange.Error{Phase: exchange.PhaseRespond, Fault: exchange.FaultClient, Wrote: true, Timeout: errors.Is(err, errTimeout), Err: err}
	if errors.Is(err, errInterrupted) {
		failure.Fault = exchange.FaultGateway
	}
	return failure
}

// chunkFrame is the most that frames a chunk and ends a body without trailers.
const chunkFrame = 16 + len("\r\n\r\n0\r\n\r\n")

// waiter is a body that knows whether its next piece has arrived.
type waiter interface{ waits() bool }

// stream pulls the response's body and writes it, the first piece together
// with the head.
func (c *serverConn) stream(x *exchange.Exchange, kind bodyKind) *exchange.Error {
	s := c.sess
	body, left := x.Response.Body, x.Response.ContentLength
	piece, all := body.Buffered()
	if kind != bodyLength && all && len(s.out)+len(piece)+chunkFrame < cap(s.out) {
		c.put(x, kind, piece)
		return c.endBody(x, kind)
	}
	if waits, ok := body.(waiter); !all && (!ok || waits.waits()) {
		// The head may be what the client waits for before it sends more.
		if failure := c.flush(); failure != nil {
			return failure
		}
	}
	for kind != bodyLength || left > 0 {
		piece, err := body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return exchange.AsError(err)
		}
		if kind == bodyLength {
			if left -= int64(len(piece)); left < 0 {
				return &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultUpstream, Wrote: true, Err: errBodyLength}
			}
		}
		if len(s.out)+len(piece)+chunkFrame > cap(s.out) || (kind != bodyChunked && len(s.out) == 0) {
			if failure := c.putLarge(x, kind, piece); failure != nil {
				return failure
			}
			continue
		}
		c.put(x, kind, piece)
		if kind == bodyLength && left == 0 {
			break
		}
		if failure := c.flush(); failure != nil {
			return failure
		}
	}
	if left > 0 {
		return &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultUpstream, Wrote: true, Err: errBodyLength}
	}
	return c.endBody(x, kind)
}

var errBodyLength = errors.New("body is not as long as announced")

// put appends a piece to the out buffer.
func (c *serverConn) put(x *exchange.Exchange, kind bodyKind, piece []byte) {
	x.ResponseBytes += int64(len(piece))
	c.sess.out = appendPiece(c.sess.out, kind, piece)
}

// appendPiece writes a piece of a body, as a chunk if the body is chunked.
func appendPiece(out []byte, kind bodyKind, piece []byte) []byte {
	if kind != bodyChunked {
		return append(out, piece...)
	}
	if len(piece) == 0 {
		return out // an empty chunk would end the body
	}
	out = strconv.AppendInt(out, int64(len(piece)), 16)
	out = append(out, "\r\n"...)
	out = append(out, piece...)
	return append(out, "\r\n"...)
}

// putLarge writes a piece that does not fit behind what is in the out buffer.
func (c *serverConn) putLarge(x *exchange.Exchange, kind bodyKind, piece []byte) *exchange.Error {
	s := c.sess
	x.ResponseBytes += int64(len(piece))
	if kind == bodyChunked {
		s.out = strconv.AppendInt(s.out, int64(len(piece)), 16)
		s.out = append(s.out, "\r\n"...)
	}
	if failure := c.flush(); failure != nil {
		return failure
	}
	if _, err := c.write(piece, c.srv.options.WriteTimeout); err != nil {
		return c.writeFailed(err)
	}
	if kind == bodyChunked {
		s.out = append(s.out, "\r\n"...)
		return c.flush()
	}
	return nil
}

// endBody ends a chunked body, and gives the upstream's connection back
// before the last write, so that another request may have it already.
func (c *serverConn) endBody(x *exchange.Exchange, kind bodyKind) *exchange.Error {
	s := c.sess
	if kind == bodyChunked {
		s.out = append(s.out, "0\r\n"...)
		if trailer := x.Response.Body.Trailer(); trailer != nil {
			s.out, _ = appendFields(s.out, trailer)
		}
		s.out = append(s.out, "\r\n"...)
	}
	if err := x.Response.Body.Close(); err != nil {
		return exchange.AsError(err)
	}
	if len(s.out) == 0 {
		return nil
	}
	return c.flush()
}

// WriteInterim implements [exchange.Interim]. Anything but 103 and other
// informational responses that do not change the protocol is refused.
func (c *serverConn) WriteInterim(status int, header *exchange.Fields) error {
	if status < 102 || status > 199 {
		return fmt.Errorf("http1: %d is not an interim response", status)
	}
	body := &c.sess.body
	body.mu.Lock()
	defer body.mu.Unlock()
	s := c.sess
	s.out = append(s.takeOut(c.eng), statusLines[status]...)
	s.out, _ = appendFields(s.out, header)
	s.out = append(s.out, "\r\n"...)
	if failure := c.flush(); failure != nil {
		return failure
	}
	return nil
}

// refuse answers a request that no handler is to see, and ends the connection.
func (c *serverConn) refuse(reason Reason) {
	c.srv.refused[reason].Add(1)
	s := c.sess
	status := reason.Status()
	problem := fmt.Appendf(nil, `{"type":"about:blank","title":%q,"status":%d,"detail":%q}`+"\n",
		http.StatusText(status), status, reason.Error())
	out := append(s.takeOut(c.eng), statusLines[status]...)
	out = append(out, *c.eng.date.Load()...)
	if status == http.StatusMethodNotAllowed {
		out = append(out, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	out = append(out, "Content-Type: application/problem+json\r\nConnection: close\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(problem)), 10)
	out = append(out, "\r\n\r\n"...)
	if s.x.Request.Method != http.MethodHead {
		out = append(out, problem...)
	}
	s.out = out
	if c.flush() == nil {
		c.linger()
	}
}
