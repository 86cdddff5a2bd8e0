package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// decodeRewrite reads what a route changes on the way:
//
//	rewrite:
//	  strip_prefix: /api                      # or one of the next two
//	  replace_prefix: { from: /api, to: /v1 }
//	  regex: { from: "/users/([0-9]+)", to: /people/$1 }
//	  host: keep                              # or upstream, or a name[:port]
//	request_headers:                          # and response_headers
//	  set: { X-Route: "${route}" }
//	  add: { X-Seen-By: "${edge}" }
//	  remove: [X-Internal]
//
// [rewrite.Rule] says what each means. The variables of both directions are
// request_id, client_ip, method, scheme, host, path, route, service, release,
// zone and edge; those of responses alone are instance and instance_zone.
func decodeRewrite(o *object, r *rewrite.Rule) {
	o.below("rewrite", func(o *object) {
		o.text("strip_prefix", &r.Path.StripPrefix)
		if n := o.get("strip_prefix"); n != nil && r.Path.StripPrefix == "" {
			o.d.wrong(n, o.path("strip_prefix"), "a prefix, like /api")
		}
		replacement := func(name, from string, into **rewrite.Replacement) {
			o.below(name, func(o *object) {
				*into = &rewrite.Replacement{}
				o.require("from", from)
				o.text("from", &(*into).From)
				o.require("to", "a path")
				o.text("to", &(*into).To)
				o.end()
			})
		}
		replacement("replace_prefix", "a prefix, like /api", &r.Path.ReplacePrefix)
		replacement("regex", "an RE2 expression that matches the whole path", &r.Path.Regex)
		host := r.Host.String()
		o.text("host", &host)
		r.Host = rewrite.ParseHost(host)
		if n := o.get("host"); n != nil && host == "" {
			o.d.wrong(n, o.path("host"), "keep, upstream, or a name with optional port")
		}
		o.end("query", "method", "scheme")
	})
	headers := func(name string, into *rewrite.Headers) {
		o.below(name, func(o *object) {
			into.Set = o.headers("set")
			into.Add = o.headers("add")
			o.texts("remove", &into.Remove, rewrite.MaxHeaders)
			o.end()
		})
	}
	headers("request_headers", &r.Request)
	headers("response_headers", &r.Response)
}

// headers reads a mapping from names to values, in order of writing.
func (o *object) headers(name string) []rewrite.Header {
	var list []rewrite.Header
	o.below(name, func(o *object) {
		for _, key := range o.order {
			header := rewrite.Header{Name: key}
			o.require(key, "text, in which ${name} is a variable")
			o.text(key, &header.Value)
			list = append(list, header)
		}
	})
	return list
}

// invalidRewrite reports what is wrong with a route's rewrites, and a prefix
// that none of its paths begins with.
func (d *decoder) invalidRewrite(r *Route, prefix string) {
	err := r.Rewrite.Validate()
	d.invalid(err, prefix)
	if err != nil || r.Validate() != nil || r.Rewrite.Path.FitsPattern(r.Path) {
		return
	}
	field, found := "rewrite.strip_prefix", r.Rewrite.Path.StripPrefix
	if p := r.Rewrite.Path.ReplacePrefix; p != nil {
		field, found = "rewrite.replace_prefix.from", p.From
	}
	d.invalid(federation.FieldErrors{{
		Field: field, Found: federation.Quote(found), Allowed: "a prefix of paths that the route matches (" + r.Path + ")",
	}}, prefix)
}

// canonicalRewrite is a rule without its order of writing: a name stands once
// in it, so that order decides nothing.
func canonicalRewrite(r rewrite.Rule) rewrite.Rule {
	for _, h := range []*rewrite.Headers{&r.Request, &r.Response} {
		for _, list := range []*[]rewrite.Header{&h.Set, &h.Add} {
			*list = slices.Clone(*list)
			for i := range *list {
				(*list)[i].Name = strings.ToLower((*list)[i].Name)
			}
			slices.SortFunc(*list, func(a, b rewrite.Header) int { return strings.Compare(a.Name, b.Name) })
		}
		var names []string
		for _, name := range h.Remove {
			names = append(names, strings.ToLower(name))
		}
		slices.Sort(names)
		h.Remove = names
	}
	return r
}

// UpstreamRewrite is the route's rewrites as its endpoints need them: of a URL
// the upstream's host is the URL's, whatever the address behind it.
func (r *Route) UpstreamRewrite() rewrite.Rule {
	rule := r.Rewrite
	if rule.Host != rewrite.HostUpstream || r.Upstream.Kind != UpstreamDNS {
		return rule
	}
	usual := ":80"
	if r.Upstream.TLS {
		usual = ":443"
	}
	rule.Host = rewrite.Host(strings.TrimSuffix(r.Upstream.serviceName(), usual))
	return rule
}

// SampleRewrite shows what the route does to a path: one that it matches, and
// the upstream's. ok is false when it forwards paths as they are, or no sample
// is found.
func (r *Route) SampleRewrite() (path, upstream string, ok bool) {
	w, err := r.Rewrite.Compile()
	if err != nil || w == nil || !w.RewritesPath() {
		return "", "", false
	}
	// A pattern that takes the rest of a path may take the prefix as well.
	sample := route.SamplePath(r.Path)
	if prefix := r.Rewrite.Path.Prefix(); prefix != "" && !strings.HasPrefix(sample+"/", prefix+"/") {
		if r.Path == "" || strings.HasSuffix(r.Path, "/**") {
			sample = prefix + "/more"
		}
	}
	if path, _, err = route.NormalisePath(nil, sample); err != nil {
		return "", "", false
	}
	upstream, _, err = w.Path(nil, path)
	return path, upstream, err == nil
}

// warnHealthPaths notes rewrites that take a prefix off which the service's own
// health path carries: it answers probes there, and would answer every request
// with 404.
func (s *draft) warnHealthPaths(services map[string]*declared[service]) {
	for i := range s.routes {
		x := &s.routes[i]
		holder := services[x.value.Service]
		if x.value.Upstream.Kind != UpstreamService || holder == nil {
			continue
		}
		path, upstream, ok := x.value.SampleRewrite()
		if !ok {
			continue
		}
		health, _, _ := strings.Cut(holder.value.facts.HealthPath, "?")
		common := commonSegments(path, health)
		if common == "" || commonSegments(upstream, common) == common {
			continue
		}
		field := join(x.prefix, "rewrite")
		s.warn(x.d, x.d.nearest(field), field,
			fmt.Sprintf("a rewrite that takes %s off, which the health_path of service %s carries (%s): %s becomes %s",
				federation.Quote(common), federation.Quote(holder.name), federation.Quote(holder.value.facts.HealthPath), path, upstream),
			"paths as the service serves them")
	}
}

// commonSegments is the longest beginning of whole segments that two paths
// share, empty for none.
func commonSegments(a, b string) string {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	n := 0
	for n < len(as) && n < len(bs) && as[n] == bs[n] {
		n++
	}
	return strings.TrimSuffix(strings.Join(as[:n], "/"), "/")
}
