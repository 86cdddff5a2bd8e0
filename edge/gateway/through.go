package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// hopSlack is how much longer an answer of another edge is waited for than that
// edge waits for the endpoint's: it is to say itself that the endpoint is late.
const hopSlack = 250 * time.Millisecond

// hopTLS bounds the handshake with another edge, which has to sign as well.
const hopTLS = time.Second

var (
	// errNotProcessed: the other edge says that the request has reached nobody.
	errNotProcessed = errors.New("not processed")
	errNoVerdict    = errors.New("answer without a word on what became of the request")
)

// shutGroup is a group that a request has no way into any more, on the rungs or
// on that of panic.
type shutGroup struct {
	group     *route.Group
	panicking bool
}

// through sends the request to an edge of the endpoint's zone, which picks among
// the endpoints of the same subset there. What that edge's endpoints are like is
// that edge's to judge: nothing of what happens here is held against them. Only
// edges of the zone stand between an attempt and the next group of the ladder,
// so that a second one is tried within the attempt.
func (g *Gateway) through(c *call, to candidate) *exchange.Error {
	c.at, c.holds, c.failure = to, to.endpoint.Runtime.(*endpoint), nil
	passage := to.pass.peer.standIn.zone.Load().through
	if c.left == to.pass.peer {
		if other := passage.next(c.left, true); other != nil {
			c.at.pass.peer = other
		}
	}
	var failure *exchange.Error
	end := c.unwritten + c.share(to)
	for tried := 1; ; tried++ {
		if failure = g.hop(c, to, end-c.unwritten); failure == nil {
			return nil
		}
		if tried == peerTries || c.unwritten >= end || failure.Wrote || failure == errMove || failure.Fault == exchange.FaultClient ||
			errors.Is(failure.Err, errNotProcessed) || c.x.Cause() != nil || c.late() {
			break
		}
		other := passage.next(c.at.pass.peer, true)
		if other == nil {
			break
		}
		c.at.pass.peer = other
	}
	if !failure.Wrote && failure != errMove {
		c.shutOut(to)
	}
	c.drop()
	return failure
}

// share is how many of the attempts that may write nothing are for the zone of
// a candidate, its edges and its endpoints together: one where the lane has
// another zone, which comes next, and all but one where there is a lane to fall
// back to.
func (c *call) share(to candidate) int {
	left := maxUnwritten - c.unwritten
	switch {
	case c.hasOther(c.laneOf(to), to.group):
		left = 1
	case c.fallsBack(to):
		left--
	}
	return max(left, 1)
}

// fallsBack reports whether another lane than a candidate's may yet answer.
func (c *call) fallsBack(to candidate) bool {
	return c.laneOf(to) == c.decision.Lane && c.hasOther(c.decision.Fallback, nil)
}

// shutOut notes that there is no way into a candidate's group, and that the last
// attempt is for an endpoint that this edge reaches itself, or for the lane that
// the request falls back to: further edges, which may know of no endpoint, must
// not keep it from the one that is there.
func (c *call) shutOut(to candidate) {
	c.shut = append(c.shut, shutGroup{to.group, to.rung == route.RungPanic})
	if c.unwritten == maxUnwritten-1 && c.fallsBack(to) {
		for _, group := range c.decision.Lane.Groups {
			if c.g.zone(group.Zone).through != nil {
				c.shut = append(c.shut, shutGroup{group: group})
			}
		}
	}
}

// hop sends the request to the edge that was picked, for which so many attempts
// may write nothing, and counts those.
func (g *Gateway) hop(c *call, to candidate, tries int) *exchange.Error {
	timeouts := c.x.Timeouts
	failure := g.sendHop(c, to, tries)
	if failure == nil {
		return nil
	}
	// Nobody else looks at them: the body is not being sent any more.
	c.x.Timeouts = timeouts
	if !failure.Wrote && failure != errMove {
		c.unwritten++
	}
	return failure
}

func (g *Gateway) sendHop(c *call, to candidate, tries int) *exchange.Error {
	x, q := c.x, c.at.pass.peer
	moveable := !to.group.Lost && to.rung != route.RungPanic && !c.stays && replayable(&x.Request)
	if moveable && c.awaitPeer(q) {
		return c.note(c.settle())
	}
	c.startAttempt()
	x.Request.Header.Set(exchange.FieldXGrayHop, c.hopValue(to, tries))
	c.stretch()
	began := time.Now()
	q.standIn.inFlight.Add(1)
	c.sending = true
	err := q.upstream.RoundTrip(x)
	c.sending = false
	q.standIn.inFlight.Add(-1)
	c.headTook = time.Since(began)
	x.Request.Header.Del(exchange.FieldXGrayHop)
	if moveable && c.arrive(&q.standIn) {
		g.sent(q, "moved")
		return c.note(c.settle())
	}
	if err != nil {
		return g.unreached(c, q, c.note(err))
	}
	return g.answered(c, q, to)
}

// awaitPeer is await for another edge.
func (c *call) awaitPeer(q *peer) (lost bool) {
	c.awaits.Store(&q.standIn)
	if !q.standIn.zone.Load().demoted.Load() && !q.gone.Load() {
		return false
	}
	c.arrive(&q.standIn)
	return true
}

// stretch has this edge wait a little longer than the other one, which also has
// to connect to an endpoint, or to several, before it counts the time for the
// answer's head. What bounds the request as a whole it is told.
func (c *call) stretch() {
	x := c.x
	reach := hopSlack + maxUnwritten*(cmp.Or(x.Timeouts.Connect, hopSlack)+x.Timeouts.TLS)
	if x.Timeouts.Head > 0 {
		x.Timeouts.Head += reach
	}
	if x.Timeouts.TLS < hopTLS {
		x.Timeouts.TLS = hopTLS
	}
	switch {
	case x.Deadline.IsZero():
	case c.grpc || x.Deadline.Equal(c.until):
		x.Deadline = x.Deadline.Add(hopSlack)
	default: // by the route's time for one try
		x.Deadline = x.Deadline.Add(reach)
		if !c.until.IsZero() {
			x.Deadline = soonest(x.Deadline, c.until.Add(hopSlack))
		}
	}
}

