package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Bounds of what clients can hold by TCP (RFC 7766, 6.2.2 and 6.2.3). One may
// be slow or idle, many may be hostile: UDP goes on beside them.
const (
	maxConnections = 256
	maxPerClient   = 16              // of one IPv4 address or one IPv6 /64
	patience       = 5 * time.Second // for a question to come as a whole and its answer to be taken
	maxLifetime    = 30 * time.Second
)

func (s *Server) serveTCP(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.metrics.dropped(dropRead)
			if !rest(ctx) {
				return
			}
			continue
		}
		work.Go(func() { s.serveConn(conn) })
	}
}

// serveConn answers one question after the other until the client ends or its
// time is up.
func (s *Server) serveConn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !s.clients.admit(conn) {
		s.metrics.dropped(dropConnection)
		return
	}
	defer s.clients.leave(conn)
	s.metrics.open.Add(1)
	defer s.metrics.open.Add(-1)

	end := time.Now().Add(maxLifetime)
	var in, out []byte
	for {
		deadline := time.Now().Add(patience)
		if deadline.After(end) {
			deadline = end
		}
		if err := conn.SetDeadline(deadline); err != nil {
			return
		}
		var size [2]byte
		if begun, err := io.ReadFull(conn, size[:]); err != nil {
			if begun > 0 {
				s.gone(err)
			}
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > maxQuery {
			s.metrics.dropped(dropLong)
			return
		}
		if cap(in) < n {
			in = make([]byte, n)
		}
		if _, err := io.ReadFull(conn, in[:n]); err != nil {
			s.gone(err)
			return
		}
		reply := s.reply(append(out[:0], 0, 0), in[:n], false)
		if reply == nil { // no client of DNS
			return
		}
		out = reply
		binary.BigEndian.PutUint16(out, uint16(len(out)-len(size)))
		if _, err := conn.Write(out); err != nil {
			s.metrics.dropped(dropWrite)
			return
		}
	}
}

// gone counts a client that ran out of time in the middle of a question.
func (s *Server) gone(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.metrics.dropped(dropSlow)
	}
}

// clients are the open connections.
type clients struct {
	mu     sync.Mutex
	open   map[net.Conn]netip.Prefix // mu; nil once closed
	counts map[netip.Prefix]int      // mu
}

func newClients() *clients {
	return &clients{open: make(map[net.Conn]netip.Prefix), counts: make(map[netip.Prefix]int)}
}

// admit takes a connection on, unless there are too many.
func (c *clients) admit(conn net.Conn) bool {
	client := clientOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil || len(c.open) >= maxConnections || c.counts[client] >= maxPerClient {
		return false
	}
	c.open[conn] = client
	c.counts[client]++
	return true
}

func (c *clients) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if c.counts[client]--; c.counts[client] == 0 {
		delete(c.counts, client)
	}
}

// close ends all connections and admits no more.
func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// clientOf is whom a connection counts for.
func clientOf(conn net.Conn) netip.Prefix {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	address, bits := from.Addr().Unmap(), 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.WithZone("").Prefix(bits)
	return prefix
}
