package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/grayfed/grayfed/edge/exchange"
)

var errPanic = errors.New("the gateway panicked")

// survive is deferred where a request is decided on. All edges share one
// configuration and get the same clients: a mistake in these decisions that
// ended the process would end it in every zone at once. So it costs the one
// request, which is answered with 500, its places are given back as usual, and
// the log has the stack. (net/http recovers as well; Envoy dies.)
//
// What panics in a transport still ends the process: it may be at work with
// buffers that are about to be another client's.
func (c *call) survive() {
	if c.sending {
		return
	}
	cause := recover()
	if cause == nil {
		return
	}
	c.g.panicked(cause, c)
	x := c.x
	if x.Response.Body != nil {
		_ = x.Response.Body.Close() // it is given up
	}
	if x.Response.Tunnel != nil {
		_ = x.Response.Tunnel.Close() // as above
	}
	x.Response.Reset()
	x.Response.Status, x.Response.CloseConnection = 500, true
	c.refused = &refusePanic
	c.failure = &exchange.Error{Phase: exchange.PhaseUnknown, Fault: exchange.FaultGateway, Err: errPanic}
	if c.series == nil {
		c.series = &c.g.routing.Load().unrouted
	}
	if c.decision.Lane == nil {
		c.plan = nil
	}
}

// surviveDone is deferred where a request is accounted for. What that left
// behind is not used again.
func (c *call) surviveDone() {
	if cause := recover(); cause != nil {
		c.g.panicked(cause, c)
		c.x.State = nil
	}
}

func (g *Gateway) panicked(cause any, c *call) {
	g.metrics.panics.Inc()
	route := ""
	if c.route != nil {
		route = c.route.config.ID
	}
	g.opts.Log.Error("gateway panicked over a request", "panic", fmt.Sprint(cause), "request_id", c.id, "route", route, "stack", string(debug.Stack()))
}
