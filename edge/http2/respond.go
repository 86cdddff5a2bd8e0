package http2

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// bodyless reports whether a response has no body whatever its fields say.
func bodyless(method string, status int) bool {
	return status < 200 || status == 204 || status == 304 || method == "HEAD"
}

// respond writes the response, and returns what went wrong within it. A wish
// to close the connection is met by ending the stream: others share it.
func (ss *serverStream) respond() *exchange.Error {
	x := &ss.exchange
	resp := &x.Response
	ss.body.respond()
	switch {
	case resp.Tunnel != nil:
		return ss.serveTunnel()
	case resp.Status < 200 || resp.Status > 599:
		ss.replace(500)
	case x.Request.Upgrade != "" && resp.Status < 300:
		// To this client a 2xx says that the tunnel stands: RFC 8441, section 5.
		ss.replace(502)
	}
	body := resp.Body
	if bodyless(x.Request.Method, resp.Status) {
		body = nil
	}
	out, hasDate := appendFields(appendStatus(ss.encoded[:0], resp.Status), &resp.Header)
	if !hasDate {
		out = appendNamed(out, indexDate, *ss.conn.eng.date.Load())
	}
	switch {
	case body != nil:
		if resp.ContentLength >= 0 {
			out = appendContentLength(out, resp.ContentLength)
		}
	case resp.ContentLength > 0 && resp.Status != 204:
		out = appendContentLength(out, resp.ContentLength)
	}
	ss.encoded = out
	if body == nil {
		return ss.sendHead(true, true)
	}
	return ss.sendBody(body)
}

// replace answers with a status alone.
func (ss *serverStream) replace(status int) {
	resp := &ss.exchange.Response
	if resp.Body != nil {
		_ = resp.Body.Close() // it is not wanted
	}
	resp.Reset()
	resp.Status = status
}

// sendHead queues the encoded header section, and writes what is queued.
func (ss *serverStream) sendHead(end, write bool) *exchange.Error {
	l := ss.l
	l.mu.Lock()
	for {
		if err := ss.sendable(); err != nil {
			l.mu.Unlock()
			return ss.respondFailed(err)
		}
		if len(l.out) < outLimit {
			break
		}
		ss.wait(ss.conn.srv.options.WriteTimeout, 0)
	}
	ss.writeUntil = 0
	ss.queueHeader(ss.encoded, end)
	if !write {
		l.mu.Unlock()
		return nil
	}
	l.flush()
	return nil
}

var errBodyLength = errors.New("body is not as long as announced")

func brokenBody(err error) *exchange.Error {
	return &exchange.Error{Phase: exchange.PhaseReceive, Fault: exchange.FaultUpstream, Wrote: true, Err: err}
}

// waiter is a body that knows whether its next piece has arrived.
type waiter interface{ waits() bool }

// sendBody pulls the response's body and writes it, the first piece together
// with the head if it is there.
func (ss *serverStream) sendBody(body exchange.Body) *exchange.Error {
	left := ss.exchange.Response.ContentLength
	piece, all := body.Buffered()
	waits, ok := body.(waiter)
	if failure := ss.sendHead(false, !all && (!ok || waits.waits())); failure != nil {
		return failure
	}
	if all {
		if left >= 0 && int64(len(piece)) != left {
			return brokenBody(errBodyLength)
		}
		return ss.endBody(body, piece)
	}
	for {
		piece, err := body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return exchange.AsError(err)
		}
		if left >= 0 {
			if left -= int64(len(piece)); left < 0 {
				return brokenBody(errBodyLength)
			}
		}
		// After the last piece of a known length the end is near.
		if failure := ss.sendPiece(piece, false, left != 0); failure != nil {
			return failure
		}
	}
	if left > 0 {
		return brokenBody(errBodyLength)
	}
	return ss.endBody(body, nil)
}

// sendPiece sends a piece of the body.
func (ss *serverStream) sendPiece(piece []byte, end, write bool) *exchange.Error {
	if err := ss.send(piece, end, write, ss.conn.srv.options.WriteTimeout); err != nil {
		return ss.respondFailed(err)
	}
	ss.exchange.ResponseBytes += int64(len(piece))
	return nil
}

// endBody sends the last piece, and the trailers if there are any.
func (ss *serverStream) endBody(body exchange.Body, piece []byte) *exchange.Error {
	trailer := body.Trailer()
	if trailer == nil {
		return ss.sendPiece(piece, true, true)
	}
	if len(piece) > 0 {
		if failure := ss.sendPiece(piece, false, false); failure != nil {
			return failure
		}
	}
	ss.encoded, _ = appendFields(ss.encoded[:0], trailer)
	return ss.sendHead(true, true)
}

// respondFailed makes an error of the response's side one of the exchange.
func (ss *serverStream) respondFailed(err error) *exchange.Error {
	failure := ss.requestFailed(err)
	failure.Phase, failure.Status = exchange.PhaseRespond, 0
	if errors.Is(err, errTimeout) {
		failure.Timeout = true
	}
	return failure
}

var _ exchange.Interim = (*serverStream)(nil)

// WriteInterim implements [exchange.Interim]. Anything but 103 and other
// informational responses that do not change the protocol is refused.
func (ss *serverStream) WriteInterim(status int, header *exchange.Fields) error {
	if status < 102 || status > 199 {
		return fmt.Errorf("http2: %d is not an interim response", status)
	}
	ss.body.mu.Lock()
	defer ss.body.mu.Unlock()
	if ss.body.responding {
		return errEnded
	}
	return ss.interim(status, header)
}

func (ss *serverStream) interim(status int, header *exchange.Fields) error {
	out := appendStatus(nil, status)
	if header != nil {
		out, _ = appendFields(out, header)
	}
	l := ss.l
	l.mu.Lock()
	if err := ss.sendable(); err != nil {
		l.mu.Unlock()
		return ss.respondFailed(err)
	}
	ss.queueHeader(out, false)
	l.flush()
	return nil
}

// refuseRequest answers a request that no handler is to see: malformed ones
// with an error code. mu is held.
func (c *serverConn) refuseRequest(id uint32, end bool, reason Reason) *fault {
	status := reason.Status()
	if status == 0 {
		return c.refuse(id, http2.ErrCodeProtocol, reason)
	}
	c.srv.refused[reason].Add(1)
	c.closed.add(id, closedByUs)
	problem := fmt.Appendf(nil, `{"type":"about:blank","title":%q,"status":%d,"detail":%q}`+"\n",
		http.StatusText(status), status, reason.Error())
	fits := int64(len(problem)) <= min(c.sendWindow, c.peer.window)
	block := appendField(appendStatus(nil, status), "content-type", "application/problem+json")
	block = appendNamed(block, indexDate, *c.eng.date.Load())
	if status == http.StatusMethodNotAllowed {
		block = appendField(block, "allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	out := c.appendHeader(block, id, !fits)
	if fits {
		c.sendWindow -= int64(len(problem))
		out = appendFrameHeader(out, len(problem), http2.FrameData, http2.FlagDataEndStream, id)
		out = append(out, problem...)
	}
	if !end {
		out = appendReset(out, id, http2.ErrCodeNo)
	}
	return c.answer(out)
}
