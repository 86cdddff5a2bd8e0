package admin

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// boundListener closes connections beyond a limit as soon as they are accepted:
// a client learns it at once instead of waiting in the backlog.
type boundListener struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	refused atomic.Uint64
}

func bind(ctx context.Context, address string, limit int) (*boundListener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &boundListener{Listener: l, limit: int64(limit)}, nil
}

func (l *boundListener) address() netip.AddrPort {
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		address := tcp.AddrPort()
		return netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	}
	return netip.AddrPort{}
}

// Accept returns the next connection below the limit.
func (l *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			return &boundConn{Conn: conn, listener: l}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = conn.Close() // nothing was written to it
	}
}

// boundConn gives its place back when it is closed.
type boundConn struct {
	net.Conn
	listener *boundListener
	once     sync.Once
}

// Close closes the connection; again does nothing to the count.
func (c *boundConn) Close() error {
	c.once.Do(func() { c.listener.open.Add(-1) })
	return c.Conn.Close()
}
