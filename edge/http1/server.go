// Package http1 is a strict HTTP/1 codec for both sides of a gateway: Server
// turns a client's connection into exchanges, Transport carries exchanges to
// one endpoint. What it forwards is what it parsed, and it accepts only
// messages that RFC 9112 gives one meaning.
//
// A connection is one goroutine that waits in Go's network poller. No timer
// is set per request: a wait notes its deadline and an [Engine] looks at all
// of them, coarsely, a few times a second.
package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Options configure a [Server]. Zero values of limits and timeouts mean the
// default named with them; a negative timeout means none.
type Options struct {
	// Handler answers the requests. Required.
	Handler exchange.Handler
	// Engine keeps the deadlines; somebody must run it. Required.
	Engine *Engine
	// Scheme is what Request.Scheme says on cleartext connections: "http",
	// the default, or "https" behind something that ends TLS. Connections
	// with TLS are "https".
	Scheme string

	// HeadTimeout bounds a request head, from its first byte, and the wait
	// for the first byte of a new connection. Default 10 s.
	HeadTimeout time.Duration
	// BodyTimeout bounds the wait for each piece of a request body. Default 30 s.
	BodyTimeout time.Duration
	// IdleTimeout bounds the wait for the next request. Default 75 s.
	IdleTimeout time.Duration
	// WriteTimeout bounds a write without progress. Default 30 s.
	WriteTimeout time.Duration
	// TunnelTimeout ends a tunnel in which no byte has moved either way for
	// that long and whose exchange sets no Timeouts.Idle. Default 5 min.
	TunnelTimeout time.Duration

	// MaxHeadBytes bounds a request head: 431 beyond. Default 32 KiB, at
	// least 1 KiB, at most 1 MiB.
	MaxHeadBytes int
	// MaxTargetBytes bounds the request target: 414 beyond. Default 8 KiB.
	MaxTargetBytes int
	// MaxFields bounds the number of header fields: 431 beyond. Default 100.
	MaxFields int
}

func (o *Options) validate() error {
	switch {
	case o.Handler == nil:
		return errors.New("http1: a server needs a handler")
	case o.Engine == nil:
		return errors.New("http1: a server needs an engine")
	case o.Scheme != "" && o.Scheme != "http" && o.Scheme != "https":
		return fmt.Errorf("http1: scheme %q is neither http nor https", o.Scheme)
	case o.MaxHeadBytes != 0 && (o.MaxHeadBytes < 1<<10 || o.MaxHeadBytes > 1<<20):
		return fmt.Errorf("http1: a head limit of %d bytes is not within 1 KiB and 1 MiB", o.MaxHeadBytes)
	case o.MaxTargetBytes < 0 || o.MaxFields < 0:
		return errors.New("http1: a limit is negative")
	}
	return nil
}

func (o *Options) setDefaults() {
	if o.Scheme == "" {
		o.Scheme = "http"
	}
	orDefault(&o.HeadTimeout, 10*time.Second)
	orDefault(&o.BodyTimeout, 30*time.Second)
	orDefault(&o.IdleTimeout, 75*time.Second)
	orDefault(&o.WriteTimeout, 30*time.Second)
	orDefault(&o.TunnelTimeout, 5*time.Minute)
	orDefault(&o.MaxHeadBytes, 32<<10)
	orDefault(&o.MaxTargetBytes, 8<<10)
	orDefault(&o.MaxFields, 100)
}

func orDefault[T int | time.Duration](value *T, otherwise T) {
	if *value == 0 {
		*value = otherwise
	}
}

// Server serves HTTP/1 connections that somebody else accepts.
type Server struct {
	options  Options
	limits   headLimits
	eng      *Engine
	sessions sync.Pool // of *session
	draining atomic.Bool
	refused  [reasonCount]atomic.Int64
	served   atomic.Int64 // connections that have ended

	mu    sync.Mutex
	conns map[*serverConn]struct{} // mu
	cut   bool                     // mu; connections are not served any more
	ended chan struct{}            // mu; closed once conns is empty, if Drain waits
}

// NewServer returns a server, which does nothing by itself.
func NewServer(options Options) (*Server, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	options.setDefaults()
	s := &Server{
		options: options,
		limits:  headLimits{bytes: options.MaxHeadBytes, target: options.MaxTargetBytes, fields: options.MaxFields},
		eng:     options.Engine,
		conns:   make(map[*serverConn]struct{}),
	}
	s.sessions.New = func() any { return newSession() }
	return s, nil
}

// Run keeps the deadlines until ctx ends; it is the engine's Run, for a server
// whose engine nobody else runs.
func (s *Server) Run(ctx context.Context) error { return s.eng.Run(ctx) }

// ServeConn serves one connection, which it closes, and returns when it has
// ended. info describes it to the handler.
func (s *Server) ServeConn(nc net.Conn, info exchange.Conn) {
	c := &serverConn{srv: s, info: info}
	c.init(nc, s.eng)
	c.waitFn = c.awaitable
	s.mu.Lock()
	if s.cut {
		s.mu.Unlock()
		_ = nc.Close() // as below
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.eng.add(c)
	c.loop()
	s.eng.remove(c)
	_ = nc.Close() // nothing is left to be told
	s.served.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.ended != nil {
		close(s.ended)
		s.ended = nil
	}
}

// errDrained is the cause of exchanges that outlived a drain.
var errDrained = errors.New("server drained")

// Drain closes idle connections at once and the others after the response
// they are working on, which says "Connection: close". When ctx ends, what is
// left is cut, tunnels included, and its error is returned. New connections
// get one response each until then, none afterwards. Drain is called once.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	for _, c := range s.all() {
		c.drain()
	}
	ended := make(chan struct{})
	s.mu.Lock()
	if len(s.conns) == 0 {
		close(ended)
	} else {
		s.ended = ended
	}
	s.mu.Unlock()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.cut()
	}
	<-ended
	return ctx.Err()
}

func (s *Server) all() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// Stats are a server's counters at one moment.
type Stats struct {
	Idle    int // connections that wait for a request
	Active  int // connections that read, serve or answer one
	Tunnels int // connections that are tunnels
	Ended   int64
	// Refused counts messages that were refused, by reason.
	Refused map[Reason]int64
}

// Stats counts.
func (s *Server) Stats() Stats {
	stats := Stats{Ended: s.served.Load(), Refused: make(map[Reason]int64)}
	for _, c := range s.all() {
		switch c.phase.Load() {
		case phaseIdle:
			stats.Idle++
		case phaseTunnel:
			stats.Tunnels++
		default:
			stats.Active++
		}
	}
	for reason := range s.refused {
		if n := s.refused[reason].Load(); n > 0 {
			stats.Refused[Reason(reason)] = n
		}
	}
	return stats
}
