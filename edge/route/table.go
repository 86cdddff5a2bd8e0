package route

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// MaxRoutes is how many routes one table holds.
const MaxRoutes = 1_000_000

// Table finds the route of a request. It is immutable and safe for concurrent
// use.
//
// Per host it is a tree of path segments, so that the time of a match grows
// with the number of segments and of patterns that overlap at them, not with
// the number of routes. Each node is visited at most once per match.
type Table struct {
	exact    map[string]*node // by host name
	wildcard map[string]*node // by the name behind "*."
	any      *node            // routes for any host
	methods  methodTable
	order    []int32 // index in NewTable's argument by rank
}

// rankNone is behind every route.
const rankNone = int32(math.MaxInt32)

// node stands for a prefix of segments. It is one cache line: with thousands of
// routes, most of the time of a match is waiting for memory.
type node struct {
	// best is the lowest rank at or below this node.
	best int32
	// ends are the routes whose pattern ends here, rests those that go on
	// with "**"; both sorted by rank.
	ends     []candidate
	rests    []candidate
	children *children // nil: none
}

// children are what a path may go on with.
type children struct {
	literals literalChildren
	patterns []patternChild
}

type patternChild struct {
	segment segment
	node    *node
}

// candidate is a route whose host and path match.
type candidate struct {
	rank       int32
	methods    MethodSet   // 0: every method
	conditions *conditions // nil: none
}

// conditions are what a route asks for beyond host, path and method.
type conditions struct {
	headers []matcher
	query   []matcher
}

// NewTable builds a table. The error joins one error per bad route, each
// naming the route and wrapping the [federation.FieldErrors] of
// [Route.Validate]; ids must be unique.
//
// Of the routes that match a request, the first in this total order gets it:
//
//  1. the higher Priority;
//  2. the more specific Host: exact, then "*." with more labels, then any;
//  3. the more specific Path: the first segment from the left that differs in
//     kind decides, literal before expression before {name} before "**", and
//     a path that ends before one that goes on with "**";
//  4. one with Methods before one without;
//  5. more header and query matchers;
//  6. the smaller ID in byte order.
//
// The order of the argument never matters.
func NewTable(routes []Route) (*Table, error) {
	if len(routes) > MaxRoutes {
		return nil, fmt.Errorf("found %d routes, allowed at most %d", len(routes), MaxRoutes)
	}
	compiled, err := compileRoutes(routes)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(compiled, compareCompiled)

	t := &Table{
		exact:    make(map[string]*node),
		wildcard: make(map[string]*node),
		order:    make([]int32, len(compiled)),
	}
	var errs []error
	for rank := range compiled {
		c := &compiled[rank]
		t.order[rank] = int32(c.index)
		if err := t.insert(c, int32(rank)); err != nil {
			errs = append(errs, fmt.Errorf("route %q: %w", c.route.ID, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// compiledRoute is a route on its way into the table.
type compiledRoute struct {
	route    *Route
	index    int
	host     string
	wildcard bool
	pattern  *pattern
}

func compileRoutes(routes []Route) ([]compiledRoute, error) {
	compiled := make([]compiledRoute, 0, len(routes))
	seen := make(map[string]struct{}, len(routes))
	var errs []error
	for i := range routes {
		r := &routes[i]
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", federation.Quote(r.ID), err))
			continue
		}
		if _, twice := seen[r.ID]; twice {
			errs = append(errs, fmt.Errorf("route %s: %w", federation.Quote(r.ID), federation.FieldErrors{
				{Field: "id", Found: "an id that is taken", Allowed: "one route per id"},
			}))
			continue
		}
		seen[r.ID] = struct{}{}
		c := compiledRoute{route: r, index: i}
		var hostErr, pathErr error
		c.host, c.wildcard, hostErr = parseHost(r.Host)
		c.pattern, pathErr = parsePattern(r.Path)
		if err := errors.Join(hostErr, pathErr); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", federation.Quote(r.ID), err))
			continue
		}
		compiled = append(compiled, c)
	}
	return compiled, errors.Join(errs...)
}

// hostRank is lower the more specific the host is.
func (c *compiledRoute) hostRank() int {
	switch {
	case c.host == "":
		return math.MaxInt
	case c.wildcard:
		return math.MaxInt - 1 - strings.Count(c.host, ".")
	default:
		return 0
	}
}

func compareCompiled(a, b compiledRoute) int {
	noMethods := func(c compiledRoute) int {
		if len(c.route.Methods) == 0 {
			return 1
		}
		return 0
	}
	matchers := func(c compiledRoute) int { return len(c.route.Headers) + len(c.route.Query) }
	return cmp.Or(
		cmp.Compare(b.route.Priority, a.route.Priority),
		cmp.Compare(a.hostRank(), b.hostRank()),
		comparePatterns(a.pattern, b.pattern),
		cmp.Compare(noMethods(a), noMethods(b)),
		cmp.Compare(matchers(b), matchers(a)),
		cmp.Compare(a.route.ID, b.route.ID),
	)
}

// insert puts a route into the tree of its host. Routes come by rank, so that
// lists stay sorted.
func (t *Table) insert(c *compiledRoute, rank int32) error {
	leaf := candidate{rank: rank}
	for i, method := range c.route.Methods {
		bit := t.methods.add(method)
		if bit == 0 {
			return federation.FieldErrors{{
				Field: "methods[" + strconv.Itoa(i) + "]", Found: federation.Quote(method),
				Allowed: fmt.Sprintf("at most %d different methods in all routes", maxTableMethods),
			}}
		}
		leaf.methods |= bit
	}
	if len(c.route.Headers)+len(c.route.Query) > 0 {
		var err error
		leaf.conditions = new(conditions)
		if leaf.conditions.headers, err = newMatchers(c.route.Headers, true); err != nil {
			return err
		}
		if leaf.conditions.query, err = newMatchers(c.route.Query, false); err != nil {
			return err
		}
	}
	n := t.root(c)
	n.best = min(n.best, rank)
	for i := range c.pattern.segments {
		n = n.child(&c.pattern.segments[i])
		n.best = min(n.best, rank)
	}
	if c.pattern.rest {
		n.rests = append(n.rests, leaf)
	} else {
		n.ends = append(n.ends, leaf)
	}
	return nil
}

func newMatchers(matches []Match, header bool) ([]matcher, error) {
	var out []matcher
	for _, m := range matches {
		compiled, err := newMatcher(m, header)
		if err != nil {
			return nil, err
		}
		out = append(out, compiled)
	}
	return out, nil
}

func (t *Table) root(c *compiledRoute) *node {
	if c.host == "" {
		if t.any == nil {
			t.any = &node{best: rankNone}
		}
		return t.any
	}
	hosts := t.exact
	if c.wildcard {
		hosts = t.wildcard
	}
	if hosts[c.host] == nil {
		hosts[c.host] = &node{best: rankNone}
	}
	return hosts[c.host]
}

// child finds or makes the node below n for a segment.
func (n *node) child(s *segment) *node {
	if n.children == nil {
		n.children = new(children)
	}
	c := n.children
	if s.kind == segmentLiteral {
		return c.literals.add(s.text)
	}
	for i := range c.patterns {
		if have := &c.patterns[i].segment; have.kind == s.kind && have.text == s.text {
			return c.patterns[i].node
		}
	}
	below := &node{best: rankNone}
	c.patterns = append(c.patterns, patternChild{segment: *s, node: below})
	return below
}
