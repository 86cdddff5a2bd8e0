package route

import (
	"regexp/syntax"
	"strings"
)

// SamplePath is a path that a valid pattern matches, for showing what becomes
// of one: a variable stands for its name, and an expression for something short
// that it matches, or for its source where none is found. A pattern with "/**"
// gets one more segment, and the pattern "" is "/".
func SamplePath(path string) string {
	p, err := parsePattern(path)
	if err != nil || path == "" {
		return "/"
	}
	parts, _ := splitPattern(path[1:])
	var sample strings.Builder
	for i := range p.segments {
		s := &p.segments[i]
		sample.WriteByte('/')
		switch s.kind {
		case segmentLiteral:
			sample.WriteString(s.text)
		case segmentAny:
			sample.WriteString(strings.Trim(parts[i], "{}"))
		default:
			text := parts[i]
			if parsed, err := syntax.Parse(s.text, syntax.Perl); err == nil {
				if found := sampleOf(parsed); s.match(found) {
					text = found
				}
			}
			sample.WriteString(text)
		}
	}
	if p.rest {
		sample.WriteString("/more")
	}
	return sample.String()
}

// sampleOf is about the shortest text that an expression matches, as far as
// its anchors and word boundaries allow.
func sampleOf(e *syntax.Regexp) string {
	switch e.Op {
	case syntax.OpLiteral:
		return string(e.Rune)
	case syntax.OpCharClass:
		return string(sampleRune(e.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "x"
	case syntax.OpCapture, syntax.OpPlus:
		return sampleOf(e.Sub[0])
	case syntax.OpAlternate:
		return sampleOf(e.Sub[0])
	case syntax.OpRepeat:
		return strings.Repeat(sampleOf(e.Sub[0]), e.Min)
	case syntax.OpConcat:
		var text strings.Builder
		for _, sub := range e.Sub {
			text.WriteString(sampleOf(sub))
		}
		return text.String()
	default: // may be empty
		return ""
	}
}

// sampleRune prefers what people expect in a path.
func sampleRune(ranges []rune) rune {
	for _, want := range "1ax" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= want && want <= ranges[i+1] {
				return want
			}
		}
	}
	if len(ranges) == 0 {
		return 'x'
	}
	return ranges[0]
}

// CanBeginWith reports whether a path that a valid pattern matches can begin
// with these segments.
func CanBeginWith(path string, segments []string) bool {
	p, err := parsePattern(path)
	if err != nil {
		return false
	}
	for i, text := range segments {
		if i >= len(p.segments) {
			return p.rest
		}
		if !p.segments[i].match(text) {
			return false
		}
	}
	return true
}
