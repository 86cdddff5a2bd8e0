// Package rewrite says what of a request and its response is changed on the
// way: the path and host that the upstream sees, and header fields of both
// directions. It is pure: a [Rule] is what a document says, a [Rewriter] what
// requests are put through.
package rewrite

import (
	"regexp"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of what a rule may say, so that what one request costs stays bounded.
const (
	MaxPathLength  = 2048 // bytes of a prefix, and of what replaces a path
	MaxRegexLength = 512  // bytes of an expression
	MaxReferences  = 16   // captures or variables in one text
	MaxHeaders     = 64   // fields that are set, added and removed, each
	MaxNameLength  = 128  // bytes of a field's name
	MaxValueLength = 1024 // bytes of a field's value, before variables are put in
	// MaxResult bounds a path made of captures, in bytes: a path is mostly far
	// shorter than the codecs allow, but captures can be written repeatedly.
	MaxResult = 64 << 10
)

// Rule is what a route does to its requests and responses. The zero value does
// nothing.
type Rule struct {
	Path     Path
	Host     Host
	Request  Headers // after the edge's own forwarding fields are set
	Response Headers // of every answer on the route, the edge's own included
}

// Path is how the upstream's path is made of the request's. At most one is
// set. It meets the path in the normal form that routes match
// (route.NormalisePath), its result is in normal form again or the request is
// refused with 400, and the query goes on as it came. A path that a rule does
// not apply to goes on unchanged, and so does the "*" of OPTIONS.
type Path struct {
	// StripPrefix is taken off, between segments only: "/api" makes "/users" of
	// "/api/users" and "/" of "/api", and leaves "/apis" alone.
	StripPrefix string
	// ReplacePrefix puts the prefix To in place of the prefix From, between
	// segments only. "/" as From puts To before every path.
	ReplacePrefix *Replacement
	// Regex makes a path that the RE2 expression From matches whole into To,
	// where $1 to $9, ${12} and ${name} are captures and $$ is a dollar sign.
	// Package regexp allocates the captures of a match: a few words a request.
	Regex *Replacement
}

// Replacement is what is replaced by what.
type Replacement struct{ From, To string }

// Host is what the upstream sees in Host (":authority"): [HostKeep],
// [HostUpstream], or else a fixed name or address with optional port. In
// X-Forwarded-Host it always sees the client's.
type Host string

// The hosts that are no fixed ones.
const (
	HostKeep     Host = "" // the client's
	HostUpstream Host = "upstream"
	// hostKeepWord is how documents may write HostKeep.
	hostKeepWord = "keep"
)

// Headers are changes of header fields. A name stands once in all of them, in
// any letter case.
type Headers struct {
	// Set replaces what fields of that name there are. A value that comes out
	// empty, as ${release} does without one, only removes them.
	Set []Header
	// Add leaves those that are there. An empty value adds nothing.
	Add []Header
	// Remove takes them off. In requests it also takes off those that may pass
	// for them ("x_user_id"), and so does Set.
	Remove []string
}

// Header is a field. Value may hold variables, ${name}; $$ is a dollar sign.
type Header struct{ Name, Value string }

// Empty reports whether there are no changes.
func (h *Headers) Empty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// Empty reports whether paths stay as they are.
func (p *Path) Empty() bool { return p.StripPrefix == "" && p.ReplacePrefix == nil && p.Regex == nil }

// Empty reports whether the rule does nothing.
func (r *Rule) Empty() bool {
	return r.Path.Empty() && r.Host == HostKeep && r.Request.Empty() && r.Response.Empty()
}

// Rewriter is a rule made ready for requests: immutable, safe for concurrent
// use.
type Rewriter struct {
	// Host is the rule's.
	Host Host
	// Request and Response are in the order in which they are to be made:
	// removals first.
	Request, Response []Change

	strip, with string // a prefix and what replaces it
	regex       *regexp.Regexp
	to          Template // captures; with regex
}

// Compile makes the rule ready, nil when it does nothing. The error is a
// [federation.FieldErrors] with everything that is wrong; fields are named as
// documents spell them: "rewrite.strip_prefix",
// "request_headers.set.X-Team".
func (r *Rule) Compile() (*Rewriter, error) {
	var wrong problems
	w := &Rewriter{Host: r.Host}
	w.compilePath(&wrong, &r.Path)
	validateHost(&wrong, r.Host)
	w.Request = compileHeaders(&wrong, &r.Request, false)
	w.Response = compileHeaders(&wrong, &r.Response, true)
	switch {
	case len(wrong) > 0:
		return nil, federation.FieldErrors(wrong)
	case r.Empty():
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	return w, nil
}

// Validate returns nil or the error of Compile.
func (r *Rule) Validate() error {
	_, err := r.Compile()
	return err
}

// problems collects what is wrong with a rule.
type problems federation.FieldErrors

func (p *problems) add(field, found, allowed string) {
	*p = append(*p, federation.FieldError{Field: field, Found: found, Allowed: allowed})
}

// join is a field's path as documents spell it.
func join(field, name string) string {
	if !federation.ValidName(name) {
		name = federation.Quote(name)
	}
	return field + "." + name
}

func words(list []string) string {
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
