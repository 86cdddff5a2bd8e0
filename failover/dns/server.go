package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/failover"
)

const (
	// maxQuery is the longest message that is read: a name has 255 bytes and
	// options of EDNS some hundreds.
	maxQuery = 4096
	// pause is how long receiving rests after the system refused it.
	pause = 20 * time.Millisecond
)

// Server answers on one port, UDP and TCP.
type Server struct {
	opts    Options
	metrics *metrics
	zone    atomic.Pointer[zone]
	udp     *net.UDPConn
	tcp     net.Listener
	clients *clients
}

// New binds the address; queries wait in the system's buffers until Run. Until
// Set they are answered SERVFAIL.
func New(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(opts)
	if err != nil {
		return nil, err
	}
	if err := s.bind(ctx); err != nil {
		return nil, fmt.Errorf("open dns on %s: %w", opts.Address, err)
	}
	// Last, so that a server that was not made leaves no metrics behind.
	if s.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, errors.Join(fmt.Errorf("register dns metrics: %w", err), s.Close())
	}
	return s, nil
}

// newServer returns one that answers and does not listen.
func newServer(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: opts, metrics: &metrics{}, clients: newClients()}
	s.zone.Store(newZone(&s.opts, nil, opts.TTL))
	return s, nil
}

// bind takes the same port for both. With port 0 the system chooses one that
// is free for one of them, so that the other may have to try again.
func (s *Server) bind(ctx context.Context) error {
	address := netip.MustParseAddrPort(s.opts.Address) // validate saw to it
	var config net.ListenConfig
	for attempt := 1; ; attempt++ {
		listener, err := config.Listen(ctx, "tcp", address.String())
		if err != nil {
			return err
		}
		same := netip.AddrPortFrom(address.Addr(), uint16(listener.Addr().(*net.TCPAddr).Port))
		conn, err := listenUDP(ctx, same)
		if err == nil {
			s.tcp, s.udp = listener, conn
			return nil
		}
		_ = listener.Close()
		if address.Port() != 0 || attempt == 10 {
			return err
		}
	}
}

// Address is where it listens, with the port that the system chose.
func (s *Server) Address() net.Addr { return s.udp.LocalAddr() }

// Set swaps what is answered; each answer is wholly of before or of after. Of
// a share that no client could use, or an edge's second one, nothing is
// answered; weights are taken within 1 to [failover.MaxWeight]. No shares:
// SERVFAIL. It may be called before and while Run runs.
func (s *Server) Set(shares []failover.Share) { s.set(shares, s.opts.TTL) }

// SetDoubtful is [Server.Set] of shares that may not be good for the next
// second: their time to live is 0, so that what follows is seen at once.
func (s *Server) SetDoubtful(shares []failover.Share) { s.set(shares, 0) }

func (s *Server) set(shares []failover.Share, ttl time.Duration) {
	next := newZone(&s.opts, shares, ttl)
	before := s.zone.Swap(next)
	s.metrics.entries.Store(int64(next.entries))
	switch {
	case before.entries > 0 && next.entries == 0:
		s.opts.Log.Error("dns knows no edge and fails queries", "domain", s.opts.Domain)
	case before.entries == 0 && next.entries > 0:
		s.opts.Log.Info("dns answers", "domain", s.opts.Domain, "edges", next.entries)
	}
}

// Run answers until ctx ends. It closes the sockets and returns nil when all
// it started has ended. A server runs once.
func (s *Server) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) { // one reads while others answer
		work.Go(func() { s.serveUDP(ctx) })
	}
	work.Go(func() { s.serveTCP(ctx) })
	<-ctx.Done()
	err := s.Close()
	s.clients.close()
	work.Wait()
	return err
}

// Close frees the sockets of a server that is not run.
func (s *Server) Close() error {
	if err := errors.Join(s.udp.Close(), s.tcp.Close()); err != nil {
		return fmt.Errorf("close dns: %w", err)
	}
	return nil
}

// rest waits a moment after an error that may pass, and reports whether ctx
// goes on.
func rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
