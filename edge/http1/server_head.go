package http1

import (
	"bytes"
	"errors"
)

// reasonGone: the client ended the connection, there is nobody to answer.
const reasonGone = reasonCount

// readHead reads and parses a request head.
func (c *serverConn) readHead() Reason {
	s := c.sess
	in := &s.in
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	var until int64
	s.x.Request.Method = "" // a refusal must not take the last request's for this one's
	for {
		s.x.Request.Header.Reset()
		s.head.reset()
		n, reason := parseRequest(in.buf[:in.w], &s.x.Request, &s.head, c.srv.limits)
		if n > c.srv.limits.bytes {
			return ReasonFieldsTooLarge
		}
		if reason != ReasonNone {
			return reason
		}
		if n != needMore {
			if len(in.buf)-n < headRoom && s.x.Request.ContentLength != 0 {
				c.growHead()
				continue
			}
			in.r = n
			return ReasonNone
		}
		if until == 0 {
			until = c.eng.until(c.srv.options.HeadTimeout)
		}
		if reason := c.readLine(until); reason != ReasonNone {
			return reason
		}
	}
}

// readLine reads until another line end has arrived: before that, parsing
// again would find nothing new.
func (c *serverConn) readLine(until int64) Reason {
	in := &c.sess.in
	for {
		if in.w >= c.srv.limits.bytes {
			if bytes.IndexByte(in.buf[:in.w], '\n') < 0 {
				return ReasonTargetTooLong
			}
			return ReasonFieldsTooLarge
		}
		if len(in.buf)-in.w < headRoom {
			c.growHead()
		}
		n, err := c.read(in.buf[in.w:], until)
		if errors.Is(err, errTimeout) {
			return ReasonHeadTimeout
		}
		if err != nil {
			return reasonGone
		}
		in.w += n
		if bytes.IndexByte(in.buf[in.w-n:in.w], '\n') >= 0 {
			return ReasonNone
		}
	}
}

// growHead moves to a buffer that holds the largest head and a piece of a body.
func (c *serverConn) growHead() {
	in := &c.sess.in
	if larger := c.srv.limits.bytes + bufferSize; len(in.buf) < larger {
		buf := make([]byte, larger)
		copy(buf, in.buf[:in.w])
		in.buf = buf
	}
}
