// Package certs keeps the certificates of TLS connections: those of a listener,
// chosen by the name that a client asks for, and those that upstreams are
// verified with. Files are read again when they change; connections that are
// open, and session tickets, are not touched by that.
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

// ClientAuth is what a listener does about clients' certificates.
type ClientAuth string

// What a listener does about clients' certificates; the zero value is
// ClientAuthNone.
const (
	ClientAuthNone ClientAuth = "none"
	// ClientAuthRequest asks for one; a client without one is let in, a client
	// with one that the authorities did not sign is not.
	ClientAuthRequest ClientAuth = "request"
	// ClientAuthRequire lets in none but clients whose certificate the
	// authorities signed.
	ClientAuthRequire ClientAuth = "require"
)

// Options configure a [Store].
type Options struct {
	// Name tells this store from others, in metrics and logs: its listener's.
	Name string
	// Pairs are at least one; the first is the default, for clients that ask
	// for no name or for one that no certificate has. A name may have several
	// certificates with different kinds of keys.
	Pairs []Pair
	// ClientCAFile holds the authorities of clients' certificates, PEM;
	// required unless ClientAuth is none.
	ClientCAFile string
	ClientAuth   ClientAuth
	// Protocols are offered by ALPN, the preferred one first.
	Protocols []string
	// Interval is between two looks at the files; 0 is DefaultInterval.
	Interval time.Duration
	// Now is the wall clock that certificates are judged by, clients' and the
	// store's own; nil: time.Now.
	Now func() time.Time
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

func (o *Options) validate() error {
	if o.Log == nil || len(o.Pairs) == 0 {
		return errors.New("a certificate store needs certificates and a log")
	}
	seen := make(map[string]bool)
	for _, p := range o.Pairs {
		if p.CertFile == "" || p.KeyFile == "" {
			return errors.New("a certificate needs a certificate file and a key file")
		}
		if seen[p.CertFile] {
			return fmt.Errorf("certificate file %s is given twice", p.CertFile)
		}
		seen[p.CertFile] = true
	}
	switch o.ClientAuth {
	case ClientAuthNone:
		if o.ClientCAFile != "" {
			return errors.New("there are authorities of client certificates, but none is asked for")
		}
	case ClientAuthRequest, ClientAuthRequire:
		if o.ClientCAFile == "" {
			return fmt.Errorf("client authentication %q needs a file of authorities", o.ClientAuth)
		}
	default:
		return fmt.Errorf("client authentication %q is none of none, request and require", o.ClientAuth)
	}
	return nil
}

// Store is a listener's certificates.
type Store struct {
	opts        Options
	pairs       []*pair
	authorities *source[*x509.CertPool] // nil without client certificates
	config      *tls.Config
	served      atomic.Pointer[served]
	metrics     *metrics
}

// served is what handshakes use from one change to the next.
type served struct {
	names *names
	// config is the store's with the authorities of now; nil without client
	// certificates.
	config *tls.Config
}

// New reads the files. An error is about one that cannot be used; a certificate
// that is not valid now can, with a warning: the other names, and cleartext,
// are to be served. Run must be called for changes to be seen.
func New(opts Options) (*Store, error) {
	if opts.ClientAuth == "" {
		opts.ClientAuth = ClientAuthNone
	}
	if opts.Interval <= 0 {
		opts.Interval = DefaultInterval
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Store{opts: opts}
	now := time.Now()
	for _, files := range opts.Pairs {
		p := newPair(files, opts.Now)
		if err := p.first(now); err != nil {
			return nil, fmt.Errorf("read certificates of %s: %w", opts.Name, err)
		}
		p.warn(opts.Log, opts.Name)
		s.pairs = append(s.pairs, p)
	}
	s.config = s.newConfig()
	if opts.ClientAuth != ClientAuthNone {
		s.authorities = newAuthorities(opts.ClientCAFile)
		if err := s.authorities.first(now); err != nil {
			return nil, fmt.Errorf("read certificates of %s: %w", opts.Name, err)
		}
		s.config.ClientAuth = tls.VerifyClientCertIfGiven
		if opts.ClientAuth == ClientAuthRequire {
			s.config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		s.config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.served.Load().config, nil
		}
	}
	s.swap()
	var err error
	if s.metrics, err = newMetrics(opts.Registerer, opts.Name, s.pairs); err != nil {
		return nil, fmt.Errorf("register metrics of the certificates of %s: %w", opts.Name, err)
	}
	return s, nil
}

func (s *Store) newConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.served.Load().names.pick(hello), nil
		},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: modernSuites(),
		NextProtos:   s.opts.Protocols,
		Time:         s.opts.Now,
		// A response is one record and one write, also in a connection's first
		// 128 KiB, in which records would be as small as packets (nginx's
		// ssl_buffer_size is of 16 KiB, too).
		DynamicRecordSizingDisabled: true,
	}
}

