package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// canonicalMatch is the part of a route that decides which requests it gets.
type canonicalMatch struct {
	Host, Path     string
	Methods        []string
	Headers, Query []route.Match
	Priority       int
}

// canonicalRoute is a route without its order of writing and its place. Its
// JSON is what hashes and diffs compare.
type canonicalRoute struct {
	Match     canonicalMatch
	Service   string
	TLS       bool
	Tags      string
	Explain   bool
	RateLimit any
	Timeouts  Timeouts
	Retries   Retries
	Hash      []HashKey
	Rewrite   rewrite.Rule
}

func (r *Route) canonicalMatch() canonicalMatch {
	m := canonicalMatch{Host: strings.ToLower(r.Host), Path: r.Path, Priority: r.Priority}
	m.Methods = append(m.Methods, r.Methods...)
	slices.Sort(m.Methods)
	m.Methods = slices.Compact(m.Methods)
	byName := func(a, b route.Match) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Exact, b.Exact), cmp.Compare(a.Regex, b.Regex))
	}
	for _, h := range r.Headers {
		h.Name = strings.ToLower(h.Name)
		m.Headers = append(m.Headers, h)
	}
	m.Query = append(m.Query, r.Query...)
	slices.SortStableFunc(m.Headers, byName)
	slices.SortStableFunc(m.Query, byName)
	return m
}

// matchKey is equal for routes that match the same requests by the same text.
func (r *Route) matchKey() string { return encode(r.canonicalMatch()) }

func (r *Route) canonical() string {
	c := canonicalRoute{
		Match: r.canonicalMatch(), Service: r.Service, TLS: r.Upstream.TLS, Tags: r.Tags.String(),
		Explain: r.Explain, Timeouts: r.Timeouts, Retries: r.Retries, Hash: r.Hash,
		Rewrite: canonicalRewrite(r.Rewrite),
	}
	if r.RateLimit != nil {
		c.RateLimit = *r.RateLimit
	}
	return encode(c)
}

// encode writes plain values; mappings come out sorted.
func encode(value any) string {
	text, err := json.Marshal(value)
	if err != nil { // plain structs, maps and text always encode
		return fmt.Sprintf("%+v", value)
	}
	return string(text)
}

// contents is the canonical text of every document of a set.
func (d *Documents) contents() map[Ref]string {
	contents := make(map[Ref]string, len(d.Routes)+len(d.Services)+len(d.Releases))
	for i := range d.Routes {
		contents[Ref{KindRoute, d.Routes[i].ID}] = d.Routes[i].canonical()
	}
	for _, s := range d.Services {
		contents[Ref{KindService, s.Name}] = encode(struct {
			Facts  *federation.Service
			Policy ServicePolicy
		}{s, d.Policies[s.Name]})
	}
	for _, r := range d.Releases {
		contents[Ref{KindRelease, r.Name}] = encode(r)
	}
	return contents
}

func (d *Documents) hash() string {
	contents := d.contents()
	refs := make([]Ref, 0, len(contents))
	for ref := range contents {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, compareRefs)
	sum := sha256.New()
	for _, ref := range refs {
		fmt.Fprintf(sum, "%s/%s %d %s\n", ref.Kind, ref.Name, len(contents[ref]), contents[ref])
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
