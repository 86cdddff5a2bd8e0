// Package gateway is the pipeline of a request and its order: id, trusted
// proxy, path, route, tag, rate limit, release decision, pick, transport with
// what is tried again, answer, evidence.
//
// A request loads what it is decided on once: the routes, and the plan of its
// route's service. Whatever it needs beside lives in the state of its exchange
// and is used again, so that a request allocates nothing.
package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/health"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// Upstream is a transport to one endpoint. Close lets the exchanges under way
// end and refuses others with [exchange.ErrClosed].
type Upstream interface {
	exchange.Transport
	Close() error
}

// Options configure a [Gateway].
type Options struct {
	// Topology is where this edge stands. Its zone is required.
	Topology route.Topology
	// NewTransport makes the transport of an endpoint, when the first request
	// is sent there. Required.
	NewTransport func(*federation.Instance) (Upstream, error)
	// Through reports whether the endpoints of another zone are reached through
	// an edge of it (see SetPeer); nil: none are.
	Through func(zone string) bool
	// NewPeer makes the transport to another edge's listener for edges. It holds
	// bodies back until that edge wants them. Required with Through.
	NewPeer func(*federation.Edge) (Upstream, error)
	// Peers: other edges send requests here; see PeerHandler.
	Peers bool
	// Monitor takes what requests experience. Required.
	Monitor *health.Monitor
	// TrustedProxies are the peers whose forwarding fields and request ids are
	// believed, and whose tags count on routes with `tags: trusted`.
	TrustedProxies []netip.Prefix
	// Forwarded: requests get a Forwarded field (RFC 7239) beside
	// X-Forwarded-For; those of trusted peers are extended.
	Forwarded bool
	// Edge is this edge's id, for Forwarded and for values of fields; empty:
	// it stays unnamed.
	Edge string
	// PanicThreshold is the percentage of healthy instances below which
	// unhealthy ones are opened, once every rung is empty; 0 to 100, 0 for
	// never.
	PanicThreshold int
	// ConnectTimeout is for routes that set none; 0 leaves it to the
	// transport.
	ConnectTimeout time.Duration
	// DrainTimeout is how long tunnels and streams may go on at an endpoint that
	// drains or is gone, or on a route that a new configuration does not have or
	// leads to another service; 0: until they end.
	DrainTimeout time.Duration
	// Requests and AccessLog take the evidence; nil: none is kept.
	Requests  *observe.Requests
	AccessLog *observe.AccessLog
	// PublishLoad tells the other edges how much this one has in flight to an
	// endpoint that declares its capacity; nil: nobody is told. It must not
	// block.
	PublishLoad func(key federation.Key, inFlight int64)
	// OnZone is told when a zone is demoted, and when it is back; nil: nobody is
	// told. It is called without locks and must not block.
	OnZone func(zone string, demoted bool)
	// Registerer takes the gateway's own metrics; nil: none are published.
	Registerer prometheus.Registerer
	Log        *slog.Logger
	// Rand gives 64 random bits; nil: math/rand/v2. Safe for concurrent use.
	Rand func() uint64
	// Now is the time that plans are made at; nil: time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	switch {
	case !federation.ValidName(o.Topology.Zone):
		return fmt.Errorf("gateway: zone %s is not a name", federation.Quote(o.Topology.Zone))
	case o.Edge != "" && !federation.ValidName(o.Edge):
		return fmt.Errorf("gateway: edge id %s is not a name", federation.Quote(o.Edge))
	case o.NewTransport == nil:
		return errors.New("gateway: no way to make transports")
	case o.Through != nil && (o.NewPeer == nil || o.Edge == ""):
		return errors.New("gateway: zones that are reached through other edges, but no way to make transports to those, or no id")
	case o.Monitor == nil:
		return errors.New("gateway: no health monitor")
	case o.PanicThreshold < 0 || o.PanicThreshold > 100:
		return fmt.Errorf("gateway: panic threshold is %d, allowed 0 to 100 percent", o.PanicThreshold)
	case o.ConnectTimeout < 0:
		return fmt.Errorf("gateway: connect timeout %s is negative", o.ConnectTimeout)
	case o.DrainTimeout < 0:
		return fmt.Errorf("gateway: drain timeout %s is negative", o.DrainTimeout)
	}
	return nil
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Gateway decides on requests and has them answered. It is safe for concurrent
// use. It answers 404 until SetConfig, and 503 until SetSnapshot, are called.
type Gateway struct {
	opts    Options
	metrics *metrics
	waiting waiting
	loads   loads

	routing   atomic.Pointer[routing]
	snapshot  atomic.Pointer[federation.Snapshot] // nil before the first
	panicking atomic.Bool

	zonesMu sync.Mutex
	zones   map[string]*zone // zonesMu

	peersMu sync.Mutex                       // orders the changes of peers
	peers   atomic.Pointer[map[string]*peer] // by edge id, immutable; nil: none

	upstreamsMu sync.Mutex
	opened      map[*endpoint]federation.Key // upstreamsMu; those with a transport
	closing     map[*endpoint]struct{}       // upstreamsMu; of opened, those that the catalog has let go

	// mu orders the changes of plans; requests do not take it.
	mu      sync.Mutex
	config  Config  // mu
	leaving leaving // mu
	ticks   int     // mu; calls of Refresh
}

