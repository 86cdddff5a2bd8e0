package edge

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/grayfed/grayfed/edge/admin"
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/gateway"
)

// explainer has the gateway decide on a request that was not made.
type explainer struct{ edge *Edge }

var _ admin.Explainer = explainer{}

func (e explainer) Explain(r api.ExplainRequest) api.Explanation {
	q := gateway.Query{Method: r.Method, Host: r.Host, Path: r.Path, Query: r.Query}
	for name, value := range r.Headers {
		q.Header = append(q.Header, exchange.Field{Name: name, Value: value, ID: exchange.LookupField(name)})
	}
	// A map has no order, and the first of several fields counts.
	slices.SortFunc(q.Header, func(a, b exchange.Field) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	if r.Tag != "" {
		tag := exchange.FieldXReleaseTag
		q.Header = append(q.Header, exchange.Field{Name: tag.String(), Value: r.Tag, ID: tag})
	}
	// Validated by the API; no address is nobody who is trusted.
	q.Peer, _ = netip.ParseAddr(r.ClientIP)
	return apiExplanation(e.edge.gateway.Explain(q))
}

func apiExplanation(x gateway.Explanation) api.Explanation {
	told := api.Explanation{
		Outcome: outcomeOf(x.Status), Status: x.Status, Detail: x.Detail,
		Route: x.Route, Service: x.Service, Release: x.Release, Subset: x.Subset, Reason: x.Reason,
	}
	if x.UpstreamPath != "" {
		told.Path, told.UpstreamPath, told.UpstreamHost = x.Path, x.UpstreamPath, x.UpstreamHost
	}
	if x.Chosen != nil {
		candidate := apiCandidate(*x.Chosen)
		told.Endpoint, told.Rung, told.Zone = &candidate, x.Chosen.Rung, x.Chosen.Instance.Zone
	}
	for _, s := range x.Steps {
		told.Steps = append(told.Steps, api.Step{
			Rung: s.Rung, Subset: s.Subset, Zone: s.Zone, SharePercent: s.SharePercent,
			Registered: s.Registered, Usable: s.Usable, Draining: s.Draining,
			// What requests have ejected a moment ago is unhealthy to people.
			Unhealthy: s.Unhealthy + s.Ejected, Full: s.NotAdmitting + s.BreakerOpen, Unreachable: s.Unreachable,
			Through: s.Through, Lost: s.Lost, Why: s.Why,
		})
	}
	for _, next := range x.Next {
		told.Next = append(told.Next, apiCandidate(next))
	}
	return told
}

func apiCandidate(c gateway.Choice) api.Candidate {
	i := c.Instance
	return api.Candidate{ID: i.ID, Zone: i.Zone, Address: i.Address, Version: i.Version, Rung: c.Rung, Through: c.Through}
}

func outcomeOf(status int) string {
	switch status {
	case 0:
		return api.OutcomeRouted
	case http.StatusNotFound:
		return api.OutcomeNoRoute
	case http.StatusMethodNotAllowed:
		return api.OutcomeMethodNotAllowed
	case http.StatusBadRequest:
		return api.OutcomeBadRequest
	}
	return api.OutcomeUnavailable
}
