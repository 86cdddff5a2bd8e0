package gateway

import (
	"errors"
	"net/http"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
)

// repeat is why a failed attempt may be followed by another.
type repeat uint8

const (
	repeatNone repeat = iota
	// repeatUnwritten: it wrote no byte. Any method; outside count and budget.
	repeatUnwritten
	// repeatMoved: its zone was demoted while it waited. It was this edge that
	// ended it, so outside count and budget as well.
	repeatMoved
	// repeatReplay: it broke off, and the request can be sent again.
	repeatReplay
	// repeatUnreachable: nobody could connect to the endpoint any more while it
	// waited. It counts, and the budget has been asked; see unreachable.
	repeatUnreachable
	// repeatAnswer: it was answered with 502, 503 or 504, and can be sent again.
	repeatAnswer
	repeatCount
)

var repeatNames = [repeatCount]string{"none", "unwritten", "zone-lost", "broken-off", "unreachable", "gateway-answer"}

const (
	// maxUnwritten is how many endpoints, and edges on the way to them, a request
	// may fail to reach.
	maxUnwritten = 3
	// maxReloads bounds how often a request that met closed transports looks
	// at a newer plan.
	maxReloads = 3
)

var (
	errShut = &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrClosed}
	errMove = &exchange.Error{Phase: exchange.PhaseConnect, Fault: exchange.FaultGateway, Err: exchange.ErrZoneLost}

	errUnreachable = &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultUpstream, Wrote: true, Err: exchange.ErrUnreachable}
)

// forward has an endpoint answer the request, as many as it may take.
func (g *Gateway) forward(c *call) *refusal {
	s := c.route.service
	s.budget.request()
	c.plan = s.current.Load()
	c.decision = c.plan.Decide(route.Ask{Tag: c.tag, TagCounts: c.counts})
	c.takeHash()
	c.rewriteRequest()
	c.watchUpload()
	next, refusal := g.first(c)
	if refusal != nil {
		return refusal
	}
	for {
		var ok bool
		failure := g.attempt(c, next)
		why := g.repeatable(c, failure)
		if why == repeatNone {
			return c.conclude(failure)
		}
		if next, ok = g.pickAgain(c, why); !ok {
			return c.conclude(failure)
		}
		c.retries++
		g.metrics.repeats[why].Inc()
	}
}

// pick takes the next endpoint of the walk and a place in its count. fallback
// false keeps the request in its lane.
func (g *Gateway) pick(c *call, fallback bool) (candidate, bool) {
	w := walk{
		plan: c.plan, decision: c.decision, rnd: g.opts.Rand(), hash: c.hash, hashed: c.hashed, avoid: c.avoid,
		panicking: fallback && g.panicking.Load(), tried: c.tried, shut: c.shut,
	}
	if !fallback {
		w.decision.Fallback = nil
	}
	for {
		next, ok := w.next()
		if !ok {
			return next, false
		}
		c.tried = append(c.tried, next.endpoint)
		var entered bool
		if next.pass, entered = next.endpoint.Runtime.(*endpoint).enter(); entered {
			return next, true
		}
		w.tried = c.tried
	}
}

// pickAgain picks the endpoint of a further attempt, and lets go of the attempt
// before.
func (g *Gateway) pickAgain(c *call, why repeat) (candidate, bool) {
	// An endpoint that answered is usable, so its lane is not left for what it
	// answered; one that broke off is not, for this request.
	inLane := why == repeatAnswer && c.decision.Canary && c.at.rung != route.RungBaselineHere && c.at.rung != route.RungBaselineElsewhere
	next, ok := g.pick(c, !inLane)
	if !ok && why == repeatMoved {
		// There is nothing but the lost zone.
		clear(c.tried)
		c.tried, c.stays = c.tried[:0], true
		next, ok = g.pick(c, true)
	}
	if !ok {
		return next, false
	}
	if why == repeatReplay || why == repeatAnswer {
		if !c.route.service.budget.take() {
			next.endpoint.Runtime.(*endpoint).leave(next.pass)
			c.route.service.freed()
			g.metrics.noBudget.Inc()
			return next, false
		}
		c.counted++
	}
	if why == repeatUnreachable {
		c.counted++
	}
	c.drop()
	return next, true
}

