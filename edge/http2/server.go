// Package http2 is a strict HTTP/2 codec for both sides of a gateway, gRPC
// included: Server turns a client's connection into exchanges, Transport
// carries exchanges to one endpoint.
//
// It uses the HPACK decoder and the vocabulary of golang.org/x/net/http2, but
// not its server, whose cost per request is several times higher, nor its
// Framer, which allocates per frame: frames are taken from and put into the
// buffers that are read and written.
//
// A connection is one goroutine that reads; each stream's handler runs on a
// goroutine of a pool. Whoever has something to write queues it, and one of
// those writes what all have queued. No timer is set per request: a wait notes
// its deadline and an [Engine] looks at all of them, coarsely, a few times a
// second.
//
// A connection holds at most: the window of the connection in received bodies,
// for each stream a header section and, if it has an unread body, a buffer of
// 16 KiB, 64 KiB of input, and 128 KiB of output. A quiet one holds about 4 KiB
// and a goroutine.
package http2

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
	// with TLS are "https". What the client says does not count.
	Scheme string

	// HeadTimeout bounds the beginning of a connection and each header
	// section. Default 10 s.
	HeadTimeout time.Duration
	// BodyTimeout bounds the wait for each piece of a request body, and for
	// the rest of a frame that has begun. Default 30 s.
	BodyTimeout time.Duration
	// IdleTimeout bounds the time without any stream. Default 75 s.
	IdleTimeout time.Duration
	// WriteTimeout bounds a write without progress, and the wait for a window
	// that lets 4 KiB of a response pass. Default 30 s.
	WriteTimeout time.Duration
	// TunnelTimeout ends a tunnel in which no byte has moved either way for
	// that long and whose exchange sets no Timeouts.Idle. Default 5 min.
	TunnelTimeout time.Duration

	// MaxStreams bounds the streams of a connection and the goroutines that
	// work for it, also for streams that were reset. Default 128, at most 1024.
	MaxStreams int
	// StreamWindow and ConnWindow bound the bytes of request bodies that were
	// received and not pulled, of a stream and of a connection. Defaults
	// 64 KiB and 1 MiB, as Envoy advises for edges; 64 KiB to 1 GiB.
	StreamWindow, ConnWindow int
	// MaxHeadBytes bounds a header section as RFC 9113, section 6.5.2 counts
	// it: 431 beyond. Default 32 KiB, at least 1 KiB, at most 1 MiB.
	MaxHeadBytes int
	// MaxTargetBytes bounds the request target: 414 beyond. Default 8 KiB.
	MaxTargetBytes int
	// MaxFields bounds the number of header fields: 431 beyond. Default 100.
	MaxFields int
	// Gateway: the clients are gateways, whose connections carry the exchanges
	// of many. Streams that they reset are not counted against a connection:
	// one impatient client of theirs must not end it for the others.
	Gateway bool
}

func (o *Options) validate() error {
	switch {
	case o.Handler == nil:
		return errors.New("http2: a server needs a handler")
	case o.Engine == nil:
		return errors.New("http2: a server needs an engine")
	case o.Scheme != "" && o.Scheme != "http" && o.Scheme != "https":
		return fmt.Errorf("http2: scheme %q is neither http nor https", o.Scheme)
	case o.MaxHeadBytes != 0 && (o.MaxHeadBytes < 1<<10 || o.MaxHeadBytes > 1<<20):
		return fmt.Errorf("http2: a head limit of %d bytes is not within 1 KiB and 1 MiB", o.MaxHeadBytes)
	case o.MaxTargetBytes < 0 || o.MaxFields < 0:
		return errors.New("http2: a limit is negative")
	case o.MaxStreams < 0 || o.MaxStreams > 1024:
		return fmt.Errorf("http2: %d streams are not within 1 and 1024", o.MaxStreams)
	}
	return validateWindows(o.StreamWindow, o.ConnWindow)
}

func validateWindows(windows ...int) error {
	for _, window := range windows {
		if window != 0 && (window < 64<<10 || window > 1<<30) {
			return fmt.Errorf("http2: a window of %d bytes is not within 64 KiB and 1 GiB", window)
		}
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
	orDefault(&o.MaxStreams, 128)
	orDefault(&o.StreamWindow, 64<<10)
	orDefault(&o.ConnWindow, 1<<20)
	orDefault(&o.MaxHeadBytes, 32<<10)
	orDefault(&o.MaxTargetBytes, 8<<10)
	orDefault(&o.MaxFields, 100)
}

func orDefault[T int | time.Duration](value *T, otherwise T) {
	if *value == 0 {
		*value = otherwise
	}
}

// Server serves HTTP/2 connections that somebody else accepts.
type Server struct {
	options  Options
	link     linkOptions
	eng      *Engine
	draining atomic.Bool
	refused  [reasonCount]atomic.Int64
	served   atomic.Int64 // connections that have ended
	requests atomic.Int64 // given to the handler
	tunnels  atomic.Int64 // open

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
	s := &Server{options: options, eng: options.Engine, conns: make(map[*serverConn]struct{})}
	s.link = linkOptions{
		counts:      &s.refused,
		headerBytes: options.MaxHeadBytes, fields: options.MaxFields, streams: options.MaxStreams,
		window: options.StreamWindow, connWindow: options.ConnWindow,
		headTimeout: options.HeadTimeout, bodyTimeout: options.BodyTimeout, writeTimeout: options.WriteTimeout,
		resets: options.Gateway,
	}
	return s, nil
}

// Run keeps the deadlines until ctx ends; it is the engine's Run, for a server
// whose engine nobody else runs.
func (s *Server) Run(ctx context.Context) error { return s.eng.Run(ctx) }

// ServeConn serves one connection, which it closes, and returns when it has
// ended and all its handlers are done. The client's preface is still unread.
// info describes the connection to the handler.
func (s *Server) ServeConn(nc net.Conn, info exchange.Conn) {
	c := newServerConn(s, nc, info)
	s.mu.Lock()
	if s.cut {
		s.mu.Unlock()
		_ = nc.Close() // nothing is left to be told
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.eng.add(c)
	if s.draining.Load() {
		c.drain()
	}
	c.serve()
	s.eng.remove(c)
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

// Drain tells the clients to open no more streams, in two steps so that none
// that are on their way are refused, and closes each connection after its last
// stream. When ctx ends, what is left is cut, tunnels included, and its error
// is returned. Drain is called once.
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
	Idle     int // connections without a stream
	Active   int // connections with streams
	Streams  int // open, tunnels included
	Tunnels  int // open
	Ended    int64
	Requests int64 // given to the handler
	// Refused counts messages, streams and connections that were refused, by
	// reason.
	Refused map[Reason]int64
}

// Stats counts.
func (s *Server) Stats() Stats {
	stats := Stats{
		Ended: s.served.Load(), Requests: s.requests.Load(), Tunnels: int(s.tunnels.Load()),
		Refused: make(map[Reason]int64),
	}
	for _, c := range s.all() {
		if n := c.streamCount(); n > 0 {
			stats.Active++
			stats.Streams += n
		} else {
			stats.Idle++
		}
	}
	for reason := range s.refused {
		if n := s.refused[reason].Load(); n > 0 {
			stats.Refused[Reason(reason)] = n
		}
	}
	return stats
}
