package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	errTimeout     = errors.New("timed out")
	errInterrupted = errors.New("interrupted")
)

// sock reads and writes one connection without timers: a wait notes until
// when it may last, and the sweeper ends it. One goroutine reads and one
// writes at a time.
type sock struct {
	nc  net.Conn
	raw syscall.RawConn // nil: not a plain socket, nc is read and written
	eng *Engine
	// index is the engine's.
	index int

	// readUntil and writeUntil are the engine's times at which a wait ends;
	// 0 is never, expired that the sweeper has ended it. They are not reset
	// when a wait ends by itself, so that the sweeper may end one that is over:
	// only while reads or writes say that there is one does it count.
	readUntil, writeUntil atomic.Int64
	// stopped: waits end with errInterrupted from now on; stoppedReads: waits
	// for reading do.
	stopped, stoppedReads atomic.Bool
	// newLimit is what rlimit is to become while relimit; 0 for no change.
	newLimit atomic.Int64

	rp      []byte // where the read under way puts its bytes
	rn      int
	rerr    syscall.Errno
	reads   bool  // the read under way has waited
	rlimit  int64 // readUntil for the read under way, once it waits
	relimit bool  // a limit set from another goroutine counts for it
	wp      []byte
	wn      int
	werr    syscall.Errno
	writes  bool // the write under way has waited
	widle   time.Duration
	readFn  func(fd uintptr) bool
	writeFn func(fd uintptr) bool
}

func (s *sock) init(nc net.Conn, eng *Engine) {
	s.nc, s.raw, s.eng = nc, rawConn(nc), eng
	s.readFn, s.writeFn = s.readable, s.writable
}

func (s *sock) slot() *int { return &s.index }

// sweep ends waits that have lasted too long.
func (s *sock) sweep(now int64) {
	if until := s.readUntil.Load(); until > 0 && now >= until && s.readUntil.CompareAndSwap(until, expired) {
		s.wakeReader()
	}
	if until := s.writeUntil.Load(); until > 0 && now >= until && s.writeUntil.CompareAndSwap(until, expired) {
		s.wakeWriter()
	}
}

// wakeReader makes a wait for reading end; one that has no reason to will
// start again.
func (s *sock) wakeReader() {
	_ = s.nc.SetReadDeadline(longAgo()) // it fails on a closed connection only
}

func (s *sock) wakeWriter() {
	_ = s.nc.SetWriteDeadline(longAgo()) // as above
}

// limitRead changes the limit of a read that another goroutine waits in.
func (s *sock) limitRead(until int64) {
	s.newLimit.Store(until)
	s.wakeReader()
}

// interrupt ends this and all later waits.
func (s *sock) interrupt() {
	s.stopped.Store(true)
	_ = s.nc.SetDeadline(longAgo()) // it fails on a closed connection only
}

func longAgo() time.Time { return time.Unix(1, 0) }

// read reads at least one byte into p; until is when the wait ends, 0 never.
// Errors are io.EOF, errTimeout, errInterrupted and the socket's own.
func (s *sock) read(p []byte, until int64) (int, error) {
	if s.raw == nil {
		return s.readConn(p, until)
	}
	s.rp, s.rlimit = p, until
	err := s.rawRead(s.readFn)
	s.rp = nil
	if err != nil {
		return 0, err
	}
	return s.readResult()
}

func (s *sock) readConn(p []byte, until int64) (int, error) {
	s.rlimit, s.reads = until, true
	for {
		s.readUntil.Store(s.rlimit)
		n, err := s.nc.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if err = s.readEnded(err); err != nil {
			return 0, err
		}
	}
}

// rawRead runs f as often as the socket is readable until it returns true.
// When it lets f wait, f calls waitRead.
func (s *sock) rawRead(f func(uintptr) bool) error {
	s.reads = false
	for {
		err := s.raw.Read(f)
		if err == nil {
			return nil
		}
		if err = s.readEnded(err); err != nil {
			return err
		}
	}
}

// waitRead notes that the read under way waits from here on.
func (s *sock) waitRead() {
	s.reads = true
	s.readUntil.Store(s.rlimit)
}

func (s *sock) readResult() (int, error) {
	if s.rerr != 0 {
		return 0, s.rerr
	}
	if s.rn == 0 {
		return 0, io.EOF
	}
	return s.rn, nil
}

func (s *sock) readable(fd uintptr) bool {
	s.rn, s.rerr = sysRecv(fd, s.rp)
	if s.rerr == syscall.EAGAIN {
		s.waitRead()
		return false
	}
	return true
}

// write writes all of p; idle is how long it may go without progress.
func (s *sock) write(p []byte, idle time.Duration) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.raw == nil {
		return s.writeConn(p, idle)
	}
	s.wp, s.wn, s.werr, s.widle, s.writes = p, 0, 0, idle, false
	for {
		err := s.raw.Write(s.writeFn)
		if err == nil {
			break
		}
		if err = s.writeEnded(err); err != nil {
			s.wp = nil
			return s.wn, err
		}
	}
	s.wp = nil
	if s.werr != 0 {
		return s.wn, s.werr
	}
	return s.wn, nil
}

func (s *sock) writable(fd uintptr) bool {
	for {
		n, errno := sysSend(fd, s.wp[s.wn:])
		if errno == syscall.EAGAIN {
			s.writes = true
			s.writeUntil.Store(s.eng.until(s.widle))
			return false
		}
		if errno != 0 {
			s.werr = errno
			return true
		}
		if s.wn += n; s.wn == len(s.wp) {
			return true
		}
	}
}

func (s *sock) writeConn(p []byte, idle time.Duration) (int, error) {
	written := 0
	s.writes = true
	for {
		s.writeUntil.Store(s.eng.until(idle))
		n, err := s.nc.Write(p[written:])
		written += n
		if err == nil || written == len(p) {
			if s.writeUntil.Swap(0) == expired {
				// Too late by a hair; the sweeper is about to end the next
				// write for it, and no TLS connection survives that.
				return written, errTimeout
			}
			return written, nil
		}
		if err = s.writeEnded(err); err != nil {
			return written, err
		}
	}
}

// readEnded says why a wait or a call ended: nil means for no reason that
// still holds, and that it is to be tried again. It clears the deadline first
// and looks for reasons afterwards; who ends a wait does it the other way
// round, so that neither can be missed.
func (s *sock) readEnded(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err = s.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if s.stopped.Load() || s.stoppedReads.Load() {
		s.wakeReader() // later waits end, too
		return errInterrupted
	}
	if s.reads && s.readUntil.Load() == expired {
		return errTimeout
	}
	if limit := s.newLimit.Swap(0); limit != 0 && s.relimit {
		s.rlimit = limit
	}
	return nil
}

// writeEnded is readEnded for writing.
func (s *sock) writeEnded(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err = s.nc.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	if s.stopped.Load() {
		s.wakeWriter()
		return errInterrupted
	}
	if s.writes && s.writeUntil.Load() == expired {
		return errTimeout
	}
	return nil
}

// quiet reports whether the peer has neither sent something unread nor ended
// its side. It is for plain sockets.
func (s *sock) quiet() bool {
	quiet := false
	err := s.raw.Control(func(fd uintptr) { quiet = sysQuiet(fd) })
	return err == nil && quiet
}

// closeWrite tells the peer that nothing more comes.
func (s *sock) closeWrite() error {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
