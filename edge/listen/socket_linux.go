package listen

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection as TLS reads and writes it. Like those of
// HTTP/1, its calls do not tell the scheduler: they return at once, and being
// taken for blocked would cost more than the call. One goroutine reads and one
// writes at a time; crypto/tls sees to that.
type socket struct {
	*net.TCPConn
	raw syscall.RawConn

	rp      []byte // where the read under way puts its bytes
	rn      int
	rerr    syscall.Errno
	wp      []byte // what the write under way has left
	werr    syscall.Errno
	readFn  func(fd uintptr) bool
	writeFn func(fd uintptr) bool
}

var _ net.Conn = (*socket)(nil)

// newSocket returns conn itself when it is no TCP connection.
func newSocket(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	s := &socket{TCPConn: tcp, raw: raw}
	s.readFn, s.writeFn = s.readable, s.writable
	return s
}

// Read implements [net.Conn].
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.rp = p
	err := s.raw.Read(s.readFn)
	s.rp = nil
	switch {
	case err != nil:
		return 0, err
	case s.rerr != 0:
		return 0, os.NewSyscallError("recvfrom", s.rerr)
	case s.rn == 0:
		return 0, io.EOF
	}
	return s.rn, nil
}

func (s *socket) readable(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(s.rp))), uintptr(len(s.rp)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		s.rn, s.rerr = int(n), errno
		return errno != unix.EAGAIN
	}
}

// Write implements [net.Conn].
func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.wp, s.werr = p, 0
	err := s.raw.Write(s.writeFn)
	written := len(p) - len(s.wp)
	s.wp = nil
	if err == nil && s.werr != 0 {
		err = os.NewSyscallError("sendto", s.werr)
	}
	return written, err
}

func (s *socket) writable(fd uintptr) bool {
	for len(s.wp) > 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(s.wp))), uintptr(len(s.wp)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			s.wp = s.wp[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.werr = errno
			return true
		}
	}
	return true
}
