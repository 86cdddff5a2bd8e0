package http1

import (
	"net"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// exchange reads one request and answers it. It reports whether another may
// follow.
func (c *serverConn) exchange() bool {
	s := c.sess
	s.x.Start = time.Now()
	reason := c.readHead()
	if reason == reasonGone {
		return false
	}
	if reason == ReasonNone {
		reason = c.startBody()
	}
	if reason != ReasonNone {
		c.refuse(reason)
		return false
	}
	again := c.serve()
	if again {
		s.settle(c.eng.poison)
	}
	return again
}

// startBody prepares the request's body; of a chunked one what has arrived is
// checked before anybody acts on the request.
func (c *serverConn) startBody() Reason {
	s := c.sess
	req := &s.x.Request
	s.in.idle = c.srv.options.BodyTimeout
	req.Body = nil
	switch {
	case req.ContentLength == 0:
		s.in.start(bodyNone, 0)
		return ReasonNone
	case req.ContentLength > 0:
		s.in.start(bodyLength, req.ContentLength)
	default:
		s.in.start(bodyChunked, 0)
		if reason := s.in.decodeAhead(); reason != ReasonNone {
			return reason
		}
	}
	s.body.start(c, s)
	req.Body = &s.body
	return ReasonNone
}

// serve has the request answered and reports whether another may follow.
func (c *serverConn) serve() bool {
	s := c.sess
	x := &s.x
	x.Conn = &c.info
	x.Request.Scheme = c.srv.options.Scheme
	if c.info.TLS != nil {
		x.Request.Scheme = "https"
	}
	x.Interim = nil
	if x.Request.Proto == exchange.HTTP11 {
		x.Interim = c
	}
	x.Response.Reset()
	x.Timeouts, x.Deadline = exchange.Timeouts{}, time.Time{}
	x.RequestBytes, x.ResponseBytes = 0, 0
	x.ClearCancel()

	c.servingSince.Store(c.eng.now.Load())
	c.srv.options.Handler.Serve(x)
	again, err := c.respond(x)
	s.dropOut(c.eng)
	if c.servingSince.Swap(0) == beingChecked {
		// The sweeper has the exchange in its hands.
		c.checking.Lock()
		c.servingSince.Store(0)
		c.checking.Unlock()
	}
	if x.Response.Body != nil {
		_ = x.Response.Body.Close() // what failed is in err already
	}
	if x.Response.Tunnel != nil {
		_ = x.Response.Tunnel.Close() // as above
	}
	if x.Request.Body != nil {
		s.body.finish()
	}
	if err != nil {
		c.srv.options.Handler.Done(x, err)
	} else {
		c.srv.options.Handler.Done(x, nil)
	}
	x.Release()
	if err != nil {
		c.abort(x)
		return false
	}
	if again && x.Request.Body != nil {
		again = s.body.discard()
		c.stoppedReads.Store(false) // an upload may have been abandoned after the body's end
	}
	if !again && x.Response.Tunnel == nil && c.sendsOn() {
		c.linger()
	}
	return again
}

// sendsOn reports whether the client has sent, or is about to send, what
// nobody will read: the rest of a body, or more requests.
func (c *serverConn) sendsOn() bool {
	in := &c.sess.in
	return !in.done || in.r < in.w || (c.raw != nil && !c.quiet())
}

// abort ends a connection within a response. Where only the end of the
// connection ends the response, a reset tells the client that it is cut; the
// farewell of TLS would tell it the contrary.
func (c *serverConn) abort(x *exchange.Exchange) {
	if x.Response.ContentLength >= 0 || x.Request.Proto != exchange.HTTP10 {
		return
	}
	nc := c.nc
	if inner, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = inner.NetConn()
	}
	if tcp, ok := nc.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // it fails on a closed connection only
	}
	_ = nc.Close() // as above
}

// linger lets the client read an answer that ends the connection while it
// still sends: a close with unread bytes would reset the connection and take
// the answer with it (RFC 9112, section 9.6).
func (c *serverConn) linger() {
	const (
		atMost = 2 * time.Second
		fast   = 256 << 10 // bytes
		pause  = 10 * time.Millisecond
	)
	if c.closeWrite() != nil {
		return
	}
	c.stoppedReads.Store(false)
	until := c.eng.until(atMost)
	in := &c.sess.in
	for total := 0; ; {
		n, err := c.read(in.buf, until)
		if err != nil || c.eng.now.Load() > until {
			return
		}
		// A client that floods on is read slowly: it costs no more than others then.
		if total += n; total > fast {
			time.Sleep(pause)
		}
	}
}
