package config

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// Defaults and bounds of a route.
const (
	DefaultTotalTimeout = 3 * time.Second
	DefaultIdleTimeout  = time.Minute
	DefaultRetries      = 1
	MaxRetries          = 5
)

// routeNotYet are keys of a route whose policy is not built yet.
var routeNotYet = [...]string{
	"auth", "transcode",
	"mirror", "cors", "compression", "cache", "cohort", "fault",
}

// decodeRoute reads the fields that a bare route and the spec of a Route
// document share.
func decodeRoute(o *object, r *Route) {
	o.text("host", &r.Host)
	o.text("path", &r.Path)
	o.texts("methods", &r.Methods, route.MaxMethods)
	r.Headers = o.matches("headers")
	r.Query = o.matches("query")
	o.integer("priority", &r.Priority, -route.MaxPriority, route.MaxPriority)
	o.require("upstream", upstreamRule)
	o.text("upstream", &r.Upstream.Text)
	tags := route.TagsAny.String()
	o.choice("tags", &tags, route.TagsAny.String(), route.TagsTrusted.String())
	if tags == route.TagsTrusted.String() {
		r.Tags = route.TagsTrusted
	}
	o.flag("explain", &r.Explain)
	o.below("rate_limit", func(o *object) {
		r.RateLimit = &ratelimit.Options{}
		o.require("rpm", fmt.Sprintf("a whole number, 1 to %d", ratelimit.MaxRPM))
		o.integer("rpm", &r.RateLimit.RPM, 1, ratelimit.MaxRPM)
		o.integer("burst", &r.RateLimit.Burst, 1, ratelimit.MaxBurst)
		o.end("key", "shared")
	})
	decodeTimeouts(o, &r.Timeouts)
	decodeRetries(o, &r.Retries)
	decodeHash(o, &r.Hash)
	decodeRewrite(o, &r.Rewrite)
	o.end(routeNotYet[:]...)
}

// matches reads header or query matchers: a list of {name, exact | regex |
// present}, or a mapping from name to an exact value or to {exact | regex |
// present}.
func (o *object) matches(name string) []route.Match {
	n := o.get(name)
	if n == nil {
		return nil
	}
	if n.Kind == yaml.MappingNode {
		return o.matchMapping(name, n)
	}
	var list []route.Match
	for i, item := range o.items(name, route.MaxMatchers) {
		var m route.Match
		if inner, ok := o.d.object(item, o.item(name, i)); ok {
			inner.require("name", "a name")
			inner.text("name", &m.Name)
			inner.condition(&m)
		}
		list = append(list, m)
	}
	return list
}

func (o *object) matchMapping(name string, n *yaml.Node) []route.Match {
	inner, ok := o.d.object(n, o.path(name))
	if !ok {
		return nil
	}
	var list []route.Match
	for i, key := range inner.order {
		m := route.Match{Name: key}
		value := resolve(inner.values[key])
		// What Route.Validate finds in item i belongs here.
		o.d.nodes[o.item(name, i)] = value
		if value.Kind == yaml.MappingNode {
			if condition, ok := o.d.object(value, inner.path(key)); ok {
				condition.condition(&m)
			}
		} else if !o.d.text(value, inner.path(key), &m.Exact) {
			o.d.refused[o.item(name, i)] = true
		}
		list = append(list, m)
	}
	return list
}

func (o *object) condition(m *route.Match) {
	o.text("exact", &m.Exact)
	o.text("regex", &m.Regex)
	if n := o.get("present"); n != nil {
		present := false
		o.d.flag(n, o.path("present"), &present)
		m.Present = &present
	}
	o.end("prefix", "suffix", "contains", "not")
}

const upstreamRule = "a service's name, or http://host:port or https://host:port without a path"

// parseUpstream reads an upstream: a name, or an origin.
func parseUpstream(text string) (UpstreamRef, bool) {
	ref := UpstreamRef{Text: text}
	if federation.ValidName(text) {
		ref.Kind = UpstreamService
		return ref, true
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return ref, false
	}
	ref.Kind, ref.TLS = UpstreamDNS, u.Scheme == "https"
	ref.Host, ref.Port = strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), 80
	if ref.TLS {
		ref.Port = 443
	}
	if port := u.Port(); port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return ref, false
		}
		ref.Port = uint16(number)
	} else if strings.HasSuffix(u.Host, ":") {
		return ref, false
	}
	return ref, validHost(ref.Host)
}

