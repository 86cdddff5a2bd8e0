package gossip

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's own, with two things added: the connections of
// others are bounded in number, and all connections end with it, so that no
// goroutine outlives Run by more than its last step.
type transport struct {
	*memberlist.NetTransport
	streams  chan net.Conn
	limit    int
	counters *counters
	done     chan struct{}
	wg       sync.WaitGroup

	mu     sync.Mutex
	open   map[*trackedConn]struct{} // mu; nil once closed
	closed bool                      // mu
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens the sockets. It starts goroutines, so it is called by Run.
func listen(bind netip.AddrPort, limit int, logger *log.Logger, c *counters) (*transport, error) {
	var inner *memberlist.NetTransport
	var err error
	// With port 0 the port that TCP got may be taken on UDP: try another.
	for range 10 {
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind.Addr().String()},
			BindPort:  int(bind.Port()),
			Logger:    logger,
		})
		if err == nil || bind.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", bind, err)
	}
	t := &transport{
		NetTransport: inner,
		streams:      make(chan net.Conn),
		limit:        limit,
		counters:     c,
		done:         make(chan struct{}),
		open:         make(map[*trackedConn]struct{}),
	}
	t.wg.Go(t.accept)
	return t, nil
}

// accept passes streams on while there is room.
func (t *transport) accept() {
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			tracked := t.track(conn)
			if tracked == nil {
				t.counters.streamsFull.Add(1)
				_ = conn.Close() // nothing was read or written
				continue
			}
			select {
			case t.streams <- tracked:
			case <-t.done:
				_ = tracked.Close()
			}
		case <-t.done:
			return
		}
	}
}

func (t *transport) track(conn net.Conn) *trackedConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.open) >= t.limit {
		return nil
	}
	tracked := &trackedConn{Conn: conn, transport: t}
	t.open[tracked] = struct{}{}
	return tracked
}

// StreamCh is where memberlist gets the connections of others.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes the sockets and every accepted connection.
func (t *transport) Shutdown() error {
	// The inner listeners hand over what they accepted before they end, so
	// accept must still be there to take it.
	err := t.NetTransport.Shutdown()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return err
	}
	t.closed = true
	open := t.open
	t.open = nil
	t.mu.Unlock()
	close(t.done)
	t.wg.Wait()
	for conn := range open {
		_ = conn.Conn.Close() // memberlist reports what it was doing with it
	}
	return err
}

// trackedConn tells its transport when it is closed.
type trackedConn struct {
	net.Conn
	transport *transport
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.transport.mu.Lock()
	delete(c.transport.open, c)
	c.transport.mu.Unlock()
	return c.Conn.Close()
}
