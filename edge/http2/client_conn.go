package http2

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// clientConn is a connection to the endpoint.
type clientConn struct {
	link
	t        *Transport
	capacity atomic.Int32  // exchanges it may carry; 0 when it takes no more
	reserved int           // the transport's mu; exchanges that have a place
	leaving  bool          // the transport's mu; it ends with its last exchange
	used     atomic.Bool   // it has carried an exchange
	greeted  chan struct{} // closed when the endpoint's settings are known, or never will be
	done     chan struct{} // closed when the reader has ended
}

var (
	_ side      = (*clientConn)(nil)
	_ sweepable = (*clientConn)(nil)
)

// run reads until the connection ends.
func (c *clientConn) run() {
	defer close(c.done)
	err := c.readFrames()
	c.capacity.Store(0)
	c.t.retire(c)
	c.goodbye(err)
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
	c.eng.remove(c)
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.t.open--
}

// leave ends a connection that carries nothing.
func (c *clientConn) leave() {
	c.mu.Lock()
	c.capacity.Store(0)
	c.end()
	c.mu.Unlock()
}

// batch implements [side].
func (c *clientConn) batch() {
	if !c.settled {
		return
	}
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone && !c.ending && c.err == nil {
		c.capacity.Store(int32(min(int64(c.peer.streams), int64(c.t.options.MaxStreamsPerConn))))
	}
}

var errGoneAway = errors.New("endpoint takes no more exchanges on this connection")

// goAway implements [side].
func (c *clientConn) goAway(last uint32) {
	c.mu.Lock()
	c.capacity.Store(0)
	c.gone = true
	for id, st := range c.streams {
		if id > last && st.err == nil {
			st.call.refused = true
			st.reset = closedByPeer
			st.fail(errGoneAway)
		}
	}
	c.mu.Unlock()
	c.t.retire(c)
}

// sweep implements [sweepable].
func (c *clientConn) sweep(now int64) {
	if !c.sweepLink(now) {
		return
	}
	o := &c.t.options
	c.mu.Lock()
	switch {
	case c.pinged == 0:
	case c.heard.Load() > c.pinged:
		c.pinged = 0
	case now-c.pinged > int64(o.PingTimeout):
		c.mu.Unlock()
		c.kill(fmt.Errorf("ping: %w", errTimeout))
		return
	}
	idle := c.quietSince != 0 && now-c.quietSince > int64(o.IdleTimeout)
	c.mu.Unlock()
	if idle && c.t.unused(c) {
		return
	}
	c.flushElsewhere()
}

// probe asks for a sign of life together with an exchange on a connection
// that has been silent. Asking at other times is taken for abuse by some
// endpoints (grpc-go's keepalive enforcement). mu is held.
func (c *clientConn) probe() {
	now := c.eng.now.Load()
	if c.pinged == 0 && now-c.heard.Load() > int64(c.t.options.PingInterval) {
		c.pinged = now
		c.put(appendPing(c.room(), 0, pingHealth))
	}
}

// header implements [side].
func (c *clientConn) header(id uint32, end bool) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[id]
	if st == nil {
		if c.idle(id) {
			return faultFrame
		}
		if c.closed.find(id) == closedByUs {
			return c.spend(1)
		}
		return c.refuse(id, http2.ErrCodeStreamClosed, ReasonStreamClosed)
	}
	switch {
	case st.peerEnded || st.reset == closedByPeer:
		return c.refuse(id, http2.ErrCodeStreamClosed, ReasonStreamClosed)
	case st.err != nil:
		return nil
	}
	var reason Reason
	if st.call.headed {
		reason = st.call.takeTrailer(&c.block, end)
	} else {
		reason = st.call.takeHead(&c.block, end)
	}
	if reason != ReasonNone {
		return c.refuse(id, http2.ErrCodeProtocol, reason)
	}
	wake(st.readable)
	return nil
}

// maxInterim bounds the interim responses before a final one.
const maxInterim = 16

// interim is an interim response that was received.
type interim struct {
	status int
	header exchange.Fields
}

// takeHead takes a response's header section. mu is held.
func (call *call) takeHead(b *block, end bool) Reason {
	switch {
	case b.malformed != ReasonNone:
		return b.malformed
	case b.tooMuch != ReasonNone:
		return b.tooMuch
	case b.seen != sawStatus || len(b.status) != 3:
		return ReasonPseudo
	}
	status, err := strconv.Atoi(b.status)
	if err != nil || status < 100 || status == 101 || status > 599 {
		return ReasonPseudo
	}
	if status < 200 {
		if call.interimCount++; end || call.interimCount > maxInterim {
			return ReasonPseudo
		}
		if status == 100 {
			call.continued = true
		} else {
			call.interims = append(call.interims, interim{status, b.fields})
			b.fields = exchange.Fields{}
		}
		return ReasonNone
	}
	call.status, call.announced = status, b.length
	switch {
	case bodyless(call.method, status):
		call.left = 0
	case end && b.length > 0:
		return ReasonContentLength
	case b.trailers:
		// HTTP/1 sends trailers only behind a body whose length it does not
		// say.
		call.left, call.announced = b.length, -1
	default:
		call.left = b.length
	}
	call.header, b.fields = b.fields, call.header
	call.headed = true
	if end {
		call.left = -1
		call.endReceived()
	}
	return ReasonNone
}

// takeTrailer takes the header section that ends a response. mu is held.
func (call *call) takeTrailer(b *block, end bool) Reason {
	switch {
	case !end || b.seen != 0 || b.malformed != ReasonNone || b.tooMuch != ReasonNone:
		return ReasonTrailer
	case call.left > 0:
		return ReasonContentLength
	}
	call.trailer, b.fields = b.fields, call.trailer
	call.endReceived()
	return ReasonNone
}
