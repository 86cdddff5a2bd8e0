package gateway

import (
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
)

// maxRewriteText is how much memory for rewritten text an idle exchange may
// hold on to.
const maxRewriteText = 4 << 10

// rewriting is what a request's rewrites leave behind.
type rewriting struct {
	// askedHost and askedPath are what the client asked for, the path in its
	// normal form, once the request may bear others.
	askedHost, askedPath string
	// text is what has been put together; fields are views of it, so that it
	// only grows until the request is done.
	text []byte
}

var _ rewrite.Values = (*call)(nil)

// rewriter is that of the request's route, nil for none.
func (c *call) rewriter() *rewrite.Rewriter {
	if !c.route.seldom {
		return nil
	}
	return c.route.config.rewriter
}

// rewritePath gives the request the path and the fixed host that the upstream
// is to see.
func (c *call) rewritePath() *refusal {
	w := c.rewriter()
	if w == nil {
		return nil
	}
	req := &c.x.Request
	c.askedHost, c.askedPath = req.Authority, req.Path
	var err error
	if req.Path, c.text, err = w.Path(c.text, req.Path); err != nil {
		req.Path = c.askedPath
		return &refuseRewrite
	}
	if w.Host != rewrite.HostKeep && w.Host != rewrite.HostUpstream {
		req.Authority = string(w.Host)
	}
	return nil
}

// rewriteHost gives the request the host of the endpoint that is tried.
func (c *call) rewriteHost(address string) {
	if w := c.rewriter(); w != nil && w.Host == rewrite.HostUpstream {
		c.x.Request.Authority = address
	}
}

// rewriteRequest changes the request's fields, once for all attempts: what it
// is decided on is known, and the edge's own fields are there.
func (c *call) rewriteRequest() {
	w := c.rewriter()
	if w == nil {
		return
	}
	h := &c.x.Request.Header
	for i := range w.Request {
		change := &w.Request[i]
		if change.Action != rewrite.ActionAdd {
			h.DelLike(change.Name)
		}
		c.put(h, change)
	}
}

// rewriteResponse changes the fields of an answer, whoever gave it.
func (c *call) rewriteResponse() {
	if c.route == nil {
		return
	}
	w := c.rewriter()
	if w == nil {
		return
	}
	h := &c.x.Response.Header
	for i := range w.Response {
		change := &w.Response[i]
		if change.Action != rewrite.ActionAdd {
			h.DelName(change.Name)
		}
		c.put(h, change)
	}
}

// put appends the field of a change, unless its value came out empty or cannot
// stand in a header.
func (c *call) put(h *exchange.Fields, change *rewrite.Change) {
	value, constant := change.Value.Constant()
	if !constant {
		start := len(c.text)
		c.text = change.Value.Append(c.text, c)
		if !rewrite.Safe(c.text[start:]) {
			return
		}
		value = view(c.text[start:])
	}
	if value != "" {
		h.Add(change.Name, value)
	}
}

// Value implements [rewrite.Values].
func (c *call) Value(v rewrite.Variable) string {
	switch v {
	case rewrite.VariableRequestID:
		return c.id
	case rewrite.VariableClientIP:
		return c.client
	case rewrite.VariableMethod:
		return c.x.Request.Method
	case rewrite.VariableScheme:
		return c.x.Request.Scheme
	case rewrite.VariableHost:
		return c.input.Host
	case rewrite.VariablePath:
		return c.input.Path
	case rewrite.VariableRoute:
		return c.route.config.ID
	case rewrite.VariableService:
		return c.route.config.Service
	case rewrite.VariableRelease:
		return c.decision.Release
	case rewrite.VariableZone:
		return c.g.opts.Topology.Zone
	case rewrite.VariableEdge:
		return c.g.opts.Edge
	case rewrite.VariableInstance:
		if e := c.at.endpoint; e != nil {
			return e.ID
		}
	case rewrite.VariableInstanceZone:
		if e := c.at.endpoint; e != nil {
			return e.Zone
		}
	default:
	}
	return ""
}

// asked is the host and path that the client asked for.
func (c *call) asked() (host, path string) {
	if c.askedPath != "" {
		return c.askedHost, c.askedPath
	}
	return c.x.Request.Authority, c.x.Request.Path
}

// endRewriting forgets the request.
func (c *call) endRewriting() {
	c.askedHost, c.askedPath = "", ""
	if c.text = c.text[:0]; cap(c.text) > maxRewriteText {
		c.text = nil
	}
}
