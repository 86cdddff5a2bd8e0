package http2

import (
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// drainStep is how long the first GOAWAY may take to reach the client when it
// does not answer the PING behind it.
const drainStep = time.Second

// serverConn is one client's connection.
type serverConn struct {
	link
	srv  *Server
	info exchange.Conn

	// ready are the streams that the frames at hand have opened: they begin
	// when all frames are taken, so that a small body is there already.
	ready []*serverStream
	now   time.Time // of the frames at hand

	draining bool          // mu; the first GOAWAY is sent
	closing  bool          // mu; the last is: the connection ends after its streams
	working  int           // mu; handlers that are not done
	idle     chan struct{} // mu; closed when working is 0, if somebody waits
}

var (
	_ side      = (*serverConn)(nil)
	_ sweepable = (*serverConn)(nil)
)

func newServerConn(s *Server, nc net.Conn, info exchange.Conn) *serverConn {
	c := &serverConn{srv: s, info: info}
	c.init(nc, s.eng, c, &s.link)
	return c
}

// serve carries the connection to its end.
func (c *serverConn) serve() {
	o := c.opts
	c.greet(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(o.streams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(o.window)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(o.headerBytes)},
		http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1},
	)
	err := c.readPreface()
	if err == nil {
		err = c.readFrames()
	}
	c.dropReady()
	c.cancelAll()
	c.goodbye(err)
	c.mu.Lock()
	if c.working > 0 {
		idle := make(chan struct{})
		c.idle = idle
		c.mu.Unlock()
		<-idle
		return
	}
	c.mu.Unlock()
}

// readPreface reads what a client's connection begins with.
func (c *serverConn) readPreface() error {
	c.limitRead()
	for {
		if in := c.in; in != nil {
			n := min(in.w-in.r, len(preface))
			if string(in.b[in.r:in.r+n]) != preface[:n] {
				return &fault{http2.ErrCodeProtocol, ReasonPreface}
			}
			if n == len(preface) {
				in.r += n
				return nil
			}
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// cancelAll tells the handlers that the client has gone.
func (c *serverConn) cancelAll() {
	cause := exchange.ErrClientGone
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, errDrained) {
		cause = errDrained
	}
	list := make([]*stream, 0, len(c.streams))
	for _, st := range c.streams {
		if st.x != nil {
			st.holds++
			list = append(list, st)
		}
	}
	for _, st := range list {
		st.holds--
		st.cancel(cause)
	}
}

// batch implements [side].
func (c *serverConn) batch() {
	c.mu.Lock()
	for _, ss := range c.ready {
		if ss.err == nil {
			c.working++
			ss.x = &ss.exchange
		}
	}
	c.mu.Unlock()
	for i, ss := range c.ready {
		if ss.x != nil {
			c.ready[i] = nil
			c.srv.requests.Add(1)
			c.eng.workers.do(ss)
		}
	}
	c.dropReady()
	c.now = time.Time{}
	c.mu.Lock()
	c.maybeEnd()
	c.mu.Unlock()
}

// dropReady forgets the streams that no handler is to see.
func (c *serverConn) dropReady() {
	for i, ss := range c.ready {
		c.ready[i] = nil
		if ss == nil {
			continue
		}
		c.mu.Lock()
		ss.remove()
		c.mu.Unlock()
		ss.recycle()
	}
	c.ready = c.ready[:0]
}

// maybeEnd ends the connection when it has said that it will. mu is held.
func (c *serverConn) maybeEnd() {
	if c.closing && len(c.streams) == 0 && !c.ending {
		c.end()
	}
}

// workerDone counts a handler that is done. mu is held.
func (c *serverConn) workerDone() {
	c.working--
	if c.working == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// goAway implements [side]: a client that says so still gets its answers.
func (c *serverConn) goAway(uint32) {}

// drain begins to end the connection: RFC 9113, section 6.8.
func (c *serverConn) drain() {
	c.mu.Lock()
	if !c.draining {
		c.draining = true
		c.drainUntil = c.eng.until(drainStep)
		out := appendGoAway(c.room(), maxStreamID, http2.ErrCodeNo)
		c.put(appendPing(out, 0, pingDrain))
	}
	c.mu.Unlock()
	c.flushElsewhere()
}

// lastGoAway takes no more streams. mu is held.
func (c *serverConn) lastGoAway() {
	if c.closing || c.err != nil {
		return
	}
	c.draining, c.closing, c.drainUntil = true, true, 0
	c.put(appendGoAway(c.room(), c.peerMax, http2.ErrCodeNo))
	c.maybeEnd()
}

// cut ends the connection whatever it does.
func (c *serverConn) cut() { c.kill(errDrained) }

// sweep implements [sweepable].
func (c *serverConn) sweep(now int64) {
	if !c.sweepLink(now) {
		return
	}
	c.mu.Lock()
	if over(c.drainUntil, now) {
		c.lastGoAway()
	}
	if idle := c.srv.options.IdleTimeout; idle > 0 && c.quietSince != 0 && now-c.quietSince > int64(idle) {
		c.lastGoAway()
	}
	c.mu.Unlock()
	c.flushElsewhere()
}

func (c *serverConn) streamCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// header implements [side].
func (c *serverConn) header(id uint32, end bool) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[id]; st != nil {
		return c.trailers(st, end)
	}
	switch {
	case id%2 == 0:
		return faultFrame
	case id <= c.peerMax:
		switch c.closed.find(id) {
		case closedByUs:
			return c.spend(1)
		case closedLong:
			return faultFrame
		default:
			return faultClosed
		}
	}
	c.peerMax = id
	c.budget.opened++
	switch {
	case c.closing:
		return c.refuse(id, http2.ErrCodeRefusedStream, ReasonDraining)
	case c.active >= c.opts.streams || c.working >= 2*c.opts.streams:
		if bad := c.wasted(); bad != nil {
			return bad
		}
		return c.refuse(id, http2.ErrCodeRefusedStream, ReasonTooManyStreams)
	}
	c.budget.earn(budgetStream)
	ss := c.eng.streams.Get().(*serverStream)
	if reason := ss.take(c, end); reason != ReasonNone {
		defer c.eng.streams.Put(ss)
		return c.refuseRequest(id, end, reason)
	}
	ss.start(&c.link, id)
	ss.peerEnded = end
	if !end && ss.exchange.Request.Upgrade == "" {
		ss.left = ss.exchange.Request.ContentLength
	}
	c.ready = append(c.ready, ss)
	return nil
}

// trailers takes a second header section of a stream. mu is held.
func (c *serverConn) trailers(st *stream, end bool) *fault {
	b := &c.block
	switch {
	case st.reset == closedByPeer || (st.peerEnded && st.reset == closedLong):
		return faultClosed
	case st.dead():
		return nil
	case !end || b.seen != 0 || b.malformed != ReasonNone || b.tooMuch != ReasonNone:
		return c.refuse(st.id, http2.ErrCodeProtocol, ReasonTrailer)
	case st.left > 0:
		return c.refuse(st.id, http2.ErrCodeProtocol, ReasonContentLength)
	}
	st.trailer, b.fields = b.fields, st.trailer
	st.trailer.KeepTrailers()
	st.endReceived()
	return nil
}
