package rewrite

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// ErrResult is that captures make no path in normal form, like a dot segment out
// of two dots or half an escape, or one longer than [MaxResult]. Such dot
// segments are not resolved: they would lead out of what the rule names.
var ErrResult = errors.New("the rewritten path is not in normal form, or too long")

const (
	prefixRule = "a path of whole segments as routes match it, like /api/v1: beginning with /, no / at its end, " +
		"no query, no dot segments, no repeated slashes, percent-encoded where needed"
	onePathRule = "one of strip_prefix, replace_prefix and regex"
)

func (w *Rewriter) compilePath(wrong *problems, p *Path) {
	set := 0
	for _, is := range []bool{p.StripPrefix != "", p.ReplacePrefix != nil, p.Regex != nil} {
		if is {
			set++
		}
	}
	if set > 1 {
		wrong.add("rewrite", strconv.Itoa(set)+" rewrites of the path", onePathRule)
		return
	}
	prefix := func(field, text string, root bool) {
		if !validPrefix(text, root) {
			wrong.add(field, federation.Quote(text), prefixRule)
		}
	}
	switch {
	case p.StripPrefix != "":
		prefix("rewrite.strip_prefix", p.StripPrefix, false)
		w.strip = p.StripPrefix
	case p.ReplacePrefix != nil:
		prefix("rewrite.replace_prefix.from", p.ReplacePrefix.From, true)
		prefix("rewrite.replace_prefix.to", p.ReplacePrefix.To, true)
		w.strip, w.with = strings.TrimSuffix(p.ReplacePrefix.From, "/"), strings.TrimSuffix(p.ReplacePrefix.To, "/")
		if p.ReplacePrefix.From == p.ReplacePrefix.To {
			wrong.add("rewrite.replace_prefix.to", federation.Quote(p.ReplacePrefix.To), "another prefix than is replaced")
		}
	case p.Regex != nil:
		w.compileRegex(wrong, p.Regex)
	}
}

// validPrefix reports whether text can begin a path and end at a slash.
func validPrefix(text string, root bool) bool {
	if text == "/" {
		return root
	}
	return len(text) <= MaxPathLength && isNormal(text) && text[len(text)-1] != '/'
}

func isNormal(path string) bool {
	normal, _, err := route.NormalisePath(nil, path)
	return err == nil && normal == path && path != "*"
}

func (w *Rewriter) compileRegex(wrong *problems, r *Replacement) {
	field := "rewrite.regex.from"
	if len(r.From) == 0 || len(r.From) > MaxRegexLength {
		wrong.add(field, federation.Quote(r.From), fmt.Sprintf("an expression of 1 to %d bytes", MaxRegexLength))
		return
	}
	// By itself first, so that "a)|(b" does not pass for balanced.
	_, err := syntax.Parse(r.From, syntax.Perl)
	if err == nil {
		w.regex, err = regexp.Compile(`\A(?:` + r.From + `)\z`)
	}
	if err != nil {
		reason := err.Error()
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			reason = e.Code.String()
		}
		wrong.add(field, federation.Quote(r.From), "a valid RE2 expression ("+reason+")")
		return
	}
	field = "rewrite.regex.to"
	if len(r.To) > MaxPathLength {
		wrong.add(field, federation.Quote(r.To), fmt.Sprintf("at most %d bytes", MaxPathLength))
		return
	}
	if w.to, err = parseTemplate(r.To, w.capture); err != nil {
		wrong.add(field, federation.Quote(r.To), err.Error())
		return
	}
	if text := w.to.fill("x"); text == "" || text[0] != '/' || !strings.HasPrefix(r.To, "/") || !isNormal(text) {
		wrong.add(field, federation.Quote(r.To),
			"a path beginning with /, with no query, no dot segments, no repeated slashes, percent-encoded where needed")
	}
}

// capture is the number of a capture by name or number.
func (w *Rewriter) capture(name string) (int, error) {
	number, err := strconv.Atoi(name)
	if err != nil || strconv.Itoa(number) != name {
		number = w.regex.SubexpIndex(name)
	}
	if number >= 0 && number <= w.regex.NumSubexp() {
		return number, nil
	}
	if w.regex.NumSubexp() == 0 {
		return 0, errors.New("no captures: the expression has no group in parentheses")
	}
	var known []string
	for i, name := range w.regex.SubexpNames()[1:] {
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		known = append(known, "${"+name+"}")
	}
	if len(known) == 1 {
		return 0, fmt.Errorf("the capture %s, and $$ for a dollar sign", known[0])
	}
	return 0, fmt.Errorf("the captures %s, and $$ for a dollar sign", words(known))
}

// RewritesPath reports whether paths may change at all.
func (w *Rewriter) RewritesPath() bool { return w.strip != "" || w.with != "" || w.regex != nil }

// Path makes the upstream's path of a request's, which is in normal form; so is
// the result; slashes that meet where captures are empty become one. The error
// is [ErrResult], the request's fault.
//
// What has to be written is appended to buf; newBuf is buf with it, and the
// result may be a view of newBuf or of path.
func (w *Rewriter) Path(buf []byte, path string) (rewritten string, newBuf []byte, err error) {
	if path == "*" {
		return path, buf, nil
	}
	start := len(buf)
	if w.regex == nil {
		rest, begins := strings.CutPrefix(path, w.strip)
		switch {
		case !begins || rest != "" && rest[0] != '/':
			return path, buf, nil
		case w.with == "" && rest == "":
			return "/", buf, nil
		case w.with == "":
			return rest, buf, nil
		}
		buf = append(append(buf, w.with...), rest...)
		return view(buf[start:]), buf, nil
	}
	at := w.regex.FindStringSubmatchIndex(path)
	if at == nil {
		return path, buf, nil
	}
	buf = mergeSlashes(w.to.appendCaptures(buf, path, at), start)
	rewritten = view(buf[start:])
	if len(rewritten) > MaxResult || !isNormal(rewritten) {
		return "", buf, ErrResult
	}
	return rewritten, buf, nil
}

// mergeSlashes makes one of repeated slashes in b[start:].
func mergeSlashes(b []byte, start int) []byte {
	kept := b[:start]
	for i := start; i < len(b); i++ {
		if b[i] != '/' || i == start || b[i-1] != '/' {
			kept = append(kept, b[i])
		}
	}
	return kept
}

// FitsPattern reports whether a prefix that is stripped or replaced can begin a
// path that the pattern of a route matches.
func (p *Path) FitsPattern(pattern string) bool {
	return route.CanBeginWith(pattern, slices.DeleteFunc(strings.Split(p.Prefix(), "/"), func(s string) bool { return s == "" }))
}

// Prefix is what is stripped or replaced, empty for none and for "/".
func (p *Path) Prefix() string {
	if p.ReplacePrefix != nil {
		return strings.TrimSuffix(p.ReplacePrefix.From, "/")
	}
	return p.StripPrefix
}

// view is a string over b, good as long as b is not written.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
