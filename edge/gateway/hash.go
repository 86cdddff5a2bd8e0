package gateway

import (
	"strings"

	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/route"
)

// takeHash hashes the first of the keys that the request has.
func (c *call) takeHash() {
	c.hashed = false
	if c.plan.rings == nil {
		return
	}
	keys := c.plan.hash
	if c.route.seldom && c.route.config.Hash != nil {
		keys = c.route.config.Hash
	}
	for i := range keys {
		if value := c.keyValue(&keys[i]); value != "" {
			c.hash, c.hashed = balance.HashKey(value), true
			return
		}
	}
}

func (c *call) keyValue(key *HashKey) string {
	header := &c.x.Request.Header
	switch key.Source {
	case HashHeader:
		value, _ := header.GetName(key.Name)
		return value
	case HashCookie:
		return cookie(header, key.Name)
	case HashQuery:
		return parameter(c.x.Request.Query, key.Name)
	case HashClientIP:
		return c.client
	case HashUnknown:
	}
	return ""
}

// cookie returns the value of the first cookie of that name (RFC 6265, section
// 4.2.1; HTTP/2 may split the field, RFC 9113, section 8.2.3).
func cookie(header *exchange.Fields, name string) string {
	for _, field := range header.All() {
		if field.ID != exchange.FieldCookie {
			continue
		}
		for pair := range strings.SplitSeq(field.Value, ";") {
			if found, value, ok := strings.Cut(pair, "="); ok && strings.Trim(found, " \t") == name {
				return strings.TrimRight(value, " \t")
			}
		}
	}
	return ""
}

// parameter returns the value of the first parameter of that name, as written.
func parameter(query, name string) string {
	for pair := range strings.SplitSeq(query, "&") {
		if found, value, ok := strings.Cut(pair, "="); ok && found == name {
			return value
		}
	}
	return ""
}

// hashGroup is what the hashing of a group keeps from one plan to the next.
type hashGroup struct {
	ring        *balance.Ring
	adjuster    *balance.Adjuster
	corrections balance.Corrections
}

// adjustTicks is after how many ticks, of a second each, weights are corrected.
const adjustTicks = 10

// ring makes the ring of a group. Held under mu.
func (s *service) ring(subset string, group *route.Group, policy *Policy) *balance.Ring {
	if s.hashing == nil {
		s.hashing = make(map[string]*hashGroup)
	}
	key := subset + "/" + group.Zone
	h := s.hashing[key]
	if h == nil {
		h = &hashGroup{adjuster: balance.NewAdjuster()}
		s.hashing[key] = h
	}
	h.ring = balance.NewRing(group.Endpoints, balance.RingOptions{
		Bound: policy.LoadBound, Corrections: h.corrections, Previous: h.ring,
	})
	return h.ring
}

// adjust compares what the endpoints of a service got with their weights, and
// reports whether rings have to be made anew. Held under mu.
func (s *service) adjust() (changed bool) {
	current := s.current.Load()
	for _, h := range s.hashing {
		inUse := false
		for _, ring := range current.rings {
			inUse = inUse || ring == h.ring
		}
		if !inUse {
			continue
		}
		if corrections, moved := h.adjuster.Adjust(h.ring.Sample()); moved {
			h.corrections, changed = corrections, true
		}
	}
	return changed
}
