package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// Query is a request to be explained: decided on as if it had come, and sent
// nowhere.
type Query struct {
	Method string // GET when empty
	Host   string // with or without a port
	Path   string // without a query
	Query  string // without "?"
	// Header are the request's fields, the release tag among them.
	Header []exchange.Field
	// Peer is whom it comes from; the zero value is nobody who is trusted.
	Peer netip.Addr
}

// Explanation is what would become of a request, and why.
type Explanation struct {
	// Status is what the edge itself would answer: 400, 404, 405 or 503; 0 when
	// an endpoint would be asked. Rate limits are not looked at.
	Status int
	// Reason is that of the refusal, or why the request took its lane and rung.
	Reason string
	Detail string // for people; with a Status
	Allow  string // with 405
	Path   string // in its normal form, as matched; with 400 as it came
	// UpstreamPath and UpstreamHost are what the endpoint would see, rewritten
	// where the route says so; empty where none would see it.
	UpstreamPath, UpstreamHost string

	Route, Service string
	Tag            string
	TagCounts      bool // the route admits it
	Release        string

	// Subset and Chosen are where the request would go; Chosen is nil when it
	// would go nowhere.
	Subset string
	Chosen *Choice
	// Steps is the whole ladder in the order in which this request goes down.
	Steps []Step
	// Next are the endpoints that further attempts would take, should each
	// fail without having written a byte.
	Next []Choice

	Panicking bool  // so few instances are healthy that panic opens the others
	Revision  int64 // of etcd, up to which instances are known
}

// Choice is an endpoint on a rung.
type Choice struct {
	Instance *federation.Instance
	Rung     string
	// Through is the edge that it would be sent through, which picks among the
	// instances of the subset in its zone; empty: directly.
	Through string
}

func choiceOf(c candidate) Choice {
	choice := Choice{Instance: c.endpoint.Instance, Rung: c.rung.String()}
	if way := c.endpoint.Runtime.(*endpoint).way(); way != nil {
		if q := way.next(nil, false); q != nil {
			choice.Through = q.edge.ID
		}
	}
	return choice
}

// Step is one zone of one subset.
type Step struct {
	Rung, Subset string
	Zone, Region string // empty where no zone has an instance
	// SharePercent is how many of the lane's requests begin here.
	SharePercent float64
	// Weight is the usable weight, Full that which counts as full capacity.
	Weight, Full int
	// Registered are Usable, Draining, Unhealthy (by the folded evidence),
	// Ejected (by requests of this edge just now), BreakerOpen and NotAdmitting
	// (at a limit, or without a transport), and Unreachable: only edges of their
	// zone lead to them, and none lets requests in.
	Registered, Usable, Draining, Unhealthy, Ejected, BreakerOpen, NotAdmitting, Unreachable int
	// Through is the edge that requests would go through; empty: directly, or
	// not at all.
	Through string
	// Lost: its edges are dead and an endpoint failed.
	Lost bool
	// Chosen: the request goes here. Why says in words why, or why not.
	Chosen bool
	Why    string
}

// Explain takes a query through the very steps that a request takes, as far as
// the pick.
func (g *Gateway) Explain(q Query) Explanation {
	c := g.ask(q)
	e := Explanation{Panicking: g.panicking.Load()}
	if snap := g.snapshot.Load(); snap != nil {
		e.Revision = snap.Revision
	}
	r := g.routing.Load()
	refused := r.find(c)
	if refused == nil {
		refused = c.takeTag()
	}
	e.Path = c.x.Request.Path
	if refused == nil {
		refused = c.rewritePath()
	}
	if c.route != nil {
		e.Route, e.Service, e.Tag, e.TagCounts = c.route.config.ID, c.route.config.Service, c.tag, c.counts
	}
	if refused != nil {
		e.Status, e.Reason, e.Detail, e.Allow = refused.status, refused.reason, refused.detail, c.allow
		return e
	}
	c.plan = c.route.service.current.Load()
	c.decision = c.plan.Decide(route.Ask{Tag: c.tag, TagCounts: c.counts})
	c.takeHash()
	e.Release = c.decision.Release
	g.explainLadder(c, &e)
	e.Reason, e.Subset = c.reason(), c.subset()
	if e.Chosen != nil {
		c.rewriteHost(e.Chosen.Instance.Address)
		// A request without a host is sent on with the endpoint's.
		e.UpstreamPath, e.UpstreamHost = c.x.Request.Path, cmp.Or(c.x.Request.Authority, e.Chosen.Instance.Address)
	}
	return e
}

// ask makes the state of a request out of a query.
func (g *Gateway) ask(q Query) *call {
	x := &exchange.Exchange{Conn: &exchange.Conn{Remote: netip.AddrPortFrom(q.Peer, 0)}}
	x.Request = exchange.Request{
		Method: q.Method, Scheme: "http", Authority: q.Host,
		Path: q.Path, Query: q.Query, HasQuery: q.Query != "", Proto: exchange.HTTP11,
	}
	if q.Method == "" {
		x.Request.Method = "GET"
	}
	for _, field := range q.Header {
		x.Request.Header.Add(field.Name, field.Value)
	}
	c := &call{g: g, x: x}
	c.header = func(name string) (string, bool) { return x.Request.Header.GetName(name) }
	g.identify(c)
	return c
}

