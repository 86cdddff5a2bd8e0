package edge

import (
	"context"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/gateway"
	"github.com/grayfed/grayfed/edge/health"
	"github.com/grayfed/grayfed/registry/dns"
)

// configState is which documents are in force and what is wrong with those that
// are not.
type configState struct {
	documents *config.Documents
	applied   time.Time
	// problem is why the newest ones were refused; nil while they are in force.
	problem error
}

// followDocuments applies each new set until ctx ends.
func (e *Edge) followDocuments(ctx context.Context) error {
	return e.source.Watch(ctx, func(docs *config.Documents, err error) {
		if err == nil {
			err = e.apply(docs)
		}
		if err != nil {
			e.refuse(err)
		}
	})
}

// apply puts a valid set in force, as a whole.
func (e *Edge) apply(docs *config.Documents) error {
	var old *config.Documents
	state := &configState{documents: docs, applied: e.now().UTC()}
	if before := e.config.Load(); before != nil {
		old = before.documents
		if old.Hash == docs.Hash {
			state.applied = before.applied
			e.config.Store(state)
			if before.problem != nil {
				e.log.Info("documents are again those in force", "config", docs.Hash)
				e.configEvent(docs.Hash, nil)
			}
			return nil
		}
	}
	if err := e.gateway.SetConfig(gatewayConfig(docs)); err != nil {
		return fmt.Errorf("apply documents: %w", err)
	}
	// Nothing below can fail.
	e.monitor.SetChecks(healthChecks(docs))
	e.upstreams.SetUpstreams(upstreamsOf(docs))
	e.config.Store(state)
	e.metrics.reloaded(true)
	changes := config.Diff(old, docs)
	e.log.Info("configuration in force", "config", docs.Hash, "routes", len(docs.Routes), "services", len(docs.Services),
		"releases", len(docs.Releases), "added", len(changes.Added), "changed", len(changes.Changed), "removed", len(changes.Removed))
	for _, warning := range docs.Warnings {
		e.log.Warn("configuration is legal but probably not meant", "problem", warning.String())
	}
	e.configEvent(docs.Hash, nil)
	return nil
}

// refuse keeps what is in force and says why the newest documents are not.
func (e *Edge) refuse(err error) {
	state := *e.config.Load()
	state.problem = err
	e.config.Store(&state)
	e.metrics.reloaded(false)
	e.log.Error("configuration refused; the one before stays in force", "error", err, "config", state.documents.Hash)
	e.configEvent(state.documents.Hash, err)
}

func (e *Edge) configHash() string { return e.config.Load().documents.Hash }

// upstreamsOf lists the upstreams that are URLs.
func upstreamsOf(docs *config.Documents) []dns.Upstream {
	var all []dns.Upstream
	for n := range docs.Routes {
		if u := docs.Routes[n].Upstream; u.Kind == config.UpstreamDNS {
			all = append(all, dns.Upstream{Host: u.Host, Port: u.Port, TLS: u.TLS})
		}
	}
	return all
}

// healthChecks are what documents say that instances are asked, by service.
func healthChecks(docs *config.Documents) map[string]health.Check {
	kinds := map[string]health.CheckKind{"grpc": health.CheckGRPC, "connect": health.CheckConnect}
	checks := make(map[string]health.Check)
	for _, s := range docs.Services {
		if check := (health.Check{Kind: kinds[s.Probe], Path: s.HealthPath}); check != (health.Check{}) {
			checks[s.Name] = check
		}
	}
	return checks
}

// gatewayConfig is the documents as the gateway takes them.
func gatewayConfig(docs *config.Documents) gateway.Config {
	c := gateway.Config{
		Routes:   make([]gateway.Route, len(docs.Routes)),
		Services: docs.Services,
		Releases: docs.Releases,
		Policies: make(map[string]gateway.Policy, len(docs.Policies)),
	}
	for n := range docs.Routes {
		r := &docs.Routes[n]
		c.Routes[n] = gateway.Route{
			Route:     r.Route,
			RateLimit: r.RateLimit,
			Timeouts: exchange.Timeouts{
				Connect: r.Timeouts.Connect, TLS: r.Timeouts.TLS, Head: r.Timeouts.Head, Idle: r.Timeouts.Idle,
			},
			PerTry:  r.Timeouts.PerTry,
			Total:   r.Timeouts.Total,
			Retries: r.Retries.Attempts,
			RetryOn: retryOn(r.Retries.On),
			Hash:    hashKeys(r.Hash),
			Rewrite: r.UpstreamRewrite(),
		}
	}
	for name, p := range docs.Policies {
		c.Policies[name] = gatewayPolicy(&p)
	}
	return c
}
