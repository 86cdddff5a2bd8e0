package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/rewrite"
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
	// Timeouts bound one attempt each; see [exchange.Timeouts]. Body is set by
	// the gateway.
	Timeouts exchange.Timeouts
	// PerTry bounds one attempt up to the answer's head; 0 for no bound.
	PerTry time.Duration
	// Total bounds the whole exchange, all attempts included, unless it is a
	// stream; 0 for no bound.
	Total time.Duration
	// Retries is how many attempts may follow a failed one that wrote
	// something, 0 to MaxRetries.
	Retries int
	// RetryOn says for which reasons they may; 0 stands for RetryAll.
	RetryOn RetryOn
	// Hash is what [ConsistentHash] goes by on this route; nil: the policy's.
	Hash []HashKey
	// Rewrite is what is changed on the way.
	Rewrite rewrite.Rule

	rewriter *rewrite.Rewriter // made by the gateway of Rewrite; nil: none
}

// MaxRetries bounds [Route.Retries].
const MaxRetries = 5

// routing is a configuration as requests use it: immutable.
type routing struct {
	table    *route.Table
	routes   []compiledRoute
	services map[string]*service
	peered   map[string]*peeredService // nil unless other edges send requests here
	unrouted seriesSet
}

// compiledRoute is a route with what its requests need at hand. With thousands
// of routes a request finds its route in no cache: all that it reads are these
// two cache lines.
type compiledRoute struct {
	service *service
	limiter *ratelimit.Limiter // nil for none
	series  seriesSet

	timeouts exchange.Timeouts
	total    time.Duration
	retries  int32
	tags     route.TagMode
	explain  bool
	retryOn  RetryOn
	seldom   bool   // config has a PerTry, a Hash or a rewriter
	config   *Route // for the log, for explain, and for what is seldom
}

// seriesSet holds the metrics of one route by subset. There are as few subsets
// as releases that cover the route's service.
type seriesSet struct {
	subsets []string // shared by the routes of a service
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
	g.setRetired(old, next)
	for name := range old.services {
		if next.services[name] == nil {
			g.metrics.forget(name)
		}
	}
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
		if err := c.Routes[i].validate(); err != nil {
			return nil, fmt.Errorf("route %q: %w", plain[i].ID, err)
		}
	}
	for name, policy := range c.Policies {
		if err := policy.validate(); err != nil {
			return nil, fmt.Errorf("service %q: %w", name, err)
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
		unrouted: g.seriesOf(subsetNone, []string{subsetNone}),
	}
	limiters := make(map[string]*compiledRoute)
	if old != nil {
		for i := range old.routes {
			limiters[old.routes[i].config.ID] = &old.routes[i]
		}
	}
	subsets := make(map[string][]string)
	routes := slices.Clone(c.Routes)
	for i := range routes {
		config := &routes[i]
		if config.rewriter, err = config.Rewrite.Compile(); err != nil {
			return nil, fmt.Errorf("route %q: %w", config.ID, err)
		}
		if subsets[config.Service] == nil {
			subsets[config.Service] = subsetsOf(config.Service, c.Releases)
		}
		compiled := &r.routes[i]
		*compiled = compiledRoute{
			service:  r.service(config.Service, old),
			limiter:  limiterOf(config, limiters[config.ID]),
			series:   g.seriesOf(config.ID, subsets[config.Service]),
			timeouts: config.Timeouts,
			total:    config.Total,
			retries:  int32(config.Retries),
			tags:     config.Tags,
			explain:  config.Explain,
			retryOn:  config.RetryOn,
			seldom:   config.PerTry > 0 || config.Hash != nil || config.rewriter != nil,
			config:   config,
		}
		if compiled.retryOn == 0 {
			compiled.retryOn = RetryAll
		}
		if compiled.timeouts.Connect == 0 {
			compiled.timeouts.Connect = g.opts.ConnectTimeout
		}
	}
	if g.opts.Peers {
		if err := g.compilePeered(r, subsets); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// limiterOf keeps the bucket of a route whose limit stays as it is.
func limiterOf(r *Route, old *compiledRoute) *ratelimit.Limiter {
	switch {
	case r.RateLimit == nil:
		return nil
	case old != nil && old.limiter != nil && *old.config.RateLimit == *r.RateLimit:
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

// subsetsOf names the lanes that requests to a service can take, and none.
func subsetsOf(service string, releases []*federation.Release) []string {
	subsets := []string{route.Baseline}
	for _, release := range releases {
		if _, covers := release.Services[service]; covers {
			subsets = append(subsets, release.Name)
		}
	}
	return append(subsets, subsetNone)
}

// keeps tells which series of requests the configuration has a use for.
func (r *routing) keeps() func(label, subset string) bool {
	sets := make(map[string]*seriesSet, len(r.routes)+1)
	sets[subsetNone] = &r.unrouted
	for i := range r.routes {
		sets[r.routes[i].config.ID] = &r.routes[i].series
	}
	for _, p := range r.peered {
		sets[p.routes[0].config.ID] = &p.routes[0].series
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
	set.subsets = subsets
	set.series = make([]*observe.RequestSeries, len(subsets))
	for i, subset := range subsets {
		set.series[i] = g.opts.Requests.For(label, subset)
	}
	return set
}