// modernSuites are those of TLS 1.2 that have forward secrecy and authenticated
// encryption (RFC 9113, appendix A, forbids the others for HTTP/2). TLS 1.3
// has no others.
func modernSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// Name is the store's listener's.
func (s *Store) Name() string { return s.opts.Name }

// Status is one of a store's certificates, as it is now.
type Status struct {
	CertFile string
	NotAfter time.Time // of the certificate in force, to the second
	// Refused is why the content of its files is not in force, and an earlier
	// one is; empty when it is.
	Refused string
}

// Status tells of every pair, in the order of Options.Pairs.
func (s *Store) Status() []Status {
	list := make([]Status, len(s.pairs))
	for i, p := range s.pairs {
		list[i] = Status{CertFile: p.files[0], NotAfter: time.Unix(p.notAfter.Load(), 0).UTC()}
		if refused := p.refused.Load(); refused != nil {
			list[i].Refused = *refused
		}
	}
	return list
}

// Config is for the listener: the same one for as long as the store lives, so
// that its session tickets, whose keys it rotates daily, stay good when
// certificates change.
func (s *Store) Config() *tls.Config { return s.config }

// swap puts what has been read in force.
func (s *Store) swap() {
	list := make([]*tls.Certificate, len(s.pairs))
	for i, p := range s.pairs {
		p.taken()
		list[i] = p.value
	}
	next := &served{names: newNames(list)}
	if s.authorities != nil {
		// The ticket keys are those of s.config nevertheless: crypto/tls takes
		// them from the listener's own configuration.
		next.config = s.newConfig()
		next.config.ClientAuth = s.config.ClientAuth
		next.config.ClientCAs = s.authorities.value
	}
	s.served.Store(next)
}

// Run looks at the files until ctx ends, and returns nil. A change that cannot
// be used is logged once and leaves what is in force; so is a certificate that
// is not valid, while the one in force is. It is taken once it is valid, or the
// other is not and does not last longer.
func (s *Store) Run(ctx context.Context) error {
	every(ctx, s.opts.Interval, s.poll)
	return nil
}

func (s *Store) poll(now time.Time) {
	tally := tally{log: s.opts.Log, metrics: s.metrics, name: s.opts.Name}
	for _, p := range s.pairs {
		tally.pair(p, now)
	}
	if s.authorities != nil {
		tally.add(s.authorities.poll(now))
		tally.stale(s.authorities.failure)
	}
	if tally.end() {
		s.swap()
	}
}

// tally is what one look at all files found.
type tally struct {
	log     *slog.Logger
	metrics *metrics
	name    string
	changed bool
	broken  int64
}

func (t *tally) add(changed bool, err error) {
	if changed {
		t.changed = true
	}
	if err != nil {
		t.metrics.refused.Add(1)
		t.log.Error("new certificate files cannot be used, the earlier ones stay in force", "name", t.name, "error", err)
	}
}

func (t *tally) pair(p *pair, now time.Time) {
	changed, err := p.poll(now)
	t.add(changed, err)
	t.stale(p.failure)
	failure := p.failure
	p.refused.Store(&failure)
	if changed {
		p.warn(t.log, t.name)
	}
}

func (t *tally) stale(failure string) {
	if failure != "" {
		t.broken++
	}
}

func (t *tally) end() (changed bool) {
	t.metrics.stale.Store(t.broken)
	if t.changed {
		t.metrics.applied.Add(1)
		t.log.Info("certificates were read again", "name", t.name)
	}
	return t.changed
}
