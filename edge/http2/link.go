package http2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var (
	errTimeout     = errors.New("timed out")
	errInterrupted = errors.New("interrupted")
	// errEnded: the connection was ended in an orderly way.
	errEnded = errors.New("connection ended")
)

// side is what differs between the two ends of a connection. Its methods are
// called by the reader, without locks.
type side interface {
	// header takes a header section, which is in link.block.
	header(id uint32, end bool) *fault
	// goAway takes the peer's word that it will not process streams above last.
	goAway(last uint32)
	// batch is called when all frames that were received have been taken.
	batch()
}

// linkOptions are what both ends of a connection are configured by.
type linkOptions struct {
	client       bool
	counts       *[reasonCount]atomic.Int64
	headerBytes  int
	fields       int
	streams      int // the peer may have open
	window       int // of each stream, in bytes
	connWindow   int // of the connection
	headTimeout  time.Duration
	bodyTimeout  time.Duration
	writeTimeout time.Duration
	resets       bool // those of the peer are not counted
}

// link is one HTTP/2 connection. One goroutine reads; whoever has something
// to write appends it to a queue, and one of those takes it upon itself to
// write what all have queued.
type link struct {
	nc    net.Conn
	eng   *Engine
	side  side
	opts  *linkOptions
	index int // the engine's

	// The reader's own.
	in      *buffer // nil while the connection is quiet
	one     [1]byte // what a quiet connection waits with
	dec     *hpack.Decoder
	block   block
	opening opening
	settled bool // the peer's first SETTINGS have come

	// writeUntil and readUntil are the engine's times at which a write, or
	// the rest of a frame or a header section, must have come to its end;
	// 0 is never.
	writeUntil, readUntil atomic.Int64
	heard                 atomic.Int64 // the engine's time of the last bytes received
	holds                 atomic.Bool  // the reader has a buffer

	mu       sync.Mutex
	out      []byte     // mu; what is to be written
	outHome  *buffer    // mu; where out is, unless it had to grow
	queued   int64      // mu; bytes ever appended to out
	taken    int64      // mu; bytes of them that a write has begun with
	control  int        // mu; frames in out that the reader has queued
	flushing bool       // mu; somebody is about to write, or writes
	flusher  flusher    // the job of writing on
	flushed  *sync.Cond // mu; flushing has become false
	broken   bool       // mu; nothing can be written any more
	err      error      // mu; why the connection is over

	streams    map[uint32]*stream // mu
	active     int                // mu; of them, those that count against opts.streams
	blocked    []*stream          // mu; wait for the connection's window or for room in out
	closed     closedRing         // mu
	peerMax    uint32             // mu; the highest stream the peer has opened
	nextID     uint32             // mu; the next stream to open
	sendWindow int64              // mu; what may be sent
	recvWindow int64              // mu; what the peer may send
	credit     int64              // mu; to be given back to recvWindow
	budget     budget             // mu
	peer       peerSettings       // mu
	quietSince int64              // mu; the engine's time since which there is no stream
	shrink     bool               // mu; the reader is to let go of its buffer
	ending     bool               // mu; the reader is to end
	gone       bool               // mu; the peer takes no more streams
	drainUntil int64              // mu; the engine's time of the second GOAWAY, 0 when none is to come
	pinged     int64              // mu; the engine's time of a PING that is not answered yet, or 0
}

// opening is a header section that has begun.
type opening struct {
	active bool
	end    bool // END_STREAM
	id     uint32
	bytes  int
	frames int
}

// peerSettings are what the peer allows.
type peerSettings struct {
	window  int64 // of a new stream
	streams uint32
	table   uint32 // of the decoder
	shrunk  bool   // the table is smaller than it was, which the next header section must take note of
	connect bool   // extended CONNECT: RFC 8441
}

func (l *link) init(nc net.Conn, eng *Engine, side side, opts *linkOptions) {
	l.nc, l.eng, l.side, l.opts = nc, eng, side, opts
	l.block.maxSize, l.block.maxCount, l.block.trims = opts.headerBytes, opts.fields, opts.client
	l.dec = hpack.NewDecoder(tableSize, l.block.emit)
	// A block may be twice as large as what is answered with 431; beyond that
	// it ends the connection.
	l.dec.SetMaxStringLength(2 * opts.headerBytes)
	l.flusher.l = l
	l.flushed = sync.NewCond(&l.mu)
	l.streams = make(map[uint32]*stream)
	l.sendWindow, l.recvWindow = defaultWindow, int64(opts.connWindow)
	l.peer = peerSettings{window: defaultWindow, streams: 100, table: tableSize}
	l.budget.tokens = budgetMost
	now := eng.now.Load()
	l.heard.Store(now)
	l.quietSince = now
}

// greet queues what a connection begins with, after the client's preface. It
// is written together with what comes next.
func (l *link) greet(settings ...http2.Setting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := appendSettings(l.room(), settings...)
	if more := l.opts.connWindow - defaultWindow; more > 0 {
		out = appendWindowUpdate(out, 0, int64(more))
	}
	l.put(out)
}

