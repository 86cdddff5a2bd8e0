package config

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/federation"
)

// warn notes something legal that was probably not meant.
func (s *draft) warn(d *decoder, n *yaml.Node, field, found, better string) {
	s.warnings.add(Problem{File: d.file, Line: n.Line, Column: n.Column, Field: field, Found: found, Allowed: better})
}

// bindUpstreams decides what each route's upstream is: a name is a service, a
// URL whose host is a declared service is that service whatever its port, any
// other URL is resolved by DNS.
func (s *draft) bindUpstreams(services map[string]*declared[service]) {
	scheme := make(map[string]bool) // TLS by DNS name and port
	for i := range s.routes {
		x := &s.routes[i]
		upstream := &x.value.Upstream
		if upstream.Kind == UpstreamUnknown {
			continue
		}
		field := join(x.prefix, "upstream")
		if upstream.Kind == UpstreamDNS {
			if services[upstream.Host] == nil {
				x.value.Service = upstream.serviceName()
				if tls, seen := scheme[x.value.Service]; seen && tls != upstream.TLS {
					x.problemAt("upstream", federation.Quote(upstream.Text), "the scheme that other routes name with this host and port")
				}
				scheme[x.value.Service] = upstream.TLS
				continue
			}
			*upstream = UpstreamRef{Kind: UpstreamService, Text: upstream.Text, Host: upstream.Host}
			x.value.Service, upstream.Host = upstream.Host, ""
			continue
		}
		x.value.Service = upstream.Text
		if services[upstream.Text] == nil {
			s.warn(x.d, x.d.nearest(field), field, "service "+federation.Quote(upstream.Text)+", which no document declares",
				"a Service document of that name, or a URL")
		}
	}
}

// checkReleases refuses a release over a service without a baseline: nobody
// could say what untagged requests are to get.
func (s *draft) checkReleases(services map[string]*declared[service]) {
	for i := range s.releases {
		x := &s.releases[i]
		for _, name := range slices.Sorted(maps.Keys(x.value.Services)) {
			switch holder := services[name]; {
			case !federation.ValidName(name): // refused where it was read
			case holder == nil:
				x.problemAt("services."+name, "service "+federation.Quote(name)+", which no document declares",
					"services with a Service document that has a baseline")
			case holder.value.facts.Baseline == nil:
				x.problemAt("services."+name, fmt.Sprintf("service %s without a baseline (%s:%d)", federation.Quote(name), holder.d.file, holder.at.Line),
					"services with a Service document that has a baseline")
			}
		}
	}
}

// maxSelectors bounds the comparing of selectors of one service.
const maxSelectors = 200

// warnSelectors notes pairs of selectors of one service that an instance could
// match both of: it would serve two releases, or a release and the baseline.
func (s *draft) warnSelectors(services map[string]*declared[service]) {
	type named struct {
		release  *declared[*federation.Release]
		selector federation.Selector
	}
	selectors := make(map[string][]named)
	for i := range s.releases {
		for name, selector := range s.releases[i].value.Services {
			selectors[name] = append(selectors[name], named{&s.releases[i], selector})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(selectors)) {
		list := selectors[name]
		list = list[:min(len(list), maxSelectors)]
		for i, a := range list {
			field := join(a.release.prefix, "services."+name)
			at := a.release.d.nearest(field)
			if holder := services[name]; holder != nil && holder.value.facts.Baseline != nil && overlap(*holder.value.facts.Baseline, a.selector) {
				s.warn(a.release.d, at, field, "a selector that overlaps the baseline", "selectors that no instance matches twice")
			}
			for _, b := range list[:i] {
				if overlap(a.selector, b.selector) {
					s.warn(a.release.d, at, field, "a selector that overlaps that of release "+federation.Quote(b.release.name),
						"selectors that no instance matches twice")
				}
			}
		}
	}
}

// overlap reports whether an instance could match both.
func overlap(a, b federation.Selector) bool {
	if a.Version != "" && b.Version != "" && a.Version != b.Version {
		return false
	}
	for name, value := range a.Tags {
		if other, both := b.Tags[name]; both && other != value {
			return false
		}
	}
	return true
}

// warnShadowed notes routes that match the very same requests as another one
// with the same priority: the one with the smaller id gets them all.
func (s *draft) warnShadowed() {
	first := make(map[string]*declared[Route])
	for i := range s.routes {
		x := &s.routes[i]
		key := x.value.matchKey()
		other, taken := first[key]
		if !taken {
			first[key] = x
			continue
		}
		hidden, winner := x, other
		if x.name < other.name {
			hidden, winner = other, x
			first[key] = x
		}
		if x.name != other.name {
			s.warn(hidden.d, hidden.at, hidden.field, fmt.Sprintf("a route that never matches: %s (%s:%d) matches the same requests",
				federation.Quote(winner.name), winner.d.file, winner.at.Line), "another priority or other matchers")
		}
	}
}
