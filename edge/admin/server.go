// Package admin serves the HTTP API of one edge: package api has the words,
// openapi.json the contract. It decides nothing: reads are answered from the
// edge's own snapshot, writes go to the registry behind [Registrar].
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"github.com/grayfed/grayfed/federation"
)

// Server is the HTTP API of one edge.
type Server struct {
	opts        Options
	log         *slog.Logger
	tokens      *tokens      // nil: none are asked for
	certificate *certificate // nil: cleartext
	metrics     *metrics
	router      *mux.Router
	endpoints   map[string]*endpoint // by the name of their route
	policy      *federation.AddressPolicy

	api, health *boundListener // nil before Open; health also without address
	// stopping is closed when Run shuts down: what would never end by itself
	// ends.
	stopping  chan struct{}
	timeouts  timeouts
	keepAlive time.Duration // between comments in the events
}

// New checks the options and reads certificate and tokens. It opens no socket.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = defaultMaxConnections
	}
	s := &Server{opts: o, log: o.Log, stopping: make(chan struct{}), timeouts: defaultTimeouts(), keepAlive: eventKeepAlive}
	var err error
	if o.TokensFile != "" {
		if s.tokens, err = openTokens(o.TokensFile, o.Log); err != nil {
			return nil, err
		}
	}
	if o.CertFile != "" {
		if s.certificate, err = openCertificate(o.CertFile, o.KeyFile, o.Log); err != nil {
			return nil, err
		}
	}
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, fmt.Errorf("admin metrics: %w", err)
	}
	s.router, s.endpoints = newRouter()
	return s, nil
}

// Open binds the listeners, so that a taken port is known before anything else
// is started. The error names the address.
func (s *Server) Open(ctx context.Context) error {
	listener, err := bind(ctx, s.opts.Address, s.opts.MaxConnections)
	if err != nil {
		return fmt.Errorf("admin listener: %w", err)
	}
	own := []netip.AddrPort{listener.address()}
	var health *boundListener
	if s.opts.HealthAddress != "" {
		if health, err = bind(ctx, s.opts.HealthAddress, s.opts.MaxConnections); err != nil {
			return errors.Join(fmt.Errorf("admin health listener: %w", err), listener.Close())
		}
		own = append(own, health.address())
	}
	s.api, s.health = listener, health
	s.policy = federation.NewAddressPolicy(s.opts.AllowedAddresses, ownAddresses(own, s.log))
	return nil
}

// ownAddresses adds, for a listener on every address, those of this machine.
func ownAddresses(listeners []netip.AddrPort, log *slog.Logger) []netip.AddrPort {
	own := listeners
	for _, l := range listeners {
		if !l.Addr().IsUnspecified() {
			continue
		}
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			log.Warn("own addresses are not known, instances may register at the admin port", "error", err)
			return own
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				own = append(own, netip.AddrPortFrom(prefix.Addr(), l.Port()))
			}
		}
	}
	return own
}

// Address is where the API is, once it is open.
func (s *Server) Address() net.Addr { return s.api.Addr() }

// HealthAddress is where the health listener is, once it is open; nil when
// there is none.
func (s *Server) HealthAddress() net.Addr {
	if s.health == nil {
		return nil
	}
	return s.health.Addr()
}

// Close releases the listeners of a server that is not run; after Run it does
// nothing.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []*boundListener{s.api, s.health} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then lets running requests finish for 5 s. It
// opens the listeners when Open was not called. It runs once.
func (s *Server) Run(ctx context.Context) error {
	if s.api == nil {
		if err := s.Open(ctx); err != nil {
			return err
		}
	}
	var socket net.Listener = s.api
	if s.certificate != nil {
		socket = tls.NewListener(socket, &tls.Config{
			MinVersion: tls.VersionTLS12,
			NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return s.certificate.current.Load(), nil
			},
		})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	running.Go(func() { s.watchFiles(ctx) })
	servers := []*http.Server{s.httpServer(s.serveAPI)}
	sockets := []net.Listener{socket}
	if s.health != nil {
		servers = append(servers, s.httpServer(s.serveHealth))
		sockets = append(sockets, s.health)
	}
	for n, server := range servers {
		running.Go(func() {
			if err := server.Serve(sockets[n]); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serve the API at %s: %w", sockets[n].Addr(), err))
			}
		})
	}
	<-ctx.Done()
	close(s.stopping)
	err := shutDown(servers)
	running.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}

func (s *Server) httpServer(handler http.HandlerFunc) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: s.timeouts.head,
		ReadTimeout:       s.timeouts.read,
		WriteTimeout:      s.timeouts.write,
		IdleTimeout:       s.timeouts.idle,
		MaxHeaderBytes:    maxHead,
		// Broken handshakes and the like: what strangers do is no news.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// shutDown lets running requests finish, and breaks off what does not.
func shutDown(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var errs []error
	for _, server := range servers {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("requests of the API were broken off: %w", err), server.Close())
		}
	}
	return errors.Join(errs...)
}

// fileInterval is how often certificate and tokens are looked at.
const fileInterval = time.Second

func (s *Server) watchFiles(ctx context.Context) {
	if s.tokens == nil && s.certificate == nil {
		return
	}
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.tokens != nil {
			s.tokens.reload()
		}
		if s.certificate != nil {
			s.certificate.reload()
		}
	}
}
