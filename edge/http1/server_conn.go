package http1

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// What a connection is doing.
const (
	phaseIdle uint32 = iota
	phaseBusy
	phaseTunnel
)

const (
	// goneAfter is how long an exchange is under way before the sweeper looks
	// whether its client is still there: quick requests never pay for that.
	goneAfter = 250 * time.Millisecond
	// goneEvery is the time between two looks.
	goneEvery = 400 * time.Millisecond
	// beingChecked stands in servingSince while the sweeper looks.
	beingChecked = -1
	// headRoom is what is kept free behind a head, for the body's pieces.
	headRoom = 4 << 10
)

// serverConn is one client's connection. While it waits for a request it
// holds no session, which is where all buffers are.
type serverConn struct {
	sock
	srv   *Server
	info  exchange.Conn
	phase atomic.Uint32
	// servingSince is the engine's time at which the exchange began, 0 when
	// there is none. The sweeper may use sess while it has put beingChecked
	// here, and holds checking as long.
	servingSince atomic.Int64
	checking     sync.Mutex
	sess         *session
	lookAt       int64 // the sweeper's: when it looks again
	waitFn       func(fd uintptr) bool
	quit         bool // the wait ended because of a drain
}

// loop serves request after request.
func (c *serverConn) loop() {
	until := c.eng.until(c.srv.options.HeadTimeout)
	for c.await(until) && c.exchange() {
		until = c.eng.until(c.srv.options.IdleTimeout)
	}
	if c.sess != nil {
		c.sess.in.r, c.sess.in.w = 0, 0
		c.putSession()
	}
}

// await waits for the first bytes of a request. It gives the session away
// unless the client has sent ahead.
func (c *serverConn) await(until int64) bool {
	if c.sess != nil && c.sess.in.r < c.sess.in.w {
		return true
	}
	c.phase.Store(phaseIdle)
	defer c.phase.Store(phaseBusy)
	if c.raw == nil {
		return c.awaitConn(until)
	}
	c.rlimit = until
	if err := c.rawRead(c.waitFn); err != nil || c.quit {
		return false
	}
	n, err := c.readResult()
	if err != nil {
		return false
	}
	c.sess.in.w += n
	return true
}

// awaitable takes a session to read into, and gives it back when there is
// nothing to read yet.
func (c *serverConn) awaitable(fd uintptr) bool {
	if c.sess == nil {
		c.sess = c.srv.sessions.Get().(*session)
		c.sess.in.s = &c.sock
		c.sess.in.r, c.sess.in.w = 0, 0
	}
	c.rn, c.rerr = sysRecv(fd, c.sess.in.buf)
	if c.rerr != syscall.EAGAIN {
		return true
	}
	c.putSession()
	c.waitRead()
	// Only now: a drain that comes later sees the phase and wakes this wait.
	c.quit = c.srv.draining.Load()
	return c.quit
}

// awaitConn waits with a single byte in hand on what is not a plain socket.
func (c *serverConn) awaitConn(until int64) bool {
	if c.sess != nil {
		c.putSession()
	}
	var first [1]byte
	c.rlimit, c.reads = until, true
	for {
		c.readUntil.Store(until)
		if c.srv.draining.Load() {
			return false
		}
		n, err := c.nc.Read(first[:])
		if n == 1 {
			break
		}
		if err != nil && c.readEnded(err) != nil {
			return false
		}
	}
	c.sess = c.srv.sessions.Get().(*session)
	in := &c.sess.in
	in.s, in.r, in.w = &c.sock, 0, 1
	in.buf[0] = first[0]
	return true
}

func (c *serverConn) putSession() {
	s := c.sess
	c.sess = nil
	s.in.s = nil
	s.body.c = nil
	s.in.buf = s.base
	s.dropOut(c.eng)
	c.srv.sessions.Put(s)
}

// sweep keeps the deadlines, and looks whether the client of a long exchange
// is still there.
func (c *serverConn) sweep(now int64) {
	c.sock.sweep(now)
	since := c.servingSince.Load()
	if since <= 0 || now-since < int64(goneAfter) || now < c.lookAt {
		return
	}
	c.lookAt = now + int64(goneEvery)
	c.checking.Lock()
	defer c.checking.Unlock()
	if !c.servingSince.CompareAndSwap(since, beingChecked) {
		return
	}
	// A client that has only shut down its sending side counts as gone too,
	// as with Envoy and nginx: nothing tells the two apart.
	if peerGone(c.nc) {
		c.sess.x.Cancel(exchange.ErrClientGone)
	}
	c.servingSince.CompareAndSwap(beingChecked, since)
}

// drain ends the connection if it waits for a request.
func (c *serverConn) drain() {
	if c.phase.Load() == phaseIdle {
		c.wakeReader()
	}
}

// cut ends the connection whatever it does.
func (c *serverConn) cut() {
	c.checking.Lock()
	defer c.checking.Unlock()
	if since := c.servingSince.Load(); since > 0 && c.servingSince.CompareAndSwap(since, beingChecked) {
		c.sess.x.Cancel(errDrained)
		c.servingSince.CompareAndSwap(beingChecked, since)
	}
	c.interrupt()
}
