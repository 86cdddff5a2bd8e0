// Package sample is an instance of the lab's service: a small HTTP server that
// says which one it is, registered with the federation.
package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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
	Edges   []string  // URLs of the edges' APIs, the nearest first
	Output  io.Writer // the log
}

func (o *Options) validate() error {
	if o.Service == "" || o.Zone == "" || o.Version == "" || o.Output == nil {
		return errors.New("a sample instance needs a service, a zone, a version and an output")
	}
	return nil
}

// id is the same after a restart: an instance that comes back takes its place
// again.
func (o *Options) id() string { return o.Zone + "-" + o.Version }

// Run serves on a free port of loopback and keeps the instance registered until
// ctx ends; then it drains and deregisters it.
func Run(ctx context.Context, opts Options) error {
	if err := opts.validate(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	log := slog.New(slog.NewTextHandler(opts.Output, nil))
	lifetime := federation.Duration(ttl)
	registration, err := registrar.New(registrar.Options{
		Key: federation.Key{Service: opts.Service, ID: opts.id()},
		Registration: api.Registration{
			Zone: opts.Zone, Region: opts.Region, Version: opts.Version,
			Address: listener.Addr().String(), HealthPath: healthPath, TTL: &lifetime,
		},
		Edges: opts.Edges,
		Log:   log,
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

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

const healthPath = "/healthz"

// who is what the service answers.
type who struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
	ID       string `json:"id,omitempty"` // of the user that was asked for
}

func newHandler(opts Options) http.Handler {
	me := who{Service: opts.Service, Version: opts.Version, Zone: opts.Zone, Instance: opts.id()}
	answer := func(w http.ResponseWriter, r *http.Request) {
		mine := me
		mine.ID = r.PathValue("id")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(mine) // a client that is gone needs no answer
	}
	mux := http.NewServeMux()
	mux.HandleFunc(healthPath, answer)
	mux.HandleFunc("/api/v1/users/{id}", answer)
	return mux
}
