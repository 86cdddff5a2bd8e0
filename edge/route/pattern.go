package route

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// segmentKind orders segments by how much they narrow a path.
type segmentKind uint8

const (
	segmentLiteral segmentKind = iota
	segmentRegex               // {name:regex}, or text and variables mixed
	segmentAny                 // {name}
)

// segment is one part of a path pattern between two slashes.
type segment struct {
	kind segmentKind
	// text is the literal, or the source that two equal segments share.
	text string
	// set is the fast form of an expression like [0-9]+; nil when there is
	// none, then regex decides.
	set   *byteSet
	regex *regexp.Regexp
}

// pattern is a parsed path pattern.
type pattern struct {
	segments []segment
	// rest: "/**" follows the segments; the pattern "" has only that.
	rest bool
}

// parsePattern reads a path pattern. The error says what is allowed.
func parsePattern(path string) (*pattern, error) {
	if path == "" {
		return &pattern{rest: true}, nil
	}
	if len(path) > MaxPathLength {
		return nil, fmt.Errorf("at most %d bytes", MaxPathLength)
	}
	if path[0] != '/' {
		return nil, errors.New("a path beginning with /")
	}
	p := &pattern{}
	parts, err := splitPattern(path[1:])
	if err != nil {
		return nil, err
	}
	if len(parts) > MaxSegments {
		return nil, fmt.Errorf("at most %d segments", MaxSegments)
	}
	for i, part := range parts {
		if part == "**" {
			if i != len(parts)-1 {
				return nil, errors.New("** as the last segment only")
			}
			p.rest = true
			return p, nil
		}
		if part == "" && i != len(parts)-1 {
			return nil, errors.New("no empty segment but the last: repeated slashes never reach a route")
		}
		s, err := parseSegment(part)
		if err != nil {
			return nil, err
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

// splitPattern splits at the slashes and checks that braces are balanced.
func splitPattern(text string) ([]string, error) {
	var parts []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth < 0 {
				return nil, errors.New("balanced braces")
			}
		case '/':
			if depth > 0 {
				continue // within an expression: [^/]+
			}
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	if depth != 0 {
		return nil, errors.New("balanced braces")
	}
	return append(parts, text[start:]), nil
}

func parseSegment(text string) (segment, error) {
	if !strings.Contains(text, "{") {
		literal, err := parseLiteral(text, true)
		return segment{kind: segmentLiteral, text: literal}, err
	}
	var expression strings.Builder
	source := text
	for text != "" {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			open = len(text)
		}
		literal, err := parseLiteral(text[:open], false)
		if err != nil {
			return segment{}, err
		}
		expression.WriteString(regexp.QuoteMeta(literal))
		if text = text[open:]; text == "" {
			break
		}
		end := closingBrace(text)
		name, regex, constrained := strings.Cut(text[1:end], ":")
		if !validVariable(name) {
			return segment{}, errors.New("{name} or {name:regex}, the name 1 to 64 of a-z A-Z 0-9 _ -")
		}
		if !constrained {
			if end+1 == len(source) {
				return segment{kind: segmentAny, text: "{}"}, nil
			}
			regex = ".+"
		}
		parsed, err := parseRegex(regex)
		if err != nil {
			return segment{}, err
		}
		if needsSlash(parsed) {
			return segment{}, errors.New("no / in an expression: it sees one segment, /** takes the rest of a path")
		}
		if end+1 == len(source) {
			return regexSegment(regex)
		}
		expression.WriteString("(?:" + regex + ")")
		text = text[end+1:]
	}
	return regexSegment(expression.String())
}

func regexSegment(expression string) (segment, error) {
	s := segment{kind: segmentRegex, text: expression, set: setOf(expression)}
	var err error
	if s.regex, err = compileWhole(expression); err != nil {
		return segment{}, err
	}
	return s, nil
}

// parseLiteral brings literal text into the normal form that request paths
// have. whole says that it is a segment of its own, so that dots matter.
func parseLiteral(text string, whole bool) (string, error) {
	if strings.Contains(text, "*") {
		return "", errors.New("no * but in a last segment **: {name} takes one segment, /** the rest of a path")
	}
	if !whole {
		text = "x" + text // dots beside a variable are no dot segment
	}
	normal, _, err := NormalisePath(nil, "/"+text)
	if err != nil && !errors.Is(err, ErrPathAboveRoot) {
		return "", fmt.Errorf("a path that a request can have (%w)", err)
	}
	normal = strings.TrimPrefix(normal, "/")
	if whole && normal == "" && text != "" {
		return "", errors.New("no dot segments: they never reach a route")
	}
	if !whole {
		normal = normal[1:]
	}
	return normal, nil
}

// closingBrace is the index of the brace that closes text[0]; splitPattern has
// checked that there is one.
func closingBrace(text string) int {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text) - 1
}

func validVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 64
}

