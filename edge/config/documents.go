package config

import (
	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// APIVersion is the schema of the documents.
const APIVersion = "grayfed/v1"

// Kind is what a document is about.
type Kind string

// The kinds.
const (
	KindRoute   Kind = "Route"
	KindService Kind = "Service"
	KindRelease Kind = "Release"
)

// Documents is one valid set, as a whole. It is immutable.
type Documents struct {
	Routes   []Route               // sorted by id
	Services []*federation.Service // sorted by name
	Releases []*federation.Release // sorted by name
	// Policies is what else a Service document says, by service name; a
	// service without a document has [DefaultServicePolicy].
	Policies map[string]ServicePolicy
	// Hash identifies the content, 32 hexadecimal digits: the same content in
	// other files, another order, or with other comments has the same hash.
	Hash string
	// Files are what was read, sorted.
	Files []string
	// Warnings are legal but probably not meant. Problem.Found says what was
	// found, Problem.Allowed what would be better.
	Warnings []Problem
}

// Route is a route and what happens on it.
type Route struct {
	// Route.Service is what answers: a service of the registry, or the name
	// of Upstream.DNS.
	route.Route
	Upstream UpstreamRef
	// RateLimit is nil for none.
	RateLimit *ratelimit.Options
	// Timeouts are complete: what the route does not say, its service does.
	Timeouts Timeouts
	Retries  Retries
	// Hash is what [BalanceHash] goes by on this route; nil: what the service
	// says.
	Hash []HashKey
	// Rewrite is what is changed of requests and responses; keys: rewrite,
	// request_headers, response_headers.
	Rewrite rewrite.Rule
	// File and Line are where it was read; they are not part of the hash.
	File string
	Line int
}

// UpstreamKind is where a route's endpoints come from.
type UpstreamKind uint8

// The kinds of upstreams. The zero value is unknown.
const (
	UpstreamUnknown UpstreamKind = iota
	// UpstreamService is a service of the registry.
	UpstreamService
	// UpstreamDNS is a URL whose host is resolved by DNS, or an IP address.
	UpstreamDNS
)

// UpstreamRef is a route's upstream.
type UpstreamRef struct {
	Kind UpstreamKind
	// Text is what the document says.
	Text string
	// Host (lower case, without brackets), Port and TLS are set with
	// UpstreamDNS; the service's name is then host:port, which no registered
	// service can have.
	Host string
	Port uint16
	TLS  bool
}

// Balance is how one endpoint is picked.
type Balance string

// The balance policies.
const (
	// BalanceP2C is power of two choices by least load; the default.
	BalanceP2C Balance = "p2c"
	// BalanceWeighted is weighted round robin.
	BalanceWeighted Balance = "weighted-round-robin"
	// BalanceHash is consistent hashing with bounded load.
	BalanceHash Balance = "consistent-hash"
)

// ServicePolicy is how this edge treats a service's endpoints.
type ServicePolicy struct {
	Balance Balance
	// Hash is what BalanceHash goes by: the first key that a request has. One
	// without any goes anywhere.
	Hash []HashKey
	// LoadBound is how many times its share of what is in flight an endpoint may
	// have before keys go on to the next, 1.05 to 100; 0 stands for 1.25. Key:
	// load_bound.
	LoadBound float64
	// MaxRequests bounds what this edge has in flight to one endpoint, 1 to
	// 1,000,000; 0: no bound. Key: limits.max_requests.
	MaxRequests int
	// MaxServiceRequests bounds what this edge has in flight to the whole
	// service; 0: no bound. Key: limits.max_service_requests.
	MaxServiceRequests int
	// Queue is where requests wait that find no place; size 0: none do, and get
	// 503 at once. Key: limits.queue.
	Queue Queue
	// Breaker stops sending to an endpoint that fails most requests; nil: none.
	// In a document it is a profile's name (high-frequency, steady,
	// low-frequency), or failure_ratio, min_requests and open_for with, if need
	// be, window and trials.
	Breaker *breaker.Options
	// Timeouts are those of the service's routes that set none.
	Timeouts Timeouts
}

// DefaultServicePolicy is what a service without a document gets.
func DefaultServicePolicy() ServicePolicy {
	return ServicePolicy{Balance: BalanceP2C, Timeouts: defaultTimeouts()}
}

// Policy is the policy of a service, declared or not.
func (d *Documents) Policy(service string) ServicePolicy {
	if p, ok := d.Policies[service]; ok {
		return p
	}
	return DefaultServicePolicy()
}

// RouteTable are the routes as the matcher takes them; a match's index is an
// index into Routes.
func (d *Documents) RouteTable() []route.Route {
	routes := make([]route.Route, len(d.Routes))
	for i := range d.Routes {
		routes[i] = d.Routes[i].Route
	}
	return routes
}
