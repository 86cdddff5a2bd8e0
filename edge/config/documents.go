package config

import (
	"time"

	"github.com/grayfed/grayfed/edge/ratelimit"
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
	Timeouts  Timeouts
	Retries   Retries
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

// Timeouts bound the requests of a route. Zero stands for no bound of its
// own, and with Connect for [Upstream.ConnectTimeout].
type Timeouts struct {
	Connect time.Duration // reaching an endpoint
	Head    time.Duration // from the request sent to the response's head
	Idle    time.Duration // between two pieces of a body or tunnel; default 60 s
	Total   time.Duration // the whole exchange, retries included; default 3 s
}

// Retries says how often a failed attempt is repeated, beyond those that
// wrote no byte.
type Retries struct {
	Attempts int // 0 to 5; default 1
}

// Balance is how one endpoint is picked.
type Balance string

// The balance policies.
const (
	// BalanceP2C is power of two choices by least load; the default.
	BalanceP2C Balance = "p2c"
	// BalanceWeighted is weighted round robin.
	BalanceWeighted Balance = "weighted-round-robin"
)

// ServicePolicy is how this edge treats a service's endpoints.
type ServicePolicy struct {
	Balance Balance
	// MaxRequests bounds what is in flight to one endpoint, 1 to 1,000,000; 0:
	// no bound.
	MaxRequests int
}

// DefaultServicePolicy is what a service without a document gets.
func DefaultServicePolicy() ServicePolicy { return ServicePolicy{Balance: BalanceP2C} }

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