// fill reads more bytes. A connection that has been quiet for a while waits
// without a buffer.
func (l *link) fill() error {
	if l.in == nil {
		n, err := l.readInto(l.one[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		l.in = l.eng.getBuffer(bufferIO)
		l.holds.Store(true)
		l.in.b[0], l.in.w = l.one[0], 1
		return nil
	}
	in := l.in
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case len(in.b)-in.r < frameHeaderLen+maxFrame:
		in.w = copy(in.b, in.b[in.r:in.w])
		in.r = 0
	}
	n, err := l.readInto(in.b[in.w:])
	if n > 0 {
		in.w += n // else the buffer may be another's by now
	}
	return err
}

// readInto reads once. It returns nothing and no error when the reader is
// only to look around.
func (l *link) readInto(p []byte) (int, error) {
	n, err := l.nc.Read(p)
	if n > 0 {
		l.heard.Store(l.eng.now.Load())
		return n, nil
	}
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	if err = l.nc.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return 0, errEnded
	}
	if l.shrink {
		l.shrink = false
		if l.in != nil && l.in.r == l.in.w && !l.opening.active {
			l.unpin()
			l.eng.putBuffer(l.in)
			l.in = nil
			l.holds.Store(false)
		}
	}
	return 0, nil
}

// unpin makes the decoder, which keeps a view of what it was given last, let
// go of the buffer: it is given a header section of one field in a byte of the
// connection's own, which changes nothing.
func (l *link) unpin() {
	l.one[0] = 0x80 | indexMethodGET
	l.dec.SetEmitEnabled(false)
	_, err := l.dec.Write(l.one[:])
	l.dec.SetEmitEnabled(true)
	if err == nil {
		_ = l.dec.Close() // a whole field was given
	}
}

// wakeReader makes the reader look around. mu is held, so that the reader,
// which clears the deadline before it looks, cannot miss the reason.
func (l *link) wakeReader() {
	_ = l.nc.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed connection only
}

// fail ends all streams. mu is held.
func (l *link) fail(err error) {
	if l.err == nil {
		l.err = err
	}
	for _, st := range l.streams {
		st.fail(l.err)
	}
	l.wakeBlocked()
}

// kill ends the connection at once. It never blocks.
func (l *link) kill(err error) {
	l.mu.Lock()
	l.fail(err)
	l.broken = true
	l.mu.Unlock()
	l.sever()
}

// sever closes the socket without a word, which TLS would want to say and
// might have to wait for.
func (l *link) sever() {
	nc := l.nc
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn()
	}
	_ = nc.Close() // nothing is left to be told
}

// end has the reader end the connection in an orderly way. mu is held.
func (l *link) end() {
	l.ending = true
	l.wakeReader()
}

// lingerAtMost is how long a peer may take to read the last words.
const lingerAtMost = time.Second

// A peer that floods on is read slowly after so many bytes: it costs no more
// than others then.
const (
	lingerBytes = 256 << 10
	lingerPause = 10 * time.Millisecond
)

// goodbye ends the connection after the reader has ended with err: a fault is
// told to the peer. What it has sent meanwhile is read, because a close with
// unread bytes would take the last words with it.
func (l *link) goodbye(err error) {
	broken, ok := errors.AsType[*fault](err)
	l.mu.Lock()
	if ok {
		l.opts.counts[broken.reason].Add(1)
		l.put(appendGoAway(l.room(), l.peerMax, broken.code))
		err = fmt.Errorf("connection ended: %w", err)
	}
	l.fail(lost(err))
	said := ok && broken.reason != ReasonQueue || errors.Is(err, errEnded)
	if l.opts.client && !ok && said {
		l.put(appendGoAway(l.room(), 0, http2.ErrCodeNo))
	}
	if !said {
		l.broken = true
	}
	if l.flushing {
		l.writeUntil.Store(l.eng.until(lingerAtMost))
	}
	l.flush()
	if !said {
		l.sever() // a write may be under way
	}
	l.mu.Lock()
	for l.flushing {
		l.flushed.Wait()
	}
	said = said && !l.broken
	l.mu.Unlock()
	if said && !l.opts.client {
		l.linger()
	}
	l.sever()
	if l.in != nil {
		l.eng.putBuffer(l.in)
		l.in = nil
	}
}

// linger waits for the peer to close.
func (l *link) linger() {
	half, ok := l.nc.(interface{ CloseWrite() error })
	if !ok || l.nc.SetDeadline(time.Now().Add(lingerAtMost)) != nil || half.CloseWrite() != nil {
		return
	}
	if l.in == nil {
		l.in = l.eng.getBuffer(bufferIO)
	}
	for total := 0; ; {
		n, err := l.nc.Read(l.in.b)
		if err != nil {
			return
		}
		if total += n; total > lingerBytes {
			time.Sleep(lingerPause)
		}
	}
}

// lost is why a connection is over whose reader ended with err.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// slot implements [sweepable].
func (l *link) slot() *int { return &l.index }

// quietFor is how long a connection has no stream before it lets go of its
// buffer.
const quietFor = time.Second

// sweepLink keeps the deadlines that both ends have. It reports whether the
// connection is still good.
func (l *link) sweepLink(now int64) bool {
	if over(l.writeUntil.Load(), now) {
		l.opts.counts[ReasonWriteTimeout].Add(1)
		l.kill(fmt.Errorf("write: %w", errTimeout))
		return false
	}
	if over(l.readUntil.Load(), now) {
		l.readUntil.Store(0)
		l.opts.counts[ReasonHeadTimeout].Add(1)
		l.kill(fmt.Errorf("read a frame: %w", errTimeout))
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range l.streams {
		st.sweep(now)
	}
	if quiet := now - int64(quietFor); l.holds.Load() && l.quietSince != 0 && l.quietSince < quiet && l.heard.Load() < quiet {
		l.shrink = true
		l.wakeReader()
	}
	return l.err == nil
}