// explainLadder walks as a request does and tells what it met.
func (g *Gateway) explainLadder(c *call, e *Explanation) {
	passed := make(map[*route.Group]bool)
	w := walk{
		plan: c.plan, decision: c.decision, rnd: g.opts.Rand(), hash: c.hash, hashed: c.hashed, panicking: e.Panicking,
		passed: func(group *route.Group, _ route.Rung) { passed[group] = true },
	}
	chosen, ok := w.next()
	if ok {
		c.at = chosen
		choice := choiceOf(chosen)
		e.Chosen = &choice
	} else {
		e.Status, e.Detail = refuseUnusable.status, refuseUnusable.detail
	}
	ladder := c.decision.Ladder(w.point())
	for {
		group, rung, more := ladder.Next()
		if !more {
			break
		}
		s := stepOf(group, rung, c)
		switch {
		case group == chosen.group && rung == chosen.rung:
			s.Chosen, s.Why = true, "taken: "+s.count()
		case passed[group], s.Usable == 0:
			s.Why = "passed over: " + s.count()
		default:
			s.Why = "not reached: " + s.count()
		}
		e.Steps = append(e.Steps, s)
	}
	e.Steps = g.complete(c, e.Steps)
	if chosen.rung == route.RungPanic {
		s := stepOf(chosen.group, chosen.rung, c)
		s.Chosen, s.Why = true, "taken: every rung is empty, and too few instances are healthy to believe it"
		e.Steps = append(e.Steps, s)
	}
	// What comes after the chosen one.
	w.passed = nil
	for next := chosen; ok && len(w.tried) < maxUnwritten; {
		w.tried = append(w.tried, next.endpoint)
		w.avoid, w.rnd = chosen.group.Zone, g.opts.Rand()
		if next, ok = w.next(); ok && len(w.tried) < maxUnwritten {
			e.Next = append(e.Next, choiceOf(next))
		}
	}
}

// stepOf counts a group's endpoints by what a request makes of them.
func stepOf(group *route.Group, rung route.Rung, c *call) Step {
	s := Step{
		Rung: rung.String(), Subset: c.decision.Lane.Subset, Zone: group.Zone, Region: group.Region,
		SharePercent: float64(group.Share) * 100 / 65536, Weight: group.Weight, Full: group.Full,
		Draining: group.Draining, Unhealthy: len(group.Unhealthy), Lost: group.Lost,
	}
	if rung == route.RungBaselineHere || rung == route.RungBaselineElsewhere {
		s.Subset = route.Baseline
	}
	s.Registered = s.Draining + s.Unhealthy + len(group.Endpoints)
	for _, e := range group.Endpoints {
		rt, ok := e.Runtime.(*endpoint)
		switch {
		case e.Usable():
			s.Usable++
			if ok && s.Through == "" {
				s.Through = choiceOf(candidate{endpoint: e}).Through
			}
		case ok && rt.tracker.Ejected():
			s.Ejected++
		case ok && rt.way() != nil && !rt.way().open():
			s.Unreachable++
		case ok && !rt.works() && !rt.refused.Load():
			s.BreakerOpen++
		default:
			s.NotAdmitting++
		}
	}
	return s
}

// count says what a step has, in words.
func (s *Step) count() string {
	parts := []string{fmt.Sprintf("%d registered", s.Registered)}
	for _, part := range []struct {
		n    int
		what string
	}{
		{s.Usable, "usable"},
		{s.Draining, "draining"},
		{s.Unhealthy, "unhealthy"},
		{s.Ejected, "ejected just now"},
		{s.BreakerOpen, "breaker open"},
		{s.NotAdmitting, "not admitting"},
		{s.Unreachable, "with no living edge of their zone to go through"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if s.Through != "" {
		parts = append(parts, "through edge "+s.Through)
	}
	if s.Lost {
		parts = append(parts, "zone lost")
	}
	return strings.Join(parts, ", ")
}

// complete puts in the rungs on which nothing is registered at all, which have
// no group to walk to.
func (g *Gateway) complete(c *call, walked []Step) []Step {
	type lane struct {
		subset          string
		here, elsewhere route.Rung
	}
	lanes := []lane{{c.decision.Lane.Subset, route.RungBaselineHere, route.RungBaselineElsewhere}}
	if c.decision.Canary {
		lanes[0].here, lanes[0].elsewhere = route.RungCanaryHere, route.RungCanaryElsewhere
	}
	if f := c.decision.Fallback; f != nil {
		lanes = append(lanes, lane{f.Subset, route.RungBaselineHere, route.RungBaselineElsewhere})
	}
	var steps []Step
	for _, l := range lanes {
		here, elsewhere := l.here.String(), l.elsewhere.String()
		if !slices.ContainsFunc(walked, func(s Step) bool { return s.Rung == here }) {
			steps = append(steps, Step{
				Rung: here, Subset: l.subset, Zone: g.opts.Topology.Zone, Region: g.opts.Topology.Region,
				Why: "passed over: no instance in this zone",
			})
		}
		// A zone that has nothing usable gets no share, so that requests begin
		// behind it: this edge's own comes first all the same, as in the rules.
		behind := func(s *Step) bool { return s.Rung == here && s.Usable == 0 && !s.Chosen }
		for n := range walked {
			if behind(&walked[n]) {
				steps = append(steps, walked[n])
			}
		}
		for n := range walked {
			if s := &walked[n]; (s.Rung == here || s.Rung == elsewhere) && !behind(s) {
				steps = append(steps, *s)
			}
		}
		if !slices.ContainsFunc(walked, func(s Step) bool { return s.Rung == elsewhere }) {
			steps = append(steps, Step{Rung: elsewhere, Subset: l.subset, Why: "passed over: no instance in any other zone"})
		}
	}
	return steps
}
