package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/edge/listen"
	"github.com/grayfed/grayfed/edge/redirect"
)

// data is where clients connect: the listeners, and the codecs that they share.
type data struct {
	engine1   *http1.Engine
	engine2   *http2.Engine
	codec1    *http1.Server
	codec2    *http2.Server
	redirects []*http1.Server // one for each listener that redirects
	listeners []*listen.Listener
	stores    []*certs.Store
}

// openData binds the listeners and makes the codecs behind them.
func (e *Edge) openData(ctx context.Context, reg prometheus.Registerer) error {
	d := &e.data
	var err error
	if d.codec1, err = e.newHTTP1(pinged{e.gateway}); err != nil {
		return err
	}
	if d.codec2, err = e.newHTTP2(pinged{e.gateway}); err != nil {
		return err
	}
	for _, l := range e.process.DataListeners() {
		if err := e.openListener(ctx, l, reg); err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
	}
	return nil
}

func (e *Edge) openListener(ctx context.Context, l config.Listener, reg prometheus.Registerer) error {
	d := &e.data
	opts := listen.Options{
		Name: l.Name, Address: l.Address, MaxConnections: l.MaxConnections,
		HTTP1: d.codec1, ProxyFrom: l.ProxyFrom, HeadTimeout: e.process.Listen.Timeouts.Head,
		Registerer: reg, Log: e.log,
	}
	protocols := []string{"http/1.1"}
	if l.HTTP2 {
		opts.HTTP2 = d.codec2
		protocols = []string{"h2", "http/1.1"}
	}
	if l.RedirectHTTPS != 0 {
		handler, err := redirect.New(l.RedirectHTTPS)
		if err != nil {
			return err
		}
		codec, err := e.newHTTP1(handler)
		if err != nil {
			return err
		}
		d.redirects = append(d.redirects, codec)
		opts.HTTP1, opts.HTTP2 = codec, nil
	}
	if l.TLS != nil {
		store, err := certs.New(certsOptions(l, protocols, reg, e))
		if err != nil {
			return err
		}
		d.stores = append(d.stores, store)
		opts.TLS = store.Config()
	}
	listener, err := listen.Open(ctx, opts)
	if err != nil {
		return err
	}
	d.listeners = append(d.listeners, listener)
	e.opened.push("listener "+l.Name, listener.Close)
	return nil
}

func certsOptions(l config.Listener, protocols []string, reg prometheus.Registerer, e *Edge) certs.Options {
	opts := certs.Options{
		Name: l.Name, ClientCAFile: l.TLS.ClientCAFile, ClientAuth: certs.ClientAuth(l.TLS.ClientAuth),
		Protocols: protocols, Registerer: reg, Log: e.log, Now: e.now,
	}
	for _, c := range l.TLS.Certificates {
		opts.Pairs = append(opts.Pairs, certs.Pair{CertFile: c.CertFile, KeyFile: c.KeyFile})
	}
	return opts
}

func (e *Edge) newHTTP1(handler exchange.Handler) (*http1.Server, error) {
	l := e.process.Listen
	server, err := http1.NewServer(http1.Options{
		Handler:      handler,
		Engine:       e.data.engine1,
		HeadTimeout:  l.Timeouts.Head,
		BodyTimeout:  l.Timeouts.Body,
		IdleTimeout:  l.Timeouts.Idle,
		WriteTimeout: l.Timeouts.Write,
		MaxHeadBytes: l.Limits.HeadBytes,
		MaxFields:    l.Limits.Fields,
	})
	if err != nil {
		return nil, fmt.Errorf("http/1 codec: %w", err)
	}
	return server, nil
}

func (e *Edge) newHTTP2(handler exchange.Handler) (*http2.Server, error) {
	l := e.process.Listen
	server, err := http2.NewServer(http2.Options{
		Handler:      handler,
		Engine:       e.data.engine2,
		HeadTimeout:  l.Timeouts.Head,
		BodyTimeout:  l.Timeouts.Body,
		IdleTimeout:  l.Timeouts.Idle,
		WriteTimeout: l.Timeouts.Write,
		MaxHeadBytes: l.Limits.HeadBytes,
		MaxFields:    l.Limits.Fields,
	})
	if err != nil {
		return nil, fmt.Errorf("http/2 codec: %w", err)
	}
	return server, nil
}

// mainListener is the one that other edges are told of.
func (d *data) mainListener() *listen.Listener { return d.listeners[0] }

// viewWithin is how long an edge that starts lets clients wait for its first
// view of the federation. One kept from before is used after a second without
// etcd.
const viewWithin = 5 * time.Second

// awaitView waits until requests can be decided on; false: ctx ended before.
// An edge that has never seen the federation does not wait for ever: what its
// routes say of upstreams by URL it can serve.
func (e *Edge) awaitView(ctx context.Context) bool {
	limit := time.NewTimer(viewWithin)
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-e.viewed:
	case <-limit.C:
		e.log.Warn("edge takes requests without a view of the federation", "edge", e.self.ID, "reason", e.notReady())
	}
	return true
}

// serve accepts on all listeners, from the first view of the federation on,
// until ctx ends and then lets what is under way end, for as long as the
// settings say. Who connects before waits in the system's backlog: refused, or
// answered that no instance is known, the request would be lost.
func (e *Edge) serve(ctx context.Context) error {
	listeners := e.data.listeners
	if e.peering.listener != nil {
		listeners = append(slices.Clip(listeners), e.peering.listener)
	}
	ended := make(chan error, len(listeners))
	waiting := 0
	if e.awaitView(ctx) {
		for _, l := range listeners {
			go func() { ended <- l.Run() }()
		}
		waiting = len(listeners)
	}
	var errs []error
	select {
	case err := <-ended:
		waiting--
		errs = append(errs, err)
	case <-ctx.Done():
	}
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	e.drain()
	for range waiting {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// drain ends the connections of all codecs at once.
func (e *Edge) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), e.process.Shutdown.DrainTimeout)
	defer cancel()
	type drainer interface{ Drain(context.Context) error }
	drainers := []drainer{e.data.codec1, e.data.codec2}
	for _, codec := range e.data.redirects {
		drainers = append(drainers, codec)
	}
	if e.peering.codec != nil {
		drainers = append(drainers, e.peering.codec)
	}
	drained := make(chan error, len(drainers))
	for _, codec := range drainers {
		go func() { drained <- codec.Drain(ctx) }()
	}
	for range drainers {
		if err := <-drained; err != nil {
			e.log.Warn("requests were cut when the edge stopped", "error", err)
		}
	}
}
