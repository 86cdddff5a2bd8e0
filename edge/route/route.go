// Package route decides where a request goes: which route it matches, which
// release lane of the route's service it takes, and in which order the lane's
// endpoints are tried. It is pure: snapshots, the time and random numbers are
// arguments.
package route

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of what a route may say, so that a table's memory and the time of
// one match stay bounded by the number of routes.
const (
	MaxPathLength     = 2048 // bytes of a path pattern
	MaxSegments       = 64   // segments of a path pattern
	MaxRegexLength    = 512  // bytes of one regular expression
	MaxMatchers       = 16   // header matchers, and query matchers, of a route
	MaxMatchLength    = 1024 // bytes of an exact value
	MaxMethods        = 32   // methods of a route
	MaxMethodLength   = 32   // bytes of a method
	MaxPriority       = 1_000_000
	maxMatchName      = 128
	maxHostLength     = 253
	maxHostLabel      = 63
	wildcardHostStart = "*."
)

// TagMode says whose release tags count on a route.
type TagMode uint8

// The tag modes.
const (
	// TagsAny admits the tag of any request: the zero value and the default.
	TagsAny TagMode = iota
	// TagsTrusted admits tags of requests from trusted peers only.
	TagsTrusted
)

// String is the word used in documents: "any" or "trusted".
func (m TagMode) String() string {
	switch m {
	case TagsAny:
		return "any"
	case TagsTrusted:
		return "trusted"
	default:
		return "unknown"
	}
}

// Route says which requests it takes and which service answers them.
type Route struct {
	// ID names the route in logs, metrics and errors; see
	// [federation.ValidName].
	ID string
	// Host is "" or "*" for any host; an exact name or IP address
	// ("api.example.com", "[2001:db8::1]"); or "*.example.com" for every name
	// below example.com at any depth, but not example.com itself. Letter case
	// and a final dot are ignored. It never holds a port.
	Host string
	// Path is a pattern of segments parted by "/":
	//
	//	""                      any path, also the "*" of OPTIONS
	//	/users                  exactly this; "/users/" is another path
	//	/users/{name}           one segment that is not empty
	//	/users/{id:[0-9]+}      one segment that the expression matches whole
	//	/files/{n}.{ext:[a-z]+} variables within a segment
	//	/api/v1/users/**        /api/v1/users itself and everything below it
	//
	// Expressions are RE2 as package regexp has it, at most MaxRegexLength
	// bytes, never matching beyond their segment. Literals may be written
	// decoded; patterns meet paths in the normal form of [NormalisePath], so
	// an expression sees "%20" where the path has an encoded space.
	Path string
	// Methods are the methods that it takes, as RFC 9110 spells them (upper
	// case); none: every method. GET does not include HEAD.
	Methods []string
	// Headers and Query must all match.
	Headers []Match
	Query   []Match
	// Priority decides between routes that match the same request, higher
	// first; -MaxPriority to MaxPriority. See [NewTable] for what decides
	// between equal ones.
	Priority int
	// Service answers the requests; the table does not look at it.
	Service string
	Tags    TagMode
	// Explain lets a request ask for the x-gray-decision response header.
	Explain bool
}

// Match is a condition on one header field or one query parameter. Exactly
// one of Exact, Regex and Present is set.
type Match struct {
	// Name is the field's name, in any letter case, or the parameter's name,
	// decoded and case-sensitive. Where it occurs more than once in a request
	// the first occurrence counts.
	Name string
	// Exact is the value, compared byte by byte (parameters: after decoding).
	Exact string
	// Regex is an RE2 expression that must match the value whole.
	Regex string
	// Present: true wants the name to be there with any value, false wants it
	// to be absent.
	Present *bool
}