// parseRegex checks an expression by itself, so that "a)|(b" cannot pass for
// balanced within a larger one. The error says what is allowed.
func parseRegex(expression string) (*syntax.Regexp, error) {
	if len(expression) > MaxRegexLength || expression == "" {
		return nil, fmt.Errorf("an expression of 1 to %d bytes", MaxRegexLength)
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, badRegex(err)
	}
	return parsed, nil
}

// needsSlash reports whether the expression has a literal "/", which no
// segment holds. Classes may include it: [^.]+ does.
func needsSlash(parsed *syntax.Regexp) bool {
	if parsed.Op == syntax.OpLiteral {
		return slices.Contains(parsed.Rune, '/')
	}
	return slices.ContainsFunc(parsed.Sub, needsSlash)
}

// compileWhole compiles an expression that must match a text from its first
// to its last byte. The error says what is allowed.
func compileWhole(expression string) (*regexp.Regexp, error) {
	compiled, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil, badRegex(err)
	}
	return compiled, nil
}

func badRegex(err error) error {
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("a valid RE2 expression (%s)", e.Code)
	}
	return fmt.Errorf("a valid RE2 expression (%w)", err)
}

// byteSet is a repeated character class: what [0-9]+ compiles to. Paths in
// normal form are ASCII.
type byteSet struct {
	bytes [128]bool
	empty bool // matches "" too
}

// setOf returns nil when the expression is anything but one repeated class of
// characters (or one literal character repeated).
func setOf(expression string) *byteSet {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil
	}
	if parsed.Op != syntax.OpPlus && parsed.Op != syntax.OpStar {
		return nil
	}
	class := parsed.Sub[0]
	set := &byteSet{empty: parsed.Op == syntax.OpStar}
	if class.Op != syntax.OpCharClass {
		return nil
	}
	for i := 0; i+1 < len(class.Rune); i += 2 {
		for r := class.Rune[i]; r <= class.Rune[i+1] && r < 128; r++ {
			set.bytes[r] = true
		}
	}
	return set
}

func (s *byteSet) match(text string) bool {
	for i := range len(text) {
		if c := text[i]; c >= 128 || !s.bytes[c] {
			return false
		}
	}
	return s.empty || text != ""
}

// match reports whether the segment takes text, a segment of a path.
func (s *segment) match(text string) bool {
	switch {
	case s.kind == segmentAny:
		return text != ""
	case s.kind == segmentLiteral:
		return s.text == text
	case s.set != nil:
		return s.set.match(text)
	default:
		return s.regex.MatchString(text)
	}
}

// comparePatterns is negative when a is more specific than b: the first
// segment that differs in kind decides (literal, expression, variable, "**"),
// then a path that ends before one that goes on with "**".
func comparePatterns(a, b *pattern) int {
	for i := 0; ; i++ {
		ka, kb := a.kindAt(i), b.kindAt(i)
		if ka != kb {
			return ka - kb
		}
		if i >= len(a.segments) && i >= len(b.segments) {
			return 0
		}
	}
}

// kindAt ranks what the pattern has at position i: a segment's kind, the end,
// or the rest of the path.
func (p *pattern) kindAt(i int) int {
	switch {
	case i < len(p.segments):
		return int(p.segments[i].kind)
	case p.rest:
		return int(segmentAny) + 2
	default:
		return int(segmentAny) + 1
	}
}
