package http2

import (
	"errors"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// serverStream is a stream that carries a client's request and its response.
type serverStream struct {
	stream
	conn     *serverConn
	exchange exchange.Exchange
	body     requestBody
	encoded  []byte // scratch of header sections
}

var _ job = (*serverStream)(nil)

func newServerStream() *serverStream {
	ss := new(serverStream)
	ss.init()
	ss.body.ss = ss
	return ss
}

// take makes a request of the connection's header section, if it is one.
func (ss *serverStream) take(c *serverConn, end bool) Reason {
	b := &c.block
	switch {
	case b.malformed != ReasonNone:
		return b.malformed
	case b.tooMuch != ReasonNone:
		return b.tooMuch
	}
	req := &ss.exchange.Request
	if reason := takeTarget(b, req, c.srv.options.MaxTargetBytes); reason != ReasonNone {
		return reason
	}
	switch {
	case b.badExpect:
		return ReasonExpect
	case end && b.length > 0, req.Upgrade != "" && b.length >= 0:
		return ReasonContentLength
	}
	req.Proto = exchange.HTTP2
	req.Body, req.ContentLength = nil, 0
	if !end && b.length != 0 && req.Upgrade == "" {
		req.Body, req.ContentLength = &ss.body, b.length
	}
	req.ExpectContinue = b.expects && req.Body != nil
	req.TETrailers = b.teTrailers
	req.Header, b.fields = b.fields, req.Header

	ss.conn = c
	if c.now.IsZero() {
		c.now = time.Now()
	}
	x := &ss.exchange
	x.Start, x.Conn, x.Interim = c.now, &c.info, ss
	req.Scheme = c.srv.options.Scheme
	if c.info.TLS != nil {
		req.Scheme = "https"
	}
	x.Response.Reset()
	x.Timeouts, x.Deadline = exchange.Timeouts{}, time.Time{}
	x.RequestBytes, x.ResponseBytes = 0, 0
	x.ClearCancel()
	ss.body.start()
	return ReasonNone
}

// takeTarget takes what the pseudo-header fields say: RFC 9113, section 8.3.1,
// and RFC 8441, section 4.
func takeTarget(b *block, req *exchange.Request, maxTarget int) Reason {
	const target = sawMethod | sawScheme | sawPath
	connect := b.method == http.MethodConnect
	switch {
	case connect && b.seen&sawProtocol == 0:
		if b.seen != sawMethod|sawAuthority {
			return ReasonPseudo
		}
		return ReasonConnect
	case b.seen&target != target || b.seen&sawStatus != 0 || connect != (b.seen&sawProtocol != 0):
		return ReasonPseudo
	case b.scheme != "http" && b.scheme != "https", b.path == "":
		return ReasonPseudo
	case !isToken(b.method):
		return ReasonMethod
	case len(b.path) > maxTarget:
		return ReasonTargetTooLong
	}
	req.Method, req.Authority, req.Upgrade = b.method, b.authority, ""
	if connect {
		if !isToken(b.protocol) || foreignProtocol(b.protocol) {
			return ReasonUpgrade
		}
		req.Method, req.Upgrade = http.MethodGet, b.protocol
	}
	if !splitTarget(b.path, req) {
		return ReasonTarget
	}
	switch {
	case b.hosts > 1:
		return ReasonAuthority
	case b.seen&sawAuthority == 0:
		req.Authority = b.host
	case b.hosts == 1 && b.host != b.authority:
		return ReasonAuthority
	}
	if !validAuthority(req.Authority) {
		return ReasonAuthority
	}
	if req.Upgrade == websocket {
		addWebSocketKey(&b.fields)
	}
	return ReasonNone
}

// foreignProtocol reports a protocol that a tunnel must not carry: HTTP, whose
// requests would pass unseen, and TLS, whose ends would not be the intended
// ones.
func foreignProtocol(name string) bool {
	return exchange.EqualFold(name, "h2c") || exchange.EqualFold(name, "HTTP") || exchange.EqualFold(name, "TLS")
}

// run has the request answered. It is the job of a worker.
func (ss *serverStream) run() {
	x, handler := &ss.exchange, ss.conn.srv.options.Handler
	handler.Serve(x)
	failure := ss.respond()
	if x.Response.Body != nil {
		_ = x.Response.Body.Close() // what failed is in failure already
	}
	if x.Response.Tunnel != nil {
		_ = x.Response.Tunnel.Close() // as above
	}
	ss.finish(failure)
	if failure != nil {
		handler.Done(x, failure)
	} else {
		handler.Done(x, nil)
	}
	x.Release()
	c := ss.conn
	ss.recycle()
	c.mu.Lock()
	c.workerDone()
	c.mu.Unlock()
}

// finish ends the stream and takes it off the connection. The rest of a
// request that was answered already is not wanted: RFC 9113, section 8.1.
func (ss *serverStream) finish(failure *exchange.Error) {
	c := ss.conn
	c.mu.Lock()
	if piece := ss.unpulled(); piece > 0 && ss.peerEnded && !ss.pulled {
		ss.exchange.RequestBytes = piece // it was sent on without being pulled
	}
	switch {
	case failure == nil && ss.ended:
		if !ss.peerEnded {
			ss.abort(http2.ErrCodeNo, errEnded)
		}
	case failure != nil && failure.Fault == exchange.FaultUpstream:
		ss.abort(http2.ErrCodeInternal, failure)
	default:
		ss.abort(http2.ErrCodeCancel, errInterrupted)
	}
	for ss.holds > 0 {
		c.mu.Unlock()
		<-ss.writable
		c.mu.Lock()
	}
	ss.x = nil
	ss.remove()
	c.maybeEnd()
	c.flush()
}

// unpulled is the size of what was received and not pulled. mu is held.
func (st *stream) unpulled() (n int64) {
	for _, b := range st.pieces {
		n += int64(b.w - b.r)
	}
	return n
}

// recycle makes the stream available for others.
func (ss *serverStream) recycle() {
	x := &ss.exchange
	x.Request.Header.Reset()
	x.Request = exchange.Request{Header: x.Request.Header}
	x.Response.Reset()
	x.Conn, x.Interim = nil, nil
	eng := ss.conn.eng
	ss.conn, ss.l, ss.err = nil, nil, nil
	eng.streams.Put(ss)
}

// requestFailed makes an error of the request's side one of the exchange.
func (ss *serverStream) requestFailed(err error) *exchange.Error {
	failure := &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultClient, Wrote: true, Err: err}
	reset, wasReset := errors.AsType[resetError](err)
	reason, malformed := errors.AsType[Reason](err)
	switch {
	case errors.Is(err, errTimeout):
		ss.conn.srv.refused[ReasonBodyTimeout].Add(1)
		failure.Timeout, failure.Status = true, ReasonBodyTimeout.Status()
	case errors.Is(err, errInterrupted), errors.Is(err, errDrained), errors.Is(err, errEnded):
		failure.Fault = exchange.FaultGateway
	case malformed:
		failure.Err, failure.Status = reason, 400
	case wasReset:
		failure.Err = errors.Join(exchange.ErrClientGone, reset)
	default:
		failure.Err = errors.Join(exchange.ErrClientGone, err)
	}
	return failure
}
