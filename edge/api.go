package edge

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/admin"
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/registry"
)

// openAdmin binds the HTTP API.
func (e *Edge) openAdmin(ctx context.Context, reg *prometheus.Registry) error {
	c := e.process.Admin
	var err error
	e.admin, err = admin.New(admin.Options{
		Address:          c.Address,
		CertFile:         c.TLS.CertFile,
		KeyFile:          c.TLS.KeyFile,
		TokensFile:       c.TokensFile,
		HealthAddress:    c.HealthAddress,
		AllowedAddresses: e.process.Registration.AllowedCIDRs,
		Self:             e.self,
		Catalog:          e.catalog,
		Registrar:        registrar{e},
		Heartbeats:       registrar{e},
		Status:           status{e},
		Documents:        documents{e},
		Certificates:     e.certificates,
		Explainer:        explainer{e},
		Failover:         failoverStatus{e},
		Events:           e.events,
		Ready:            e.notReady,
		Gatherer:         reg,
		Registerer:       reg,
		Log:              e.log,
	})
	if err != nil {
		return err
	}
	if err := e.admin.Open(ctx); err != nil {
		return err
	}
	e.opened.push("admin sockets", e.admin.Close)
	return nil
}

// registrar gives the registry to the HTTP API, in its words.
type registrar struct{ edge *Edge }

var (
	_ admin.Registrar  = registrar{}
	_ admin.Heartbeats = registrar{}
)

func (r registrar) Register(ctx context.Context, i federation.Instance, o admin.WriteOptions) (federation.Instance, error) {
	stored, err := r.edge.registry.Register(ctx, i, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor})
	return stored, apiError(err)
}

func (r registrar) Deregister(ctx context.Context, key federation.Key, o admin.WriteOptions) error {
	return apiError(r.edge.registry.Deregister(ctx, key, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor}))
}

func (r registrar) Drain(ctx context.Context, key federation.Key, o admin.WriteOptions) (federation.Instance, error) {
	stored, err := r.edge.registry.Drain(ctx, key, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor})
	return stored, apiError(err)
}

func (r registrar) Heartbeat(ctx context.Context, key federation.Key) error {
	return apiError(r.edge.registry.Heartbeat(ctx, key))
}

// apiError says in the API's words what the registry refused.
func apiError(err error) error {
	if owned, ok := errors.AsType[*registry.OwnedError](err); ok {
		return &admin.OwnedError{Owner: owned.Owner}
	}
	for ours, theirs := range map[error]error{
		registry.ErrNotFound:           admin.ErrNotFound,
		registry.ErrPreconditionFailed: admin.ErrPreconditionFailed,
		registry.ErrConflict:           admin.ErrConflict,
		registry.ErrUnavailable:        admin.ErrUnavailable,
	} {
		if errors.Is(err, ours) {
			return refusal{kind: theirs, err: err}
		}
	}
	return err
}

// refusal is an error in the registry's words and of the API's kind.
type refusal struct{ kind, err error }

// Error does not say the kind, which the words say already.
func (r refusal) Error() string { return r.err.Error() }

// Unwrap tells both.
func (r refusal) Unwrap() []error { return []error{r.kind, r.err} }

// status says how this edge is.
type status struct{ edge *Edge }

var _ admin.Status = status{}

func (s status) Clock() uint64 { return s.edge.clock.Now() }

func (s status) Registry() api.Registry {
	r := s.edge.registry.Status()
	return api.Registry{
		Synced:     r.Synced,
		FromCache:  r.FromCache,
		StaleSince: r.StaleSince,
		LagMS:      r.Lag.Milliseconds(),
		Registered: r.Registered,
		Owned:      r.Owned,
		Orphans:    r.Orphans,
		Queued:     r.Queued,
		Error:      r.Err,
	}
}

