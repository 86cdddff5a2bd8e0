package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// Config is what the operator says, as a whole.
type Config struct {
	Routes   []Route
	Services []*federation.Service
	Releases []*federation.Release
	// Policies are by service; one that is not named has the zero Policy.
	Policies map[string]Policy
}

// Route is a route and how its requests are carried.
type Route struct {
	route.Route
	// RateLimit is nil for none.
	RateLimit *ratelimit.Options
	// Timeouts bound one attempt each; see [exchange.Timeouts].
	Timeouts exchange.Timeouts
	// Total bounds the whole exchange, all attempts included; 0 for no bound.
	Total time.Duration
	// Retries is how many attempts may follow a failed one that wrote
	// something, 0 to MaxRetries.
	Retries int
}

// MaxRetries bounds [Route.Retries].
const MaxRetries = 5

// Balance is how one endpoint of a group is picked.
type Balance uint8

// The ways to pick.
const (
	// P2C is power of two choices by least load.
	P2C Balance = iota
	// WeightedRoundRobin goes round in proportion to the weights.
	WeightedRoundRobin
)

// Policy is how a service's endpoints are treated.
type Policy struct {
	Balance Balance
	// MaxRequests bounds what this edge has in flight to one endpoint; 0 for
	// no bound.
	MaxRequests int
}

// routing is a configuration as requests use it: immutable.
type routing struct {
	table    *route.Table
	routes   []compiledRoute
	services map[string]*service
	unrouted seriesSet
}

// compiledRoute is a route with what its requests need at hand.
type compiledRoute struct {
	Route
	service *service
	limiter *ratelimit.Limiter // nil for none
	series  seriesSet
}

// seriesSet holds the metrics of one route by subset. There are as few subsets
// as releases that cover the route's service.
type seriesSet struct {
	subsets []string
	series  []*observe.RequestSeries
}

// of returns the series of a subset, nil when no metrics are kept.
func (s *seriesSet) of(subset string) *observe.RequestSeries {
	for i := range s.subsets {
		if s.subsets[i] == subset {
			return s.series[i]
		}
	}
	return nil
}

// subsetNone is the label of requests that came to no lane.
const subsetNone = "none"

// SetConfig makes c, which must be valid, the configuration: routes, services
// and releases change together, for every request that comes from now on. An
// error says what of c is not valid; nothing has changed then. c must not be
// changed afterwards.
func (g *Gateway) SetConfig(c Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.routing.Load()
	next, err := g.compile(c, old)
	if err != nil {
		return err
	}
	// Nothing fails from here on.
	g.config = c
	for _, s := range next.services {
		g.plan(s)
	}
	g.routing.Store(next)
	if g.opts.Requests != nil {
		g.opts.Requests.Forget(next.keeps())
	}
	return nil
}

// compile prepares a configuration, taking over what has a memory from the one
// before: budgets, high-water marks, limiters.
func (g *Gateway) compile(c Config, old *routing) (*routing, error) {
	plain := make([]route.Route, len(c.Routes))
	for i := range c.Routes {
		plain[i] = c.Routes[i].Route
		if n := c.Routes[i].Retries; n < 0 || n > MaxRetries {
			return nil, fmt.Errorf("route %q: found %d retries, allowed 0 to %d", plain[i].ID, n, MaxRetries)
		}
		if limit := c.Routes[i].RateLimit; limit != nil {
			if err := limit.Validate(); err != nil {
				return nil, fmt.Errorf("route %q: rate limit: %w", plain[i].ID, err)
			}
		}
	}
	table, err := route.NewTable(plain)
	if err != nil {
		return nil, err
	}
	r := &routing{
		table:    table,
		routes:   make([]compiledRoute, len(c.Routes)),
		services: make(map[string]*service),
		unrouted: g.seriesOf(subsetNone, nil),
	}
	limiters := make(map[string]*compiledRoute)
	if old != nil {
		for i := range old.routes {
			limiters[old.routes[i].ID] = &old.routes[i]
		}
	}
	for i := range c.Routes {
		compiled := &r.routes[i]
		compiled.Route = c.Routes[i]
		if compiled.Timeouts.Connect == 0 {
			compiled.Timeouts.Connect = g.opts.ConnectTimeout
		}
		compiled.limiter = limiterOf(&compiled.Route, limiters[compiled.ID])
		compiled.service = r.service(compiled.Service, old)
		compiled.series = g.seriesOf(compiled.ID, subsetsOf(compiled.Service, c.Releases))
	}
	return r, nil
}

// limiterOf keeps the bucket of a route whose limit stays as it is.
func limiterOf(r *Route, old *compiledRoute) *ratelimit.Limiter {
	switch {
	case r.RateLimit == nil:
		return nil
	case old != nil && old.limiter != nil && *old.RateLimit == *r.RateLimit:
		return old.limiter
	}
	return ratelimit.NewLimiter(*r.RateLimit)
}

func (r *routing) service(name string, old *routing) *service {
	if s := r.services[name]; s != nil {
		return s
	}
	s := &service{name: name}
	if old != nil && old.services[name] != nil {
		s.serviceMemory = old.services[name].serviceMemory
	} else {
		s.serviceMemory = new(serviceMemory)
	}
	r.services[name] = s
	return s
}

// subsetsOf names the lanes that requests to a service can take.
func subsetsOf(service string, releases []*federation.Release) []string {
	subsets := []string{route.Baseline}
	for _, release := range releases {
		if _, covers := release.Services[service]; covers {
			subsets = append(subsets, release.Name)
		}
	}
	return subsets
}

// keeps tells which series of requests the configuration has a use for.
func (r *routing) keeps() func(label, subset string) bool {
	sets := make(map[string]*seriesSet, len(r.routes)+1)
	sets[subsetNone] = &r.unrouted
	for i := range r.routes {
		sets[r.routes[i].ID] = &r.routes[i].series
	}
	return func(label, subset string) bool {
		set := sets[label]
		return set != nil && slices.Contains(set.subsets, subset)
	}
}

func (g *Gateway) seriesOf(label string, subsets []string) seriesSet {
	var set seriesSet
	if g.opts.Requests == nil {
		return set
	}
	set.subsets = append(slices.Clone(subsets), subsetNone)
	for _, subset := range set.subsets {
		set.series = append(set.series, g.opts.Requests.For(label, subset))
	}
	return set
}
