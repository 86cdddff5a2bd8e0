// Package sample is an instance of the lab's service: a small HTTP server that
// says which one it is, registered with the federation.
package sample

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/api/registrar"
	"github.com/grayfed/grayfed/federation"
)

const (
	// ttl is short, so that an instance that is killed is soon gone from a lab.
	ttl = 5 * time.Second
	// leaveTimeout bounds the drain, and then the rest of the leaving: a lab
	// that ends waits for it.
	leaveTimeout = time.Second
)

// Options say which instance it is.
type Options struct {
	Service string
	Zone    string
	Region  string
	Version string
	// ID is the same after a restart: an instance that comes back takes its
	// place again. Default "zone-version".
	ID     string
	Listen string   // ip:port; default a free port of 127.0.0.1
	Edges  []string // URLs of the edges' APIs, the nearest first
	// TokenFile's first line is the token for the edges, CAFile has who signed
	// their certificates; both may be "".
	TokenFile string
	CAFile    string
	// AddressFile is written once it listens: whoever started it learns its
	// address there; "" writes none.
	AddressFile string
	Output      io.Writer // the log
}

func (o *Options) validate() error {
	if o.Service == "" || o.Zone == "" || o.Version == "" || o.Output == nil {
		return errors.New("a sample instance needs a service, a zone, a version and an output")
	}
	if o.ID == "" {
		o.ID = o.Zone + "-" + o.Version
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	return nil
}

// credentials are what the edges ask for.
func (o *Options) credentials() (token string, trust *tls.Config, err error) {
	if o.TokenFile != "" {
		text, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return "", nil, fmt.Errorf("read the token: %w", err)
		}
		token, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return "", nil, fmt.Errorf("read the CA: %w", err)
		}
		trust = &tls.Config{RootCAs: x509.NewCertPool()}
		if !trust.RootCAs.AppendCertsFromPEM(text) {
			return "", nil, fmt.Errorf("read the CA: %s has no certificate", o.CAFile)
		}
	}
	return token, trust, nil
}

// Run serves and keeps the instance registered until ctx ends; then it drains
// and deregisters it.
func Run(ctx context.Context, opts Options) error {
	if err := opts.validate(); err != nil {
		return err
	}
	token, trust, err := opts.credentials()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	if opts.AddressFile != "" {
		if err := writeAddress(opts.AddressFile, listener.Addr()); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	log := slog.New(slog.NewTextHandler(opts.Output, nil))
	lifetime := federation.Duration(ttl)
	registration, err := registrar.New(registrar.Options{
		Key: federation.Key{Service: opts.Service, ID: opts.ID},
		Registration: api.Registration{
			Zone: opts.Zone, Region: opts.Region, Version: opts.Version,
			Address: listener.Addr().String(), HealthPath: healthPath, TTL: &lifetime,
		},
		Edges: opts.Edges, Token: token, TLS: trust,
		Log: log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: newHandler(opts), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	// Not derived from ctx: the heartbeats go on while it drains.
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	registered := make(chan error, 1)
	go func() { registered <- registration.Run(beating) }()

	select {
	case <-ctx.Done():
	case err := <-registered:
		return errors.Join(err, server.Close(), ignoreClosed(<-served))
	case err := <-served:
		stop()
		return errors.Join(fmt.Errorf("serve requests: %w", err), <-registered)
	}
	drain, cancel := context.WithTimeout(beating, leaveTimeout)
	defer cancel()
	if err := errors.Join(registration.Drain(drain), registration.AwaitIdle(drain)); err != nil {
		log.Warn("drain was cut short", "error", err)
	}
	stop()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := registration.Deregister(leave); err != nil {
		log.Warn("instance is left to its ttl", "error", err)
	}
	// Requests that still run have had their time.
	return errors.Join(<-registered, server.Close(), ignoreClosed(<-served))
}

// writeAddress appears as a whole: who waits for the file reads no half of it.
func writeAddress(path string, address net.Addr) error {
	part := path + ".part"
	if err := os.WriteFile(part, []byte(address.String()), 0o644); err != nil {
		return fmt.Errorf("write the address: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("write the address: %w", err)
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
