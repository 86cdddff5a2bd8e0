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
	current     atomic.Pointer[tls.Config]
	metrics     *metrics
}

// NewClient reads the files. An error is about one that cannot be used. Run
// must be called for changes to be seen.
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
		c.pair = newPair(opts.Pair)
		if err := c.pair.first(now); err != nil {
			return nil, fmt.Errorf("read certificates of %s: %w", opts.Name, err)
		}
		pairs = append(pairs, c.pair)
	}
	c.swap()
	var err error
	if c.metrics, err = newMetrics(opts.Registerer, opts.Name, pairs); err != nil {
		return nil, fmt.Errorf("register metrics of the certificates of %s: %w", opts.Name, err)
	}
	return c, nil
}

// Config is for one new connection to a server called serverName, unless
// ClientOptions.ServerName says otherwise, that is to speak one of the
// protocols by ALPN. Connections that are open keep what they were made with.
func (c *Client) Config(serverName string, protocols ...string) *tls.Config {
	config := c.current.Load().Clone()
	config.NextProtos = protocols
	if config.ServerName == "" {
		config.ServerName = serverName
	}
	return config
}

// swap puts what has been read in force. Sessions of before are not resumed:
// their servers were verified with other authorities, or saw another
// certificate.
func (c *Client) swap() {
	config := &tls.Config{
		ServerName: c.opts.ServerName, MinVersion: tls.VersionTLS12, CipherSuites: modernSuites(),
		ClientSessionCache:          tls.NewLRUClientSessionCache(0),
		DynamicRecordSizingDisabled: true,
	}
	if c.authorities != nil {
		config.RootCAs = c.authorities.value
	}
	if c.pair != nil {
		c.pair.taken()
		config.Certificates = []tls.Certificate{*c.pair.value}
	}
	c.current.Store(config)
}

// Run looks at the files until ctx ends, and returns nil. A change that cannot
// be used is logged once and leaves what is in force.
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
		tally.add(c.pair.poll(now))
		tally.stale(c.pair.failure)
	}
	if tally.end() {
		c.swap()
	}
}