var _ exchange.Handler = (*Gateway)(nil)

// New returns a gateway without routes. It starts nothing.
func New(o Options) (*Gateway, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	g := &Gateway{
		opts:    o,
		zones:   make(map[string]*zone),
		opened:  make(map[*endpoint]federation.Key),
		closing: make(map[*endpoint]struct{}),
		leaving: leaving{endpoints: make(map[*endpoint]time.Time), routes: make(map[retired]time.Time)},
	}
	var err error
	if g.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("register gateway metrics: %w", err)
	}
	empty, err := g.compile(Config{}, nil)
	if err != nil {
		return nil, err
	}
	g.routing.Store(empty)
	return g, nil
}

// Close closes the transports, without waiting for the exchanges under way,
// which end in their own time. Nothing is served afterwards.
func (g *Gateway) Close() error {
	g.upstreamsMu.Lock()
	opened := g.opened
	g.opened, g.closing = make(map[*endpoint]federation.Key), make(map[*endpoint]struct{})
	g.upstreamsMu.Unlock()
	errs := g.closePeers()
	for e := range opened {
		errs = append(errs, e.shut())
	}
	return errors.Join(errs...)
}

// Serve implements [exchange.Handler].
func (g *Gateway) Serve(x *exchange.Exchange) {
	c, ok := x.State.(*call)
	if !ok {
		c = g.newCall(x)
	}
	defer c.survive()
	g.identify(c)
	if refusal := g.admit(c); refusal != nil {
		c.refuse(refusal)
		return
	}
	if refusal := g.forward(c); refusal != nil {
		c.refuse(refusal)
		return
	}
	c.decorate()
}

// admit takes a request as far as its route and its tag, and through the
// limits. What it returns is why the request goes no further.
func (g *Gateway) admit(c *call) *refusal {
	r := g.routing.Load()
	c.series = &r.unrouted
	if refusal := r.find(c); refusal != nil {
		return refusal
	}
	c.series = &c.route.series
	if refusal := c.takeTag(); refusal != nil {
		return refusal
	}
	if limiter := c.route.limiter; limiter != nil {
		remaining, after, ok := limiter.Allow(c.x.Start)
		c.setRemaining(remaining)
		if !ok {
			c.retryAfter = after
			return &refuseRate
		}
	}
	if refusal := c.rewritePath(); refusal != nil {
		return refusal
	}
	return c.setTiming()
}

// Done implements [exchange.Handler].
func (g *Gateway) Done(x *exchange.Exchange, err error) {
	c, ok := x.State.(*call)
	if !ok {
		return
	}
	defer c.surviveDone()
	now := time.Now()
	took := now.Sub(x.Start)
	c.passed()
	if c.holds != nil {
		c.report(exchange.AsError(err), now)
		c.leave()
	}
	c.leaveService()
	if s := c.series.of(c.subset()); s != nil {
		s.Observe(uint8(c.at.rung), c.outcome(), took)
		if c.retries > 0 {
			s.Retried(c.retries)
		}
	}
	if g.opts.AccessLog != nil {
		c.log(g.opts.AccessLog, took, exchange.AsError(err))
	}
	c.end()
}
