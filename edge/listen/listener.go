// Package listen accepts client connections: it bounds how many there are,
// survives running out of file descriptors, and hands each connection to a
// codec on a goroutine of its own. TLS, the choice of codec and PROXY protocol
// belong between accepting and handing over.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Codec speaks a protocol on a connection until the connection ends, and closes
// it.
type Codec interface {
	ServeConn(conn net.Conn, info exchange.Conn)
}

// Options configure a [Listener].
type Options struct {
	// Address is "host:port"; port 0 lets the system choose.
	Address string
	// MaxConnections bounds open connections, from 1. At the bound new ones
	// are accepted and closed at once and counted, so that a client learns it
	// in a round trip instead of waiting in the backlog (as Envoy does with
	// its listener connection limit).
	MaxConnections int
	// KeepAlive is the TCP keep-alive period, so that a client that vanished
	// without a word frees its connection; 0 means 30 s.
	KeepAlive time.Duration
	Codec     Codec
	Log       *slog.Logger
}

func (o *Options) validate() error {
	if o.Codec == nil || o.Log == nil || o.Address == "" {
		return errors.New("a listener needs an address, a codec and a log")
	}
	if o.MaxConnections < 1 {
		return fmt.Errorf("listener's connection limit is %d, allowed from 1", o.MaxConnections)
	}
	return nil
}

// Listener accepts connections on one address.
type Listener struct {
	opts   Options
	socket net.Listener

	ids     atomic.Uint64
	open    atomic.Int64
	refused atomic.Uint64
	failed  atomic.Uint64
	serving sync.WaitGroup
}

// Stats counts since the start, and what is open now.
type Stats struct {
	Open     int64  // connections being served
	Accepted uint64 // handed to the codec
	Refused  uint64 // closed because the limit was reached
	Failed   uint64 // accept calls that failed
}

// Open binds the address. Connections wait in the system's backlog until Run.
func Open(ctx context.Context, opts Options) (*Listener, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.KeepAlive == 0 {
		opts.KeepAlive = 30 * time.Second
	}
	config := net.ListenConfig{KeepAlive: opts.KeepAlive}
	socket, err := config.Listen(ctx, "tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("open data listener: %w", err)
	}
	return &Listener{opts: opts, socket: socket}, nil
}

// Address is where it listens, with the port that the system chose.
func (l *Listener) Address() net.Addr { return l.socket.Addr() }

// Stats returns the counters.
func (l *Listener) Stats() Stats {
	return Stats{Open: l.open.Load(), Accepted: l.ids.Load(), Refused: l.refused.Load(), Failed: l.failed.Load()}
}

// Close stops accepting; connections that are open go on.
func (l *Listener) Close() error {
	if err := l.socket.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close data listener: %w", err)
	}
	return nil
}

// Run accepts until Close and returns when every connection has ended: the
// codec's drain ends them. An error is one that accepting cannot recover from.
func (l *Listener) Run() error {
	defer l.serving.Wait()
	pause := pause{}
	for {
		conn, err := l.socket.Accept()
		switch {
		case err == nil:
			pause.reset()
			l.serve(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case temporary(err):
			l.failed.Add(1)
			wait := pause.next()
			l.opts.Log.Warn("cannot accept connections", "error", err, "pause", wait)
			time.Sleep(wait) // the descriptors that are missing come back as connections end
		default:
			return fmt.Errorf("accept connections on %s: %w", l.socket.Addr(), err)
		}
	}
}

func (l *Listener) serve(conn net.Conn) {
	if l.open.Add(1) > int64(l.opts.MaxConnections) {
		l.open.Add(-1)
		l.refused.Add(1)
		_ = conn.Close() // nobody is there to be told
		return
	}
	info := exchange.Conn{ID: l.ids.Add(1), Remote: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}
	l.serving.Go(func() {
		defer l.open.Add(-1)
		l.opts.Codec.ServeConn(conn, info)
	})
}

// addrPort is a TCP address with IPv4 in its own form.
func addrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// temporary reports an error that says something of this moment or of one
// client, not of the listener.
func temporary(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM, syscall.EINTR,
		syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, // accept(2) of a broken client
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// pause grows from 5 ms to 1 s while accepting keeps failing, as net/http's.
type pause struct{ current time.Duration }

func (p *pause) next() time.Duration {
	p.current = min(max(2*p.current, 5*time.Millisecond), time.Second)
	return p.current
}

func (p *pause) reset() { p.current = 0 }
