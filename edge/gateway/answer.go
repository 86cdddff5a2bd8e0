package gateway

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/observe"
)

// refusal is an answer of the edge's own.
type refusal struct {
	status int
	// reason is for programs; empty: that of the release decision.
	reason string
	detail string // for people
}

// The edge's own answers.
var (
	refusePath    = refusal{400, "malformed-path", "the path has no single meaning"}
	refuseRewrite = refusal{400, "malformed-rewrite", "the path has no normal form behind the rewrite of its route"}
	refuseTag     = refusal{400, "malformed-tag", "x-release-tag is repeated or not 1 to 128 of a-z A-Z 0-9 . _ -, beginning with a letter or digit"}
	refuseNoRoute = refusal{404, "no-route", "no route takes this request"}
	refuseMethod  = refusal{405, "method-not-allowed", "routes take this path, but not with this method"}
	refuseRate    = refusal{429, "rate-limited", "the rate limit of the route is reached"}

	refuseUnusable = refusal{503, "", "no endpoint that may answer this request is usable"}
	refuseClosing  = refusal{503, "interrupted", "the gateway gave the request up"}
	refuseBusy     = refusal{503, "connection-limit", "the connection limit to the endpoints is reached"}
	refuseConnect  = refusal{502, "connect-failed", "no endpoint could be reached"}
	refuseBroken   = refusal{502, "upstream-failed", "the endpoint broke off, or its answer was malformed"}
	refuseTimeout  = refusal{504, "upstream-timeout", "the endpoint did not answer in time"}

	refusePanic = refusal{500, "gateway-failed", "the gateway failed over this request"}

	refuseBody = refusal{400, "malformed-body", "the body is malformed or incomplete"}
	refuseSlow = refusal{408, "body-timeout", "the body did not arrive in time"}
	// refuseGone is seen by nobody but the access log: nginx's number.
	refuseGone = refusal{499, "client-gone", "the client went away"}
)

// retryIn is what Retry-After says where nothing knows better: plans are made
// again as soon as something changes.
const retryIn = time.Second

// unusable answers a request that got no endpoint at all.
func (c *call) unusable() *refusal {
	c.retryAfter = retryIn
	return &refuseUnusable
}

// conclude ends the attempts: with the answer that is there, or with what the
// last failure amounts to.
func (c *call) conclude(failure *exchange.Error) *refusal {
	switch {
	case failure == nil:
		return nil
	case errors.Is(failure.Err, exchange.ErrClientGone):
		return &refuseGone
	case errors.Is(failure.Err, errNotProcessed) && !failure.Wrote:
		// To the client that is the same as no endpoint.
		c.at = candidate{}
		return c.unusable()
	case failure.Fault == exchange.FaultClient:
		if failure.Status == 408 || failure.Timeout {
			return &refuseSlow
		}
		return &refuseBody
	case failure.Timeout:
		return &refuseTimeout
	case failure.Fault == exchange.FaultUpstream && failure.Phase == exchange.PhaseConnect:
		return &refuseConnect
	case failure.Fault == exchange.FaultUpstream:
		return &refuseBroken
	}
	c.retryAfter = retryIn
	if errors.Is(failure.Err, exchange.ErrPoolExhausted) {
		return &refuseBusy
	}
	return &refuseClosing
}

