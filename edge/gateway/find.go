package gateway

import (
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
)

// find brings the path into its one form and looks for the route. What is
// matched is what is forwarded.
func (r *routing) find(c *call) *refusal {
	req := &c.x.Request
	path, buf, err := route.NormalisePath(c.path, req.Path)
	c.path = buf
	if err != nil {
		return &refusePath
	}
	req.Path = path
	c.input = route.Input{Method: req.Method, Host: hostOf(req.Authority), Path: req.Path, Query: req.Query, Header: c.header}
	index, allow, result := r.table.Match(&c.input)
	switch result {
	case route.Matched:
		c.route = &r.routes[index]
		return nil
	case route.MethodNotAllowed:
		c.allow = r.table.Allow(allow)
		return &refuseMethod
	default:
		return &refuseNoRoute
	}
}

// hostOf is an authority without its port.
func hostOf(authority string) string {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.IndexByte(authority[colon:], ']') >= 0 {
		return authority
	}
	return authority[:colon]
}

// takeTag reads the release tag. One that the route does not admit does not
// count and goes no further; any other goes on downstream, so that the lane
// continues behind a service that the release does not cover.
func (c *call) takeTag() *refusal {
	if c.tags == 0 {
		return nil
	}
	if c.tags > 1 || !route.ValidTag(c.tagField) {
		return &refuseTag
	}
	c.tag = c.tagField
	c.counts = c.route.tags == route.TagsAny || c.route.tags == route.TagsTrusted && c.trusted
	if !c.counts {
		c.x.Request.Header.Del(exchange.FieldXReleaseTag)
	}
	return nil
}