// drop gives up the answer of the attempt before.
func (c *call) drop() {
	x := c.x
	if x.Response.Body != nil {
		_ = x.Response.Body.Close() // it is not wanted any more
	}
	if x.Response.Tunnel != nil {
		_ = x.Response.Tunnel.Close() // nor is that of a request that was moved
	}
	x.Response.Reset()
	c.reported = false
	if c.holds != nil {
		c.leave()
	}
}

// attempt sends the request to one endpoint. Without a failure the response's
// head is there, and the endpoint still counts the request.
func (g *Gateway) attempt(c *call, to candidate) *exchange.Error {
	if to.pass.peer != nil {
		return g.through(c, to)
	}
	x, e := c.x, to.endpoint.Runtime.(*endpoint)
	c.at, c.holds, c.failure = to, e, nil
	c.rewriteHost(to.endpoint.Address)
	u, err := e.transport(to.endpoint.Instance)
	if err != nil {
		return c.fail(err)
	}
	moveable := !to.group.Lost && to.rung != route.RungPanic && !c.stays && replayable(&x.Request)
	if moveable && c.await(e) {
		return c.fail(c.settle())
	}
	c.startAttempt()
	var began time.Time
	if g.opts.AccessLog != nil {
		began = time.Now()
	}
	c.sending = true
	err = u.RoundTrip(x)
	c.sending = false
	if g.opts.AccessLog != nil {
		c.headTook = time.Since(began)
	}
	if moveable && c.arrive(e) {
		// Even an answer that came meanwhile is lost: its connection was ended.
		return c.fail(c.settle())
	}
	if err != nil {
		failure := c.note(err)
		g.blame(c, failure)
		c.drop()
		return failure
	}
	c.headCame(e)
	switch {
	case c.failed():
		now := time.Now()
		c.judge(false, now)
		e.tracker.GatewayFailure(now.UnixNano())
		g.zoneFailed(e.zone.Load(), now)
	case x.Response.Tunnel != nil:
		// It may last for hours; that it stands is the evidence.
		c.judge(true, x.Start)
		e.tracker.Success(x.Start.UnixNano())
		c.reported = true
	case c.at.pass.ticket.Trial(), c.lasts.Load() != nil:
		// Whether the endpoint is used again waits for this.
		c.judge(true, time.Now())
	}
	return nil
}

// settle takes back the cancellation of a request that was moved. Another cause
// that came first stays.
func (c *call) settle() *exchange.Error {
	cause := c.x.Cause()
	switch {
	case cause == nil || errors.Is(cause, exchange.ErrZoneLost):
		c.drop()
		c.x.ClearCancel()
		return errMove
	case errors.Is(cause, exchange.ErrUnreachable):
		c.drop()
		c.x.ClearCancel()
		return errUnreachable
	}
	fault := exchange.FaultGateway
	if errors.Is(cause, exchange.ErrClientGone) {
		fault = exchange.FaultClient
	}
	return &exchange.Error{Phase: exchange.PhaseAwait, Fault: fault, Wrote: true, Err: cause}
}

// fail ends an attempt that failed through no fault of the endpoint.
func (c *call) fail(err error) *exchange.Error {
	failure := c.note(err)
	c.drop()
	return failure
}

// note notes why an attempt failed.
func (c *call) note(err error) *exchange.Error {
	failure := exchange.AsError(err)
	if c.upload.stalled(failure) {
		failure.Fault, failure.Status = exchange.FaultClient, 408
	}
	c.failure = failure
	return failure
}

