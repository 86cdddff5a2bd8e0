package gateway

import (
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// timing is how long a request may take.
type timing struct {
	// until is when no further attempt is made, and what bounds an exchange
	// that is no stream; zero: nothing does.
	until time.Time
	// hard is when a gRPC client's own timeout ends the exchange, whatever it
	// is; zero: it has none.
	hard time.Time
}

// silence is how long a stream may be silent on routes without an idle timeout.
const silence = 24 * time.Hour

// setTiming bounds the request as its route says.
//
// The route's total ends with the answer's last byte. What may last is bounded
// by idle instead, from the answer's head on: a tunnel (WebSocket), and a body
// of unknown length that is text/event-stream or gRPC's. (Envoy: the route's
// timeout does not apply to upgrades, and has to be switched off by hand for the
// other two.)
//
// A gRPC request may be a stream itself, so that its head, per-try and total
// timeouts begin when it has been sent completely (as Envoy's route timeout
// does for every request), and end at the answer's head; and its client may be
// silent for the idle time. A grpc-timeout of the client bounds the whole.
func (c *call) setTiming() *refusal {
	x, r := c.x, c.route
	x.Timeouts = r.timeouts
	c.timing = timing{}
	if r.total > 0 {
		c.until = x.Start.Add(r.total)
	}
	if !c.grpc {
		return nil
	}
	timeout, ok := grpcTimeout(&x.Request.Header)
	if !ok {
		return &refuseGRPCTimeout
	}
	if timeout > 0 {
		c.hard = x.Start.Add(timeout)
		c.until = soonest(c.until, c.hard)
	}
	for _, bound := range [...]time.Duration{r.config.PerTry, r.total} {
		if bound > 0 && (x.Timeouts.Head == 0 || bound < x.Timeouts.Head) {
			x.Timeouts.Head = bound
		}
	}
	if x.Timeouts.Body = r.timeouts.Idle; x.Timeouts.Body == 0 {
		x.Timeouts.Body = silence
	}
	return nil
}

// soonest is the earlier of two times, where zero is never.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// startAttempt sets the deadline of an attempt.
func (c *call) startAttempt() {
	x := c.x
	if c.grpc {
		if x.Deadline = c.hard; !c.hard.IsZero() && (c.retries > 0 || c.queued) {
			c.renewTimeout()
		}
		return
	}
	x.Deadline = c.until
	if c.route.seldom && c.route.config.PerTry > 0 {
		x.Deadline = soonest(c.until, time.Now().Add(c.route.config.PerTry))
	}
}

// headCame sets what bounds the rest of an answer whose head is there.
func (c *call) headCame(e *endpoint) {
	x := c.x
	deadline := c.until
	switch lasts := isStream(&x.Response); {
	case lasts, x.Response.Tunnel != nil:
		c.lasts.Store(e)
		deadline = c.hard
	case c.grpc:
		deadline = c.hard
	}
	if !deadline.Equal(x.Deadline) {
		x.Deadline = deadline
		if body, ok := x.Response.Body.(exchange.Prolonger); ok {
			body.SetDeadline(deadline)
		}
	}
}

// isStream reports whether an answer lasts as long as it has something to say.
// One that may be followed by another attempt does not.
func isStream(resp *exchange.Response) bool {
	if resp.ContentLength >= 0 || resp.Body == nil || gatewayFailed(resp.Status) {
		return false
	}
	contentType, _ := resp.Header.Get(exchange.FieldContentType)
	return isGRPC(contentType) || isEventStream(contentType)
}

func isEventStream(contentType string) bool {
	const name = "text/event-stream"
	if len(contentType) < len(name) || !exchange.EqualFold(contentType[:len(name)], name) {
		return false
	}
	rest := contentType[len(name):]
	return rest == "" || rest[0] == ';' || rest[0] == ' '
}

// late reports whether the time for all attempts is over.
func (c *call) late() bool { return !c.until.IsZero() && !time.Now().Before(c.until) }

// overdue reports whether the time that a gRPC client gave is over: what fails
// after that speaks against no endpoint.
func (c *call) overdue(now time.Time) bool { return !c.hard.IsZero() && !now.Before(c.hard) }