func (s status) Documents() api.Documents {
	state := s.edge.config.Load()
	d := api.Documents{Hash: state.documents.Hash, AppliedAt: state.applied}
	if state.problem != nil {
		d.Error = state.problem.Error()
	}
	for _, warning := range state.documents.Warnings {
		d.Warnings = append(d.Warnings, warning.String())
	}
	return d
}

// certificates are those that the listeners show.
func (e *Edge) certificates() []api.Certificate {
	stores := slices.Clip(e.data.stores)
	if e.peering.store != nil {
		stores = append(stores, e.peering.store)
	}
	var list []api.Certificate
	for _, store := range stores {
		for _, c := range store.Status() {
			list = append(list, api.Certificate{Listener: store.Name(), File: c.CertFile, NotAfter: c.NotAfter, Error: c.Refused})
		}
	}
	return list
}

// documents shows the documents in force.
type documents struct{ edge *Edge }

var _ admin.Documents = documents{}

func (d documents) Services() []*federation.Service { return d.edge.config.Load().documents.Services }

func (d documents) Releases() []*federation.Release { return d.edge.config.Load().documents.Releases }

func (d documents) Routes() api.Routes {
	docs := d.edge.config.Load().documents
	all := api.Routes{Config: docs.Hash, Routes: make([]api.Route, 0, len(docs.Routes))}
	for n := range docs.Routes {
		all.Routes = append(all.Routes, apiRoute(&docs.Routes[n]))
	}
	return all
}

func apiRoute(r *config.Route) api.Route {
	shown := api.Route{
		ID: r.ID, Host: r.Host, Path: r.Path, Methods: r.Methods, Priority: r.Priority,
		Upstream: r.Upstream.Text, Service: r.Service, Tags: r.Tags.String(), Explain: r.Explain,
		Timeouts: api.Timeouts{
			Connect: federation.Duration(r.Timeouts.Connect), TLS: federation.Duration(r.Timeouts.TLS),
			Head: federation.Duration(r.Timeouts.Head), Idle: federation.Duration(r.Timeouts.Idle),
			PerTry: federation.Duration(r.Timeouts.PerTry), Total: federation.Duration(r.Timeouts.Total),
		},
		Retries: r.Retries.Attempts, File: r.File, Line: r.Line,
	}
	for _, m := range r.Headers {
		shown.Headers = append(shown.Headers, api.Match{Name: m.Name, Exact: m.Exact, Regex: m.Regex, Present: m.Present})
	}
	for _, m := range r.Query {
		shown.Query = append(shown.Query, api.Match{Name: m.Name, Exact: m.Exact, Regex: m.Regex, Present: m.Present})
	}
	if r.RateLimit != nil {
		shown.RateLimit = &api.RateLimit{RPM: r.RateLimit.RPM, Burst: r.RateLimit.Burst}
	}
	showRewrite(&shown, r)
	return shown
}

// instanceEvent tells the API's readers what became of an instance.
func (e *Edge) instanceEvent(ev registry.Event) {
	told := api.Event{
		Type: api.EventType("instance." + string(ev.Kind)), Time: ev.Time.UTC(),
		Service: ev.Service, Instance: ev.ID, Owner: ev.Owner, Previous: ev.Previous, Revision: ev.Revision,
	}
	if !ev.Stamp.IsZero() {
		told.Stamp = &ev.Stamp
	}
	if !ev.By.IsZero() {
		told.By = &ev.By
	}
	e.events.Publish(told)
}

// edgeEvent tells of another edge when gossip has changed its mind about it.
func (e *Edge) edgeEvent(edge federation.Edge) {
	e.events.Publish(api.Event{Type: api.EventEdge, Time: e.now().UTC(), Edge: edge.ID, Status: string(edge.Status)})
}

// configEvent tells that documents were put in force or refused.
func (e *Edge) configEvent(hash string, problem error) {
	told := api.Event{Type: api.EventDocumentsApplied, Time: e.now().UTC(), Detail: hash}
	if problem != nil {
		told.Type, told.Detail = api.EventDocumentsRefused, problem.Error()
	}
	e.events.Publish(told)
}