// blame tells the endpoint's tracker and breaker of a failure that was the endpoint's. A
// connection that had been used before and ended without an answer was mostly
// just closed for being idle: what the endpoint is like, new ones show.
func (g *Gateway) blame(c *call, failure *exchange.Error) {
	e, now := c.holds, time.Now()
	if failure.Fault != exchange.FaultUpstream || c.overdue(now) {
		return
	}
	switch {
	case failure.Phase == exchange.PhaseConnect:
		c.judge(false, now)
		if e.tracker.ConnectFailure(now.UnixNano()) {
			g.unreachable(func(at *endpoint) bool { return at == e })
		}
	case !failure.Reused || failure.Timeout:
		c.judge(false, now)
		e.tracker.GatewayFailure(now.UnixNano())
	}
	g.zoneFailed(e.zone.Load(), now)
}

// repeatable says why, if at all, the attempt may be followed by another.
func (g *Gateway) repeatable(c *call, failure *exchange.Error) repeat {
	if failure == nil {
		if c.failed() && c.mayReplayAnswer() && !c.late() {
			return repeatAnswer
		}
		return repeatNone
	}
	if failure.Fault == exchange.FaultClient || c.late() || c.x.Cause() != nil {
		return repeatNone
	}
	if errors.Is(failure.Err, exchange.ErrClosed) && !failure.Wrote && c.reloads < maxReloads {
		c.reloads++
		c.reload(g)
		return repeatUnwritten
	}
	if c.avoid == "" {
		c.avoid = c.at.group.Zone
	}
	switch {
	case failure == errMove:
		return repeatMoved
	case failure == errUnreachable:
		if q := c.at.pass.peer; q != nil {
			// It was the edge: through another one the endpoint is as good as any.
			c.tried, c.left = c.tried[:len(c.tried)-1], q
		}
		return repeatUnreachable
	case !failure.Wrote:
		if c.at.pass.peer == nil {
			c.unwritten++ // hop counts for itself
		}
		if c.unwritten < maxUnwritten {
			return repeatUnwritten
		}
	case c.mayReplay(failure):
		if failure.Reused && !failure.Timeout {
			// Its other connections may well be good, and it may be the only one.
			c.tried = c.tried[:len(c.tried)-1]
		}
		return repeatReplay
	}
	return repeatNone
}

// mayReplay reports whether the request can be sent again after a failure, and
// the route lets one more attempt count.
func (c *call) mayReplay(failure *exchange.Error) bool {
	on := RetryReset
	if failure.Timeout {
		on = RetryTimeout
	}
	return c.counted < int(c.route.retries) && c.route.retryOn&on != 0 && replayable(&c.x.Request)
}

// mayReplayAnswer reports the same of an answer that speaks against the
// endpoint. A gRPC request, always a POST, is sent again only where the status
// says that it came to nothing (proposal A6 of the gRPC project).
func (c *call) mayReplayAnswer() bool {
	if c.counted >= int(c.route.retries) {
		return false
	}
	if c.unavailable() {
		return c.route.retryOn&RetryUnavailable != 0 && atHand(&c.x.Request)
	}
	return c.route.retryOn&RetryGatewayError != 0 && replayable(&c.x.Request)
}

// failed reports whether the answer speaks against the endpoint.
func (c *call) failed() bool { return gatewayFailed(c.x.Response.Status) || c.unavailable() }

// reload takes the newest plan, because the endpoint that was picked is gone.
func (c *call) reload(g *Gateway) {
	s := g.routing.Load().services[c.route.service.name]
	if s == nil {
		return
	}
	c.plan = s.current.Load()
	c.decision = c.plan.Decide(route.Ask{Tag: c.tag, TagCounts: c.counts})
	c.hashed = c.hashed && c.plan.rings != nil // the service may be balanced another way by now
}

// gatewayFailed reports whether a status says that the endpoint itself, or what
// is behind it, is not there.
func gatewayFailed(status int) bool { return status >= 502 && status <= 504 }

// replayable reports whether the request can be sent once more after a part of
// it was sent: its method is idempotent (RFC 9110, section 9.2.2) and its body
// is at hand.
func replayable(req *exchange.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return atHand(req)
	default:
		return false
	}
}

// atHand reports whether the request's body, if it has one, can be sent again.
func atHand(req *exchange.Request) bool {
	if req.Body == nil {
		return true
	}
	_, all := req.Body.Buffered()
	return all
}