// refuse answers with a problem document (RFC 9457).
func (c *call) refuse(r *refusal) {
	x := c.x
	c.refused = r
	x.Response.Reset()
	if c.grpc {
		c.refuseGRPC(r)
		c.decorate()
		return
	}
	x.Response.Status = r.status
	h := &x.Response.Header
	h.Append(exchange.Field{Name: "Content-Type", Value: "application/problem+json", ID: exchange.FieldContentType})
	h.Append(exchange.Field{Name: "X-Request-ID", Value: c.id, ID: exchange.FieldXRequestID})
	if c.retryAfter > 0 {
		// Whole seconds, rounded up: a client that comes back too early is
		// refused again.
		seconds := int64((c.retryAfter + time.Second - 1) / time.Second)
		h.Append(exchange.Field{Name: "Retry-After", Value: strconv.FormatInt(seconds, 10), ID: exchange.FieldRetryAfter})
	}
	if c.allow != "" {
		h.Add("Allow", c.allow)
	}
	b := append(c.problem[:0], `{"type":"about:blank","title":"`...)
	b = append(b, title(r.status)...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, `,"detail":"`...)
	b = append(b, r.detail...)
	b = append(b, `","reason":"`...)
	b = append(b, cmp.Or(r.reason, c.reason())...)
	c.problem = append(b, "\"}\n"...)
	c.body.Set(c.problem)
	x.Response.ContentLength = int64(len(c.problem))
	if x.Request.Method != http.MethodHead {
		x.Response.Body = &c.body
	}
	// The rest of a body that is not wanted, or not understood, is not waited
	// for.
	x.Response.CloseConnection = c.failure != nil && c.failure.Fault == exchange.FaultClient
	c.decorate()
}

func title(status int) string {
	if status == refuseGone.status {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// decorate adds to an answer, whoever gave it, what is the edge's to say.
func (c *call) decorate() {
	c.rewriteResponse()
	h := &c.x.Response.Header
	if len(c.remaining) > 0 {
		h.Set(exchange.FieldRateLimitRemaining, view(c.remaining))
	}
	if c.explain && c.route != nil && c.route.explain && c.plan != nil {
		h.Set(exchange.FieldXGrayDecision, c.explanation())
	}
}

// explanation is the value of x-gray-decision.
func (c *call) explanation() string {
	text := "rung=" + c.at.rung.String() + "; reason=" + c.reason()
	if c.decision.Release != "" {
		text += "; release=" + c.decision.Release
	}
	if e := c.at.endpoint; e != nil {
		text += "; zone=" + e.Zone + "; instance=" + e.ID
	}
	if q := c.at.pass.peer; q != nil {
		text += "; through=" + q.edge.ID
	}
	return text
}

func (c *call) setRemaining(n int) {
	c.remaining = strconv.AppendInt(c.remainingBuf[:0], int64(n), 10)
}

// log writes the request's line of the access log. Log copies what it is given.
func (c *call) log(out *observe.AccessLog, took time.Duration, failure *exchange.Error) {
	x := c.x
	if failure == nil {
		failure = c.failure
	}
	host, path := c.asked()
	r := observe.Record{
		Time: x.Start, ID: c.id, Remote: x.Conn.Remote, ClientIP: c.client,
		Method: x.Request.Method, Scheme: x.Request.Scheme, Host: host,
		Path: path, Query: x.Request.Query, Proto: x.Request.Proto.String(),
		Subset: c.subset(), Rung: c.at.rung.String(), Reason: c.reason(), Release: c.decision.Release,
		Status: c.status(), RequestBytes: x.RequestBytes, ResponseBytes: x.ResponseBytes,
		Duration: took, UpstreamDuration: c.headTook, Retries: c.retries, GRPCStatus: c.grpcEnd(),
	}
	if c.route != nil {
		r.Route, r.Service = c.route.config.ID, c.route.config.Service
	}
	if e := c.at.endpoint; e != nil {
		r.Upstream, r.UpstreamAddr, r.Zone = e.ID, e.Address, e.Zone
	}
	if q := c.at.pass.peer; q != nil {
		r.Through = q.edge.ID
	}
	r.From = c.from
	if failure != nil {
		r.Error, r.Phase, r.Fault = failure.Err.Error(), failure.Phase.String(), failure.Fault.String()
	}
	for _, field := range x.Request.Header.All() {
		switch field.ID {
		case exchange.FieldTraceparent:
			r.TraceID = traceID(field.Value)
		case exchange.FieldOther:
			if exchange.EqualFold(field.Name, "User-Agent") {
				r.UserAgent = field.Value
			}
		default:
		}
	}
	out.Log(&r)
}

// traceID is the trace-id of a traceparent (W3C Trace Context, section 3.2).
func traceID(traceparent string) string {
	const at, length = len("00-"), 32
	if len(traceparent) < at+length+1 || traceparent[at-1] != '-' || traceparent[at+length] != '-' {
		return ""
	}
	return traceparent[at : at+length]
}
