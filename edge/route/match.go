package route

import (
	"regexp"
	"slices"
	"strings"
)

// Input is what of a request its route depends on.
type Input struct {
	Method string
	// Host is the authority without its port, as received: letter case and a
	// final dot do not matter. IPv6 addresses keep their brackets.
	Host string
	// Path is in the normal form of [NormalisePath].
	Path string
	// Query is what follows "?", still encoded.
	Query string
	// Header returns the first value of a field and whether the request has
	// it; it is asked with names in lower case. It may be nil as long as no
	// route has header matchers.
	Header func(name string) (string, bool)
}

// Result is what became of a match.
type Result uint8

// The results. The zero value is no answer of [Table.Match].
const (
	ResultUnknown Result = iota
	// Matched: the index is the route's.
	Matched
	// NoRoute: nothing matches (404).
	NoRoute
	// MethodNotAllowed: routes match but for their methods (405 with Allow).
	MethodNotAllowed
)

// matcher is a compiled [Match].
type matcher struct {
	name  string
	kind  matchKind
	exact string
	regex *regexp.Regexp
}

type matchKind uint8

const (
	matchExact matchKind = iota
	matchRegex
	matchPresent
	matchAbsent
)

// newMatcher compiles a validated Match.
func newMatcher(m Match, header bool) (matcher, error) {
	compiled := matcher{name: m.Name, exact: m.Exact}
	if header {
		compiled.name = strings.ToLower(m.Name)
	}
	switch {
	case m.Present != nil && *m.Present:
		compiled.kind = matchPresent
	case m.Present != nil:
		compiled.kind = matchAbsent
	case m.Regex != "":
		compiled.kind = matchRegex
		var err error
		if compiled.regex, err = compileWhole(m.Regex); err != nil {
			return matcher{}, err
		}
	}
	return compiled, nil
}

// take judges a value that is compared as it is.
func (m *matcher) take(value string, present bool) bool {
	switch m.kind {
	case matchPresent:
		return present
	case matchAbsent:
		return !present
	case matchRegex:
		return present && m.regex.MatchString(value)
	default:
		return present && value == m.exact
	}
}

// takeQuery judges the first occurrence of the parameter in a raw query.
func (m *matcher) takeQuery(query string) bool {
	raw, present := queryValue(query, m.name)
	if m.kind == matchExact {
		return present && equalDecoded(raw, m.exact)
	}
	if m.kind == matchRegex && present && strings.ContainsAny(raw, "%+") {
		raw = decodeQuery(raw)
	}
	return m.take(raw, present)
}

// queryValue returns the value, still encoded, of the first parameter with
// this name. Parameters are parted by "&" alone; one with a malformed escape
// is passed over.
func queryValue(query, name string) (raw string, present bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		if equalDecoded(key, name) && validEscapes(value) {
			return value, true
		}
	}
	return "", false
}

// equalDecoded compares form-encoded text with a decoded one; malformed
// escapes equal nothing.
func equalDecoded(raw, want string) bool {
	n := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(raw) || !hex(raw[i+1]) || !hex(raw[i+2]) {
				return false
			}
			c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
			i += 2
		}
		if n >= len(want) || want[n] != c {
			return false
		}
		n++
	}
	return n == len(want)
}

func validEscapes(raw string) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			continue
		}
		if i+2 >= len(raw) || !hex(raw[i+1]) || !hex(raw[i+2]) {
			return false
		}
		i += 2
	}
	return true
}

// decodeQuery decodes a value whose escapes are valid.
func decodeQuery(raw string) string {
	var out strings.Builder
	out.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '+':
			out.WriteByte(' ')
		case '%':
			out.WriteByte(unhex(raw[i+1])<<4 | unhex(raw[i+2]))
			i += 2
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// MethodSet is a set of the methods that a table's routes name; see
// [Table.Allow].
type MethodSet uint64

// methodTable numbers the methods that the routes of one table name: at most
// 64, the bits of a MethodSet.
type methodTable struct {
	names []string
}

// standardMethods come first in every table, so that the common ones are
// found without a search.
var standardMethods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"}

const maxTableMethods = 64

// add returns the method's bit, or 0 when the table is full.
func (t *methodTable) add(method string) MethodSet {
	if bit := t.bit(method); bit != 0 {
		return bit
	}
	if len(t.names) == 0 {
		t.names = slices.Clone(standardMethods[:])
		return t.add(method)
	}
	if len(t.names) == maxTableMethods {
		return 0
	}
	t.names = append(t.names, method)
	return 1 << (len(t.names) - 1)
}

// bit is 0 for a method that no route names.
func (t *methodTable) bit(method string) MethodSet {
	for i, name := range t.names {
		if name == method {
			return 1 << i
		}
	}
	return 0
}

// Allow is the value of the Allow header for a set from Match: "GET, POST",
// sorted.
func (t *Table) Allow(set MethodSet) string {
	var names []string
	for i, name := range t.methods.names {
		if set&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
