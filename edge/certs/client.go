package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ClientOptions configure a [Client].
type ClientOptions struct {
	// Name tells this client from others, in metrics and logs.
	Name string
	// CAFile holds the authorities that servers are verified with, PEM; empty:
	// the system's.
	CAFile string
	// ServerName is what servers' certificates must be for; empty: the name
	// that Config is given.
	ServerName string
	// Pair is what servers are shown that ask for a certificate; the zero value
	// is none.
	Pair Pair
	// Interval is between two looks at the files; 0 is DefaultInterval.
	Interval time.Duration
	// Now is the wall clock that certificates are judged by; nil: time.Now.
	Now func() time.Time
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

func (o *ClientOptions) validate() error {
	if o.Log == nil {
		return errors.New("a certificate client needs a log")
	}
	if (o.Pair.CertFile == "") != (o.Pair.KeyFile == "") {
		return errors.New("a certificate needs a certificate file and a key file")
	}
	return nil
}

// Client is how TLS is spoken to upstreams: they are always verified.
type Client struct {
	opts        ClientOptions
	authorities *source[*x509.CertPool] // nil: the system's
	pair        *pair                   // nil: none
	current     atomic.Pointer[trusted]
	metrics     *metrics
}

// trusted is what handshakes use from one change to the next.
type trusted struct {
	roots    *x509.CertPool // nil: the system's
	shown    *tls.Certificate
	sessions tls.ClientSessionCache
}

// NewClient reads the files. An error is about one that cannot be used; a
// certificate that is not valid now can, with a warning. Run must be called for
// changes to be seen.
func NewClient(opts ClientOptions) (*Client, error) {
	if opts.Interval <= 0 {
		opts.Interval = DefaultInterval
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	c := &Client{opts: opts}
	now := time.Now()
	var pairs []*pair
	if opts.CAFile != "" {
		c.authorities = newAuthorities(opts.CAFile)
		if err := c.authorities.first(now); err != nil {
			return nil, fmt.Errorf("read certificates of %s: %w", opts.Name, err)
		}
	}
	if opts.Pair != (Pair{}) {
		c.pair = newPair(opts.Pair, opts.Now)
		if err := c.pair.first(now); err != nil {
			return nil, fmt.Errorf("read certificates of %s: %w", opts.Name, err)
		}
		c.pair.warn(opts.Log, opts.Name)
		pairs = append(pairs, c.pair)
	}
	c.swap()
	var err error
	if c.metrics, err = newMetrics(opts.Registerer, opts.Name, pairs); err != nil {
		return nil, fmt.Errorf("register metrics of the certificates of %s: %w", opts.Name, err)
	}
	return c, nil
}

// Config is for connections to a server called serverName, unless
// ClientOptions.ServerName says otherwise, that are to speak one of the
// protocols by ALPN. It may be used for as long as the client lives: each
// handshake uses what the files say by then.
func (c *Client) Config(serverName string, protocols ...string) *tls.Config {
	if c.opts.ServerName != "" {
		serverName = c.opts.ServerName
	}
	return &tls.Config{
		ServerName: serverName, NextProtos: protocols, MinVersion: tls.VersionTLS12, CipherSuites: modernSuites(),
		// crypto/tls would verify with authorities that stand here for good;
		// verify does the same with those of now, and for resumed sessions, too.
		InsecureSkipVerify:          true,
		VerifyConnection:            func(state tls.ConnectionState) error { return c.verify(serverName, state) },
		GetClientCertificate:        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current.Load().shown, nil },
		ClientSessionCache:          sessions{c},
		DynamicRecordSizingDisabled: true,
	}
}

// verify does what crypto/tls does with a server's certificates.
func (c *Client) verify(serverName string, state tls.ConnectionState) error {
	opts := x509.VerifyOptions{Roots: c.current.Load().roots, DNSName: serverName, Intermediates: x509.NewCertPool()}
	if c.opts.Now != nil {
		opts.CurrentTime = c.opts.Now()
	}
	for _, certificate := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(certificate)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// sessions are those since the last change: an earlier one would be resumed
// with a certificate of before.
type sessions struct{ c *Client }

var _ tls.ClientSessionCache = sessions{}

// Get implements [tls.ClientSessionCache].
func (s sessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.c.current.Load().sessions.Get(key)
}

// Put implements [tls.ClientSessionCache].
func (s sessions) Put(key string, state *tls.ClientSessionState) {
	s.c.current.Load().sessions.Put(key, state)
}

// swap puts what has been read in force.
func (c *Client) swap() {
	next := &trusted{shown: &tls.Certificate{}, sessions: tls.NewLRUClientSessionCache(0)}
	if c.authorities != nil {
		next.roots = c.authorities.value
	}
	if c.pair != nil {
		c.pair.taken()
		next.shown = c.pair.value
	}
	c.current.Store(next)
}

// Run looks at the files until ctx ends, and returns nil. A change that cannot
// be used is logged once and leaves what is in force, as at [Store.Run].
func (c *Client) Run(ctx context.Context) error {
	every(ctx, c.opts.Interval, c.poll)
	return nil
}

func (c *Client) poll(now time.Time) {
	tally := tally{log: c.opts.Log, metrics: c.metrics, name: c.opts.Name}
	if c.authorities != nil {
		tally.add(c.authorities.poll(now))
		tally.stale(c.authorities.failure)
	}
	if c.pair != nil {
		tally.pair(c.pair, now)
	}
	if tally.end() {
		c.swap()
	}
}