// Validate returns nil or a [federation.FieldErrors] with everything that is
// wrong with the route. Fields are named "path", "methods[1]",
// "headers[0].regex".
func (r *Route) Validate() error {
	var wrong federation.FieldErrors
	add := func(field, found, allowed string) {
		wrong = append(wrong, federation.FieldError{Field: field, Found: found, Allowed: allowed})
	}
	if !federation.ValidName(r.ID) {
		add("id", federation.Quote(r.ID), "1 to 128 of a-z A-Z 0-9 . _ -, beginning with a letter or digit")
	}
	if _, _, err := parseHost(r.Host); err != nil {
		add("host", federation.Quote(r.Host), err.Error())
	}
	if _, err := parsePattern(r.Path); err != nil {
		add("path", federation.Quote(r.Path), err.Error())
	}
	if len(r.Methods) > MaxMethods {
		add("methods", strconv.Itoa(len(r.Methods))+" methods", "at most "+strconv.Itoa(MaxMethods))
	}
	for i, method := range r.Methods {
		if !validMethod(method) {
			add(fmt.Sprintf("methods[%d]", i), federation.Quote(method), "a method in upper case, like GET, but not CONNECT")
		}
	}
	validateMatches(add, "headers", r.Headers, true)
	validateMatches(add, "query", r.Query, false)
	if r.Priority < -MaxPriority || r.Priority > MaxPriority {
		add("priority", strconv.Itoa(r.Priority), fmt.Sprintf("%d to %d", -MaxPriority, MaxPriority))
	}
	if r.Tags > TagsTrusted {
		add("tags", strconv.Itoa(int(r.Tags)), "any or trusted")
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

func validateMatches(add func(field, found, allowed string), field string, matches []Match, header bool) {
	if len(matches) > MaxMatchers {
		add(field, strconv.Itoa(len(matches))+" matchers", "at most "+strconv.Itoa(MaxMatchers))
		return
	}
	for i, m := range matches {
		at := fmt.Sprintf("%s[%d]", field, i)
		if header && !token(m.Name) || m.Name == "" || len(m.Name) > maxMatchName {
			add(at+".name", federation.Quote(m.Name), fmt.Sprintf("a name of 1 to %d bytes", maxMatchName))
		}
		set := 0
		if m.Exact != "" {
			set++
		}
		if m.Regex != "" {
			set++
		}
		if m.Present != nil {
			set++
		}
		if set != 1 {
			add(at, strconv.Itoa(set)+" conditions", "one of exact, regex and present")
		}
		if len(m.Exact) > MaxMatchLength {
			add(at+".exact", federation.Quote(m.Exact), fmt.Sprintf("at most %d bytes", MaxMatchLength))
		}
		if m.Regex != "" {
			if _, err := parseRegex(m.Regex); err != nil {
				add(at+".regex", federation.Quote(m.Regex), err.Error())
			}
		}
	}
}

// parseHost splits a route's host into the name in lower case and whether it
// stands for the names below it. Any host is "", false. The error says what is
// allowed.
func parseHost(host string) (name string, wildcard bool, err error) {
	if host == "" || host == "*" {
		return "", false, nil
	}
	allowed := fmt.Errorf(`a host name without port ("api.example.com", non-ASCII names in their xn-- form), "*.example.com", an IP address or "*"`)
	if strings.HasPrefix(host, "[") {
		inner, closed := strings.CutSuffix(host[1:], "]")
		addr, parseErr := netip.ParseAddr(inner)
		if !closed || parseErr != nil || !addr.Is6() || addr.Zone() != "" {
			return "", false, allowed
		}
		return strings.ToLower(host), false, nil
	}
	name, wildcard = strings.CutPrefix(host, wildcardHostStart)
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) == 0 || len(name) > maxHostLength {
		return "", false, allowed
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > maxHostLabel {
			return "", false, allowed
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false, allowed
			}
		}
	}
	return name, wildcard, nil
}

func validMethod(method string) bool {
	return token(method) && len(method) <= MaxMethodLength && method == strings.ToUpper(method) && method != "CONNECT"
}

// token is RFC 9110, section 5.6.2.
func token(text string) bool {
	for i := range len(text) {
		c := text[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}
