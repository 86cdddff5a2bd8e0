package gateway

import (
	"cmp"
	"errors"
	"slices"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
)

// PeerHandler answers what other edges send here. It believes what they say in
// "x-gray-hop", so that it must listen where nobody but edges is let in.
//
// It serves from this zone's endpoints of the one subset that is named and has
// no other way, so that no request can go round in circles. It tries again only
// what has not reached an endpoint; anything else is the sender's to decide. A
// request that came to nothing here is answered with 503 and the word
// "not-processed", without a body: the sender has all of it still and goes on
// down its ladder.
type PeerHandler struct{ g *Gateway }

var _ exchange.Handler = PeerHandler{}

// PeerHandler is for the listener for other edges; Options.Peers must be set.
func (g *Gateway) PeerHandler() PeerHandler { return PeerHandler{g} }

// peeredService is a service as other edges ask for it.
type peeredService struct {
	// routes stand in for those of the senders: the second has requests sent
	// with the endpoint's address as their host.
	routes [2]compiledRoute
}

// peerRoute is what logs and metrics call the route of such requests; no route
// of the configuration can be called so.
func peerRoute(service string) string { return "peer/" + service }

// compilePeered prepares the services for other edges.
func (g *Gateway) compilePeered(r *routing, subsets map[string][]string) error {
	r.peered = make(map[string]*peeredService, len(r.services))
	for name, s := range r.services {
		id := peerRoute(name)
		rule := rewrite.Rule{Host: rewrite.HostUpstream}
		hosted, err := rule.Compile()
		if err != nil {
			return err
		}
		series := g.seriesOf(id, subsets[name])
		config := Route{Route: route.Route{ID: id, Service: name}}
		withHost := config
		withHost.rewriter = hosted
		r.peered[name] = &peeredService{routes: [2]compiledRoute{
			{service: s, series: series, config: &config},
			{service: s, series: series, config: &withHost, seldom: true},
		}}
	}
	return nil
}

// Why a request is not processed, and what of its answer is for people.
var (
	notWellFormed = refusal{503, "malformed-hop", "the request does not say what it was sent here for"}
	notFurther    = refusal{503, "hop-limit", "the request has been sent on before"}
	notService    = refusal{503, "unknown-service", "no route here leads to the service"}
	notSubset     = refusal{503, "unknown-subset", "the release does not cover the service here, or is paused"}
	notTheSame    = refusal{503, "other-subset", "the documents here select other instances by that name"}
	notUsable     = refusal{503, "no-endpoint", "no endpoint of the subset is usable in this zone"}
	notReached    = refusal{503, "not-reached", "no endpoint of the subset could be reached"}
)

// Serve implements [exchange.Handler].
func (p PeerHandler) Serve(x *exchange.Exchange) {
	g := p.g
	c, ok := x.State.(*call)
	if !ok {
		c = g.newCall(x)
	}
	defer c.survive()
	h, refused := g.receive(c)
	if refused == nil {
		refused = g.serveHop(c, &h)
	}
	if refused != nil {
		c.notProcessed(refused)
	}
}

// Done implements [exchange.Handler].
func (p PeerHandler) Done(x *exchange.Exchange, err error) { p.g.Done(x, err) }

// receive reads what the other edge says of the request and finds the subset
// that it names.
func (g *Gateway) receive(c *call) (hop, *refusal) {
	r := g.routing.Load()
	c.series = &r.unrouted
	text, twice := c.identifyHop()
	h, ok := parseHop(text)
	if !ok || twice {
		return h, &notWellFormed
	}
	c.client, c.from = h.client, g.sender(c.x.Conn, h.from)
	if h.hops > maxHops {
		return h, &notFurther
	}
	s := r.peered[h.service]
	if s == nil {
		return h, &notService
	}
	c.route = &s.routes[0]
	if h.host {
		c.route = &s.routes[1]
	}
	c.series = &c.route.series
	plan := c.route.service.current.Load()
	decision, known := plan.Named(h.release)
	switch {
	case !known:
		return h, &notSubset
	case decision.Lane.Selects != h.selects:
		return h, &notTheSame
	}
	c.plan, c.decision = plan, decision
	c.hash, c.hashed = h.hash, h.hashed && plan.rings != nil
	x := c.x
	x.Timeouts, c.timing = h.timeouts, timing{}
	if h.until > 0 {
		c.until = x.Start.Add(h.until)
	}
	if h.hard > 0 {
		c.hard = x.Start.Add(h.hard)
	}
	return h, nil
}

// sender is the edge that a request comes from: what it says, unless its
// certificate bears another edge's id, as common name or DNS name, and not that
// one. Certificates need not bear any; then it is the sender's word.
func (g *Gateway) sender(conn *exchange.Conn, said string) string {
	if conn.TLS == nil || len(conn.TLS.PeerCertificates) == 0 {
		return said
	}
	certificate := conn.TLS.PeerCertificates[0]
	name, peers := certificate.Subject.CommonName, g.peersByID()
	if name == said || slices.Contains(certificate.DNSNames, said) {
		return said
	}
	if peers[name] != nil {
		return name
	}
	for _, name = range certificate.DNSNames {
		if peers[name] != nil {
			return name
		}
	}
	return said
}