// hopValue says what the other edge has to know.
func (c *call) hopValue(to candidate, tries int) string {
	x := c.x
	h := hop{
		from: c.g.opts.Edge, hops: 1, service: c.route.service.name, panicking: to.rung == route.RungPanic,
		client: c.client, hash: c.hash, hashed: c.hashed, tries: tries, timeouts: x.Timeouts,
	}
	lane := c.laneOf(to)
	h.selects = lane.Selects
	if lane == c.decision.Lane && c.decision.Canary {
		h.release = c.decision.Release
	}
	w := c.rewriter()
	h.host = x.Request.Authority == "" || w != nil && w.Host == rewrite.HostUpstream
	now := time.Now()
	if c.route.seldom && c.route.config.PerTry > 0 && !x.Deadline.IsZero() {
		if left := max(1, x.Deadline.Sub(now)); h.timeouts.Head == 0 || left < h.timeouts.Head {
			h.timeouts.Head = left
		}
	}
	if !c.until.IsZero() {
		h.until = max(1, c.until.Sub(now))
	}
	if !c.hard.IsZero() {
		h.hard = max(1, c.hard.Sub(now))
	}
	for _, e := range c.tried {
		if e.Zone != to.group.Zone || e == to.endpoint || !federation.ValidName(e.ID) {
			continue
		}
		if h.not != "" {
			h.not += ","
		}
		h.not += e.ID
	}
	start := len(c.text)
	c.text = h.append(c.text)
	return view(c.text[start:])
}

// laneOf is the lane that a candidate was found in.
func (c *call) laneOf(to candidate) *route.Lane {
	if to.rung == route.RungBaselineHere || to.rung == route.RungBaselineElsewhere {
		if c.decision.Fallback != nil {
			return c.decision.Fallback
		}
	}
	return c.decision.Lane
}

// unreached judges an edge that gave no answer.
func (g *Gateway) unreached(c *call, q *peer, failure *exchange.Error) *exchange.Error {
	now := time.Now()
	switch {
	case failure.Fault != exchange.FaultUpstream || c.overdue(now):
		return failure
	case failure.Phase == exchange.PhaseConnect:
		g.sent(q, "unreachable")
		if q.failed(now) {
			g.unreachable(q.isAt)
		}
	default:
		g.sent(q, "broken-off")
		c.left = q // its other connections may be about to break off, too
		if !failure.Reused || failure.Timeout {
			q.failed(now)
		}
	}
	g.zoneFailed(q.standIn.zone.Load(), now)
	return failure
}

// answered takes the other edge's word on what became of the request.
func (g *Gateway) answered(c *call, q *peer, to candidate) *exchange.Error {
	x := c.x
	q.worked()
	text, _ := x.Response.Header.Get(exchange.FieldXGrayHop)
	v, ok := parseVerdict(text)
	status := x.Response.Status
	if ok && v.what == hopServed {
		g.sent(q, hopServed)
		x.Response.Header.Del(exchange.FieldXGrayHop)
		c.reported = true // to the other edge's trackers
		c.metInstance(to, v.instance)
		c.headCame(&q.standIn)
		return nil
	}
	failure := &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultUpstream, Timeout: v.timeout, Reused: v.reused, Wrote: true}
	switch {
	case ok && v.what == hopNotProcessed:
		failure.Phase, failure.Fault = exchange.PhaseConnect, exchange.FaultGateway
		failure.Err = fmt.Errorf("edge %s: %w: %s", q.edge.ID, errNotProcessed, v.reason)
		c.unwritten += max(v.tried-1, 0) // beside this attempt itself
	case ok:
		if v.gateway {
			failure.Fault = exchange.FaultGateway
		}
		c.metInstance(to, v.instance)
		failure.Err = fmt.Errorf("edge %s: its attempt failed", q.edge.ID)
	case status >= 400 && status < 500:
		// Refused for its form, before anything looked at it as a request.
		failure.Phase, failure.Fault = exchange.PhaseConnect, exchange.FaultGateway
		failure.Err = fmt.Errorf("edge %s: %w: status %d", q.edge.ID, errNotProcessed, status)
	default:
		failure.Err = fmt.Errorf("edge %s: %w: status %d", q.edge.ID, errNoVerdict, status)
	}
	if x.Response.Body != nil {
		_ = x.Response.Body.Close() // it is not for the client
	}
	if x.Response.Tunnel != nil {
		_ = x.Response.Tunnel.Close() // as above
	}
	// That edge's word gives nobody back what it has been sent of a body.
	if errors.Is(failure.Err, errNotProcessed) && c.hasAll() {
		failure.Wrote = false
		g.sent(q, hopNotProcessed)
	} else {
		g.sent(q, hopFailed)
	}
	x.Response.Reset()
	return c.note(failure)
}

// metInstance puts the instance that the other edge took in the place of the one
// that was picked here, which stood for the subset.
func (c *call) metInstance(to candidate, id string) {
	snap := c.g.snapshot.Load()
	e := snap.Endpoint(federation.Key{Service: c.route.service.name, ID: id})
	if e == nil || e.Zone != to.group.Zone {
		c.at.endpoint = nil // registered so lately that it is not known here
		return
	}
	c.at.endpoint = e
	c.tried[len(c.tried)-1] = e
}
