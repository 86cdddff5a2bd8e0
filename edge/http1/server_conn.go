package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
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
	waitFn       func(fd uintptr) bool
	quit         bool // the wait ended because of a drain
}

// session is what a connection needs while it works on a request.
type session struct {
	x    exchange.Exchange
	in   inbound
	base []byte // in.buf, unless a large head needed more
	// out is what is about to be written, in outBuffer, which the session has
	// only while it writes: a buffer that was just used is still in the cache.
	out       []byte
	outBuffer *buffer
	head      head
	body      requestBody
}

func newSession() *session {
	s := &session{base: make([]byte, bufferSize)}
	s.in.buf = s.base
	return s
}

func (s *session) takeOut(eng *Engine) []byte {
	if s.outBuffer == nil {
		s.outBuffer = eng.getBuffer()
	}
	return s.outBuffer.b[:0]
}

func (s *session) dropOut(eng *Engine) {
	if s.outBuffer != nil {
		eng.putBuffer(s.outBuffer)
		s.outBuffer, s.out = nil, nil
	}
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
	c.readUntil.Store(c.rlimit)
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
	for {
		c.readUntil.Store(until)
		if c.srv.draining.Load() {
			return false
		}
		n, err := c.nc.Read(first[:])
		if n == 1 {
			break
		}
		if err != nil && c.waitEnded(err, &c.readUntil) != nil {
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
	if !again && x.Request.Body != nil && !s.in.done {
		c.linger()
	}
	return again
}

// settle makes the session ready for the next request, whose beginning may be
// there already.
func (s *session) settle(poison bool) {
	in := &s.in
	if poison {
		for i := range in.buf[:in.r] {
			in.buf[i] = 0xdb
		}
	}
	if len(in.buf) != len(s.base) && in.w-in.r <= len(s.base) {
		in.w = copy(s.base, in.buf[in.r:in.w])
		in.r = 0
		in.buf = s.base
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// abort ends a connection within a response. Where only the end of the
// connection ends the response, a reset tells the client that it is cut.
func (c *serverConn) abort(x *exchange.Exchange) {
	if tcp, ok := c.nc.(*net.TCPConn); ok && x.Response.ContentLength < 0 {
		_ = tcp.SetLinger(0) // it fails on a closed connection only
	}
}

// sweep keeps the deadlines, and looks whether the client of a long exchange
// is still there.
func (c *serverConn) sweep(now int64) {
	c.sock.sweep(now)
	since := c.servingSince.Load()
	if since <= 0 || now-since < int64(goneAfter) {
		return
	}
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

// linger lets the client read an answer that ends the connection while it
// still sends: a close with unread bytes would reset the connection and take
// the answer with it (RFC 9112, section 9.6).
func (c *serverConn) linger() {
	const atMost = 2 * time.Second
	if c.closeWrite() != nil {
		return
	}
	c.stoppedReads.Store(false)
	until := c.eng.until(atMost)
	in := &c.sess.in
	for {
		if _, err := c.read(in.buf, until); err != nil || c.eng.now.Load() > until {
			return
		}
	}
}

// requestBody is a request's body as the transport pulls it, perhaps on a
// goroutine of its own while the response is written already.
type requestBody struct {
	c *serverConn
	s *session
	// pulled: a transport has begun; ended: the whole body has been received.
	pulled, ended atomic.Bool

	mu         sync.Mutex
	asked      bool // mu; 100 (Continue) was sent or is not to be sent any more
	responding bool // mu; the final response has begun
}

var (
	_ exchange.Body        = (*requestBody)(nil)
	_ exchange.Interrupter = (*requestBody)(nil)
	_ exchange.Interim     = (*serverConn)(nil)
)

func (b *requestBody) start(c *serverConn, s *session) {
	b.c, b.s = c, s
	b.pulled.Store(false)
	b.ended.Store(false)
	b.asked = !s.x.Request.ExpectContinue
	b.responding = false
}

// Next implements [exchange.Body].
func (b *requestBody) Next() ([]byte, error) {
	b.pulled.Store(true)
	if err := b.ask(); err != nil {
		return nil, err
	}
	in := &b.s.in
	piece, err := in.next()
	b.s.x.RequestBytes += int64(len(piece))
	if in.done {
		b.ended.Store(true)
	}
	if err == nil || err == io.EOF {
		return piece, err
	}
	return nil, b.failed(err)
}

// failed makes an error of the body the client's.
func (b *requestBody) failed(err error) *exchange.Error {
	failure := &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultClient, Wrote: true, Status: 400, Err: err}
	if reason, ok := errors.AsType[Reason](err); ok {
		b.c.srv.refused[reason].Add(1)
		return failure
	}
	switch {
	case errors.Is(err, errTimeout):
		b.c.srv.refused[ReasonBodyTimeout].Add(1)
		failure.Timeout, failure.Status = true, ReasonBodyTimeout.Status()
	case errors.Is(err, errInterrupted):
		failure.Fault, failure.Status = exchange.FaultGateway, 0
	default:
		b.c.srv.refused[ReasonBodyShort].Add(1)
	}
	return failure
}

// ask sends 100 (Continue) to a client that waits for it.
func (b *requestBody) ask() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked {
		return nil
	}
	b.asked = true
	if b.responding {
		return b.failed(errInterrupted)
	}
	if b.s.in.r < b.s.in.w || len(b.s.in.ready) > 0 || b.s.in.done {
		return nil // it did not wait
	}
	if _, err := b.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"), b.c.srv.options.WriteTimeout); err != nil {
		return b.failed(err)
	}
	return nil
}

// respond notes that the final response begins: it is too late for 100. It
// reports whether the connection can be used again as far as the body goes.
func (b *requestBody) respond() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.responding = true
	if b.ended.Load() {
		return true
	}
	if b.pulled.Load() {
		return false // who pulled may still be at it
	}
	if _, all := b.s.in.buffered(); all {
		return true
	}
	return b.asked && b.s.in.kind == bodyLength && b.s.in.left <= discardAtMost
}

// discardAtMost is how much of an unwanted body is read to keep a connection.
const discardAtMost = 64 << 10

// finish counts a body that was sent on without being pulled.
func (b *requestBody) finish() {
	if piece, all := b.s.in.buffered(); all {
		b.s.x.RequestBytes = int64(len(piece))
		b.s.in.drop()
		b.ended.Store(true)
	}
}

// discard reads what is left of the body and reports whether it has ended.
func (b *requestBody) discard() bool {
	for !b.s.in.done {
		if _, err := b.s.in.next(); err != nil {
			return err == io.EOF
		}
	}
	return true
}

// Buffered implements [exchange.Body].
func (b *requestBody) Buffered() ([]byte, bool) { return b.s.in.buffered() }

// Trailer implements [exchange.Body].
func (b *requestBody) Trailer() *exchange.Fields {
	if !b.s.in.done || b.s.in.trailer.Len() == 0 {
		return nil
	}
	return &b.s.in.trailer
}

// Close implements [exchange.Body].
func (b *requestBody) Close() error { return nil }

// Interrupt makes a pull that waits fail; who abandons an upload calls it.
func (b *requestBody) Interrupt() {
	b.c.stoppedReads.Store(true)
	b.c.wakeReader()
}
