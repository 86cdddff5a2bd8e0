// Package listen accepts client connections: it bounds how many there are,
// survives running out of file descriptors, and hands each connection to a
// codec on a goroutine of its own. Between accepting and handing over it reads
// a PROXY protocol header, shakes hands over TLS and finds out which protocol
// the client speaks, all of it within one timeout.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Codec speaks a protocol on a connection until the connection ends, and closes
// it.
type Codec interface {
	ServeConn(conn net.Conn, info exchange.Conn)
}

// Options configure a [Listener].
type Options struct {
	// Name tells this listener from others, in metrics and logs.
	Name string
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
	// HTTP1 takes the connections that speak HTTP/1. Required.
	HTTP1 Codec
	// HTTP2 takes those that speak HTTP/2, agreed on by ALPN or, on cleartext,
	// known by the preface that they begin with, which the codec reads; nil:
	// HTTP/2 is not spoken and nothing looks for it.
	HTTP2 Codec
	// TLS has the certificates and the protocols to agree on; nil: cleartext.
	TLS *tls.Config
	// ProxyFrom are the peers that begin each connection with a PROXY protocol
	// header (version 1 or 2, by the specification of HAProxy); others are
	// refused, because anybody could say anything in it. Empty: no header is
	// read.
	ProxyFrom []netip.Prefix
	// HeadTimeout bounds, as a whole, what comes before the codec: PROXY
	// header, TLS handshake, and the wait for the bytes that tell the protocol.
	// 0 means 10 s.
	HeadTimeout time.Duration
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

func (o *Options) validate() error {
	if o.HTTP1 == nil || o.Log == nil || o.Address == "" {
		return errors.New("a listener needs an address, a codec and a log")
	}
	if o.MaxConnections < 1 {
		return fmt.Errorf("listener's connection limit is %d, allowed from 1", o.MaxConnections)
	}
	if o.HTTP2 == nil && o.TLS != nil && slices.Contains(o.TLS.NextProtos, protocolHTTP2) {
		return errors.New("a listener that offers h2 needs a codec for it")
	}
	return nil
}

// Listener accepts connections on one address.
type Listener struct {
	opts     Options
	socket   net.Listener
	failures failures

	ids     atomic.Uint64
	open    atomic.Int64
	refused atomic.Uint64
	failed  atomic.Uint64
	serving sync.WaitGroup

	mu sync.Mutex
	// greeting are the connections that no codec has yet; nil once closed.
	greeting map[net.Conn]struct{} // mu
}

// Stats counts since the start, and what is open now.
type Stats struct {
	Open     int64  // connections being served
	Accepted uint64 // taken on, whatever became of them
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
	if opts.HeadTimeout == 0 {
		opts.HeadTimeout = 10 * time.Second
	}
	l := &Listener{opts: opts, greeting: make(map[net.Conn]struct{})}
	if err := l.failures.register(opts.Registerer, opts.Name); err != nil {
		return nil, fmt.Errorf("register metrics of listener %s: %w", opts.Name, err)
	}
	config := net.ListenConfig{KeepAlive: opts.KeepAlive}
	socket, err := config.Listen(ctx, "tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("open data listener: %w", err)
	}
	l.socket = socket
	return l, nil
}

// Address is where it listens, with the port that the system chose.
func (l *Listener) Address() net.Addr { return l.socket.Addr() }

// Stats returns the counters.
func (l *Listener) Stats() Stats {
	return Stats{Open: l.open.Load(), Accepted: l.ids.Load(), Refused: l.refused.Load(), Failed: l.failed.Load()}
}

// Close stops accepting and cuts the connections that no codec has yet, as
// the system does with those in its backlog; the others go on.
func (l *Listener) Close() error {
	l.mu.Lock()
	greeting := l.greeting
	l.greeting = nil
	l.mu.Unlock()
	for conn := range greeting {
		_ = conn.Close() // it has nothing to lose
	}
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
		ready, codec := conn, l.opts.HTTP1
		if !l.plain() {
			ready, codec = l.greet(conn, &info)
		}
		switch {
		case codec == nil:
			_ = conn.Close() // what went wrong has been counted
			l.open.Add(-1)
		case info.TLS != nil:
			// The handshake has made this goroutine's stack large. The
			// connection, which may be idle for long, gets a small one.
			l.serving.Go(func() { l.hand(ready, codec, info) })
		default:
			l.hand(ready, codec, info)
		}
	})
}

func (l *Listener) hand(conn net.Conn, codec Codec, info exchange.Conn) {
	defer l.open.Add(-1)
	codec.ServeConn(conn, info)
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