// identifyHop says whom the request comes from. All fields but the other edge's
// word stay as that edge has set them.
func (c *call) identifyHop() (text string, twice bool) {
	x := c.x
	if remote := x.Conn.Remote.Addr(); remote != c.peer || c.peerText == "" {
		c.takePeer(c.g, remote)
	}
	c.tags, c.tagField, c.explain, c.grpc = 0, "", false, false
	c.client, c.id = c.peerText, ""
	header := &x.Request.Header
	for _, field := range header.All() {
		switch field.ID {
		case exchange.FieldXGrayHop:
			twice = twice || text != ""
			text = field.Value
		case exchange.FieldXRequestID:
			c.id = field.Value
		case exchange.FieldContentType:
			c.grpc = c.grpc || isGRPC(field.Value)
		default:
		}
	}
	header.Del(exchange.FieldXGrayHop)
	return text, twice
}

// serveHop has an endpoint of this zone answer the request.
func (g *Gateway) serveHop(c *call, h *hop) *refusal {
	here := hereOf(c.decision.Lane)
	if here == nil {
		return &notUsable
	}
	s := c.route.service
	if c.plan.limited {
		if !s.limit.Enter() {
			return &notUsable
		}
		c.inside = s.serviceMemory
	}
	c.watchUpload()
	next, ok := g.pickHere(c, h, here)
	if !ok {
		return &notUsable
	}
	for {
		failure := g.attempt(c, next)
		if failure == nil {
			g.verdict(c, &verdict{what: hopServed, instance: c.at.endpoint.ID})
			return nil
		}
		if failure.Wrote || failure.Fault == exchange.FaultClient || c.x.Cause() != nil {
			g.failHop(c, failure)
			return nil
		}
		if c.unwritten++; c.unwritten >= cmp.Or(h.tries, maxUnwritten) || c.late() {
			return &notReached
		}
		if next, ok = g.pickHere(c, h, here); !ok {
			return &notReached
		}
		c.retries++
		g.metrics.repeats[repeatUnwritten].Inc()
	}
}

// hereOf is this zone's group of a lane, nil for none.
func hereOf(lane *route.Lane) *route.Group {
	for _, group := range lane.Groups {
		if group.Here {
			return group
		}
	}
	return nil
}

// pickHere takes an endpoint of the group and a place in its count. What an
// instance declares as its capacity holds for what other zones send.
func (g *Gateway) pickHere(c *call, h *hop, here *route.Group) (candidate, bool) {
	w := walk{plan: c.plan, decision: c.decision, rnd: g.opts.Rand(), hash: c.hash, hashed: c.hashed}
	to := candidate{group: here, rung: route.RungBaselineHere}
	if c.decision.Canary {
		to.rung = route.RungCanaryHere
	}
	for {
		w.tried = c.tried
		if to.endpoint = w.pick(here); to.endpoint == nil {
			if !h.panicking {
				return to, false
			}
			to.rung = route.RungPanic
			if to.endpoint = w.open(here); to.endpoint == nil {
				return to, false
			}
		}
		c.tried = append(c.tried, to.endpoint)
		rt := to.endpoint.Runtime.(*endpoint)
		if limit := int64(to.endpoint.Capacity); h.refuses(to.endpoint.ID) || limit > 0 && rt.inFlight.Load() >= limit {
			continue
		}
		var entered bool
		if to.pass, entered = rt.enter(); entered {
			if to.pass.peer == nil {
				return to, true
			}
			rt.leave(to.pass) // its instance has just moved to another zone
		}
	}
}

// verdict tells the other edge what became of the request.
func (g *Gateway) verdict(c *call, v *verdict) {
	if g.peersByID()[c.from] == nil {
		g.metrics.received.WithLabelValues("unknown", v.what).Inc()
	} else {
		g.countEdge(g.metrics.received, c.from, v.what)
	}
	start := len(c.text)
	c.text = v.append(c.text)
	c.x.Response.Header.Set(exchange.FieldXGrayHop, view(c.text[start:]))
}

// notProcessed answers that the request has reached nobody. The head alone says
// it: a body would have the sender give up its own.
func (c *call) notProcessed(r *refusal) {
	c.drop()
	c.leaveService()
	c.refused, c.plan, c.at = r, nil, candidate{}
	c.x.Response.Status = r.status
	c.g.verdict(c, &verdict{what: hopNotProcessed, reason: r.reason, tried: min(c.unwritten, maxUnwritten)})
}

// failHop answers that the attempt failed behind its first byte.
func (g *Gateway) failHop(c *call, failure *exchange.Error) {
	c.refused = &refuseBroken
	switch {
	case errors.Is(failure.Err, exchange.ErrClientGone):
		c.refused = &refuseGone
	case failure.Timeout:
		c.refused = &refuseTimeout
	}
	v := verdict{
		what: hopFailed, timeout: failure.Timeout, reused: failure.Reused, gateway: failure.Fault != exchange.FaultUpstream,
	}
	if e := c.at.endpoint; e != nil {
		v.instance = e.ID
	}
	c.x.Response.Reset()
	c.x.Response.Status = c.refused.status
	g.verdict(c, &v)
}
