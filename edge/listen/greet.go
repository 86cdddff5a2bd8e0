package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

const (
	// protocolHTTP2 is HTTP/2's name in ALPN (RFC 9113, section 3.2).
	protocolHTTP2 = "h2"
	// preface is what a client begins HTTP/2 with (RFC 9113, section 3.4). No
	// request of HTTP/1 begins like that: its method is reserved.
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// plain reports whether connections need nothing before the codec.
func (l *Listener) plain() bool {
	return l.opts.TLS == nil && l.opts.HTTP2 == nil && len(l.opts.ProxyFrom) == 0
}

// greet does what comes before the codec. It returns the connection to serve
// and its codec, nil when the connection is not to be served.
func (l *Listener) greet(conn net.Conn, info *exchange.Conn) (net.Conn, Codec) {
	if !l.begin(conn) {
		return nil, nil
	}
	defer l.finish(conn)
	if conn.SetDeadline(time.Now().Add(l.opts.HeadTimeout)) != nil {
		return nil, nil // it is closed already
	}
	if len(l.opts.ProxyFrom) > 0 {
		if err := l.readProxy(conn, info); err != nil {
			l.failures.count(stageProxy, err)
			return nil, nil
		}
	}
	ready, codec := conn, l.opts.HTTP1
	switch {
	case l.opts.TLS != nil:
		secure := tls.Server(newSocket(conn), l.opts.TLS)
		if err := secure.Handshake(); err != nil {
			l.failures.count(stageTLS, err)
			return nil, nil
		}
		state := secure.ConnectionState()
		info.TLS, ready = &state, secure
		if state.NegotiatedProtocol == protocolHTTP2 {
			codec = l.opts.HTTP2
		}
	case l.opts.HTTP2 != nil:
		begins, err := beginsHTTP2(conn)
		if err != nil {
			l.failures.count(stagePreface, err)
			return nil, nil
		}
		if begins {
			codec = l.opts.HTTP2
		}
	}
	if conn.SetDeadline(time.Time{}) != nil {
		return nil, nil // it is closed already
	}
	return ready, codec
}

// begin notes a connection that no codec has yet; false: Close has been called.
func (l *Listener) begin(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.greeting == nil {
		return false
	}
	l.greeting[conn] = struct{}{}
	return true
}

func (l *Listener) finish(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.greeting, conn)
}

// beginsHTTP2 reports whether the client speaks HTTP/2, and reads nothing. A
// client that says nothing, or has said too little, is waited for.
func beginsHTTP2(conn net.Conn) (bool, error) {
	var seen [len(preface)]byte
	n, err := peek(conn, seen[:], func(seen []byte) bool { return string(seen) != preface[:len(seen)] })
	return string(seen[:n]) == preface, err
}

// peek waits until p is full or what has arrived is enough. It leaves
// everything unread: whoever serves the connection finds it as it came, and
// may use the socket itself.
func peek(conn net.Conn, p []byte, enough func(seen []byte) bool) (n int, err error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0, errNoSocket
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		n, failure = sysPeek(fd, p)
		if errors.Is(failure, syscall.EAGAIN) {
			n, failure = 0, nil
			return false
		}
		if failure == nil && n == 0 {
			failure = io.EOF
		}
		return failure != nil || enough(p[:n]) || n == len(p)
	})
	return n, errors.Join(err, failure)
}

var errNoSocket = errors.New("connection is not a socket")

func sysPeek(fd uintptr, p []byte) (int, error) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// timedOut reports whether the client took too long.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// goneAway reports whether the client ended the connection, or the listener
// did because it closed.
func goneAway(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
