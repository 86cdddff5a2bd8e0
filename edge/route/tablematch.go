package route

import "strings"

// search is one match under way; it lives on the caller's stack.
type search struct {
	in     *Input
	method MethodSet // 0: a method that no route names
	best   int32     // lowest rank that matched so far
	allow  MethodSet // methods of the routes that match but for the method

	// The header asked for last: neighbouring routes often ask for the same.
	headerName    string
	headerValue   string
	headerPresent bool
}

// Match returns the index, in NewTable's argument, of the route that gets the
// request. With MethodNotAllowed, allow is what [Table.Allow] spells out. It
// does not allocate, save for decoding an escaped query parameter that an
// expression is matched against.
func (t *Table) Match(in *Input) (index int, allow MethodSet, result Result) {
	s := search{in: in, method: t.methods.bit(in.Method), best: rankNone}
	if len(t.exact) > 0 || len(t.wildcard) > 0 {
		t.matchHost(&s)
	}
	if t.any != nil {
		s.start(t.any)
	}
	switch {
	case s.best != rankNone:
		return int(t.order[s.best]), 0, Matched
	case s.allow != 0:
		return -1, s.allow, MethodNotAllowed
	default:
		return -1, 0, NoRoute
	}
}

// matchHost searches the trees of the request's host: its own and those of
// every wildcard above it.
func (t *Table) matchHost(s *search) {
	host := strings.TrimSuffix(s.in.Host, ".")
	if len(host) > maxHostLength {
		return
	}
	var memory [maxHostLength]byte
	lower := memory[:len(host)]
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	if n := t.exact[string(lower)]; n != nil {
		s.start(n)
	}
	if len(t.wildcard) == 0 {
		return
	}
	// Not from the first byte: "*" stands for at least one label.
	for i := 1; i < len(lower); i++ {
		if lower[i] != '.' {
			continue
		}
		if n := t.wildcard[string(lower[i+1:])]; n != nil {
			s.start(n)
		}
	}
}

// start searches a host's tree.
func (s *search) start(root *node) {
	path := s.in.Path
	if path == "" || path[0] != '/' { // "*": only routes for any path
		s.try(root.rests)
		return
	}
	s.walk(root, path[1:], true)
}

// walk searches below n for the rest of the path. more says that at least one
// segment follows, which may be empty. The most specific branch goes first:
// what it finds spares looking into branches of higher rank.
func (s *search) walk(n *node, rest string, more bool) {
	if n.best >= s.best {
		return
	}
	if !more {
		s.try(n.ends)
		s.try(n.rests)
		return
	}
	text, below := rest, ""
	slash := strings.IndexByte(rest, '/')
	if slash >= 0 {
		text, below = rest[:slash], rest[slash+1:]
	}
	if c := n.children; c != nil {
		if child := c.literals.get(text); child != nil {
			s.walk(child, below, slash >= 0)
		}
		for i := range c.patterns {
			child := &c.patterns[i]
			if child.node.best < s.best && child.segment.match(text) {
				s.walk(child.node, below, slash >= 0)
			}
		}
	}
	s.try(n.rests)
}

// try judges routes whose host and path match, best rank first.
func (s *search) try(candidates []candidate) {
	for i := range candidates {
		c := &candidates[i]
		if c.rank >= s.best {
			return
		}
		if c.methods != 0 && c.methods&s.method == 0 {
			if c.methods&^s.allow != 0 && s.takes(c) {
				s.allow |= c.methods
			}
			continue
		}
		if s.takes(c) {
			s.best = c.rank
			return
		}
	}
}

// takes judges the header and query matchers.
func (s *search) takes(c *candidate) bool {
	if c.conditions == nil {
		return true
	}
	for i := range c.conditions.headers {
		m := &c.conditions.headers[i]
		if s.headerName != m.name {
			s.headerName = m.name
			s.headerValue, s.headerPresent = s.in.Header(m.name)
		}
		if !m.take(s.headerValue, s.headerPresent) {
			return false
		}
	}
	for i := range c.conditions.query {
		if !c.conditions.query[i].takeQuery(s.in.Query) {
			return false
		}
	}
	return true
}