// validHost takes an IP address without a scope, or a DNS name.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	if len(host) == 0 || len(host) > 253 || strings.Trim(host, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// serviceName is host:port, IPv6 addresses in brackets.
func (u *UpstreamRef) serviceName() string {
	host := u.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(u.Port))
}

// decodeService reads the spec of a Service document.
func decodeService(o *object, s *federation.Service, policy *ServicePolicy) {
	o.below("baseline", func(o *object) {
		s.Baseline = &federation.Selector{}
		decodeSelector(o, s.Baseline)
	})
	o.below("zone_capacity", func(o *object) {
		s.ZoneCapacity = make(map[string]int, len(o.order))
		for _, zone := range o.order {
			if !federation.ValidName(zone) {
				o.d.problem(o.keys[zone], o.path(zone), "zone "+federation.Quote(zone), nameRule)
			}
			capacity := 0
			o.integer(zone, &capacity, 1, math.MaxInt32)
			s.ZoneCapacity[zone] = capacity
		}
	})
	o.text("health_path", &s.HealthPath)
	o.choice("probe", &s.Probe, "http", "grpc", "connect")
	if s.Probe == "http" {
		s.Probe = "" // said or not, it is the same
	}
	decodeBalance(o, policy)
	decodeLimits(o, policy)
	decodeBreaker(o, policy)
	decodeTimeouts(o, &policy.Timeouts)
	policy.Timeouts = policy.Timeouts.or(defaultTimeouts())
	o.end("health", "tls", "ejection", "auth", "slow_start")
}

// decodeRelease reads the spec of a Release document.
func decodeRelease(o *object, r *federation.Release) {
	r.Fallback = federation.Strict
	r.Services = make(map[string]federation.Selector)
	o.require("services", "a mapping from service to selector")
	o.below("services", func(o *object) {
		if len(o.order) == 0 {
			o.d.problem(o.node, o.field, "no service", "at least one")
		}
		for _, service := range o.order {
			if !federation.ValidName(service) {
				o.d.problem(o.keys[service], o.path(service), "service "+federation.Quote(service), nameRule)
			}
			var selector federation.Selector
			o.require(service, "a selector: version, tags")
			o.below(service, func(o *object) { decodeSelector(o, &selector) })
			if selector.Version == "" && len(selector.Tags) == 0 && !o.d.refused[o.path(service)] {
				o.d.problem(o.keys[service], o.path(service), "a selector that selects every instance", "a version or tags")
			}
			r.Services[service] = selector
		}
	})
	fallback := string(r.Fallback)
	o.choice("fallback", &fallback, string(federation.Strict), string(federation.Permissive))
	r.Fallback = federation.Fallback(fallback)
	o.flag("paused", &r.Paused)
	o.end("cohort", "cohorts", "users", "weight", "percent", "schedule", "hash")
}

// decodeSelector reads {version, tags}, bounded as what it selects is.
func decodeSelector(o *object, s *federation.Selector) {
	o.text("version", &s.Version)
	if s.Version != "" && !federation.ValidName(s.Version) {
		o.d.wrong(o.get("version"), o.path("version"), nameRule)
	}
	o.below("tags", func(o *object) {
		if len(o.order) > federation.MaxTags {
			o.d.problem(o.node, o.field, fmt.Sprintf("%d tags", len(o.order)), fmt.Sprintf("at most %d", federation.MaxTags))
			return
		}
		s.Tags = make(map[string]string, len(o.order))
		for _, tag := range o.order {
			if !federation.ValidName(tag) || len(tag) > federation.MaxTagName {
				o.d.problem(o.keys[tag], o.path(tag), "tag "+federation.Quote(tag), "1 to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit")
			}
			var value string
			o.require(tag, "text")
			o.text(tag, &value)
			if len(value) > federation.MaxTagValue {
				o.d.wrong(o.get(tag), o.path(tag), fmt.Sprintf("at most %d bytes", federation.MaxTagValue))
			}
			s.Tags[tag] = value
		}
	})
	o.end()
}
