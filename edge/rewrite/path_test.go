package rewrite

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/route"
)

func TestPath(t *testing.T) {
	strip := Path{StripPrefix: "/api/v1"}
	replace := Path{ReplacePrefix: &Replacement{"/api", "/internal/x"}}
	under := Path{ReplacePrefix: &Replacement{"/", "/base"}}
	bare := Path{ReplacePrefix: &Replacement{"/api", "/"}}
	regex := Path{Regex: &Replacement{`/users/([0-9]+)(?:/(?P<rest>.*))?`, "/u/${rest}/$1"}}
	half := Path{Regex: &Replacement{`/(.*)-(.*)`, "/f/$1$2"}}
	for _, test := range []struct {
		rule       Path
		path, want string // want "": refused
	}{
		{strip, "/api/v1/users/7", "/users/7"},
		{strip, "/api/v1", "/"},
		{strip, "/api/v1/", "/"},
		{strip, "/api/v1x/users", "/api/v1x/users"},
		{strip, "/api/v", "/api/v"},
		{strip, "/x/api/v1/y", "/x/api/v1/y"},
		{strip, "/api/v1/api/v1", "/api/v1"},
		{strip, "/api/v1/%2Fa", "/%2Fa"},
		{strip, "/", "/"},
		{strip, "*", "*"},
		{replace, "/api", "/internal/x"},
		{replace, "/api/", "/internal/x/"},
		{replace, "/api/users", "/internal/x/users"},
		{replace, "/apis", "/apis"},
		{under, "/", "/base/"},
		{under, "/a", "/base/a"},
		{under, "*", "*"},
		{bare, "/api/users", "/users"},
		{bare, "/api", "/"},
		{bare, "/api/", "/"},
		{regex, "/users/7", "/u/7"}, // an empty capture leaves no double slash
		{regex, "/users/7/a/b", "/u/a/b/7"},
		{regex, "/users/x", "/users/x"},
		{regex, "/v1/users/7", "/v1/users/7"}, // whole or not at all
		{regex, "/users/7\n", "/users/7\n"},
		{half, "/a-b", "/f/ab"},
		{half, "/.-.", ""}, // dots that meet are not resolved
		{half, "/a/.-./b", ""},
		{half, "/.-", ""},
		{half, "/%2F-%2F", "/f/%2F%2F"},
		{half, "/a%2-Fb", "/f/a%2Fb"},
	} {
		w := compile(t, Rule{Path: test.rule})
		got, _, err := w.Path(nil, test.path)
		if got != test.want || (err != nil) != (test.want == "") || err != nil && !errors.Is(err, ErrResult) {
			t.Errorf("%q by %+v: %q, %v, want %q", test.path, test.rule, got, err, test.want)
		}
	}
}

func TestHalfAnEscapeIsRefused(t *testing.T) {
	w := compile(t, Rule{Path: Path{Regex: &Replacement{`/(.*)41`, "/$1"}}})
	if got, _, err := w.Path(nil, "/a%41"); !errors.Is(err, ErrResult) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLongResultIsRefused(t *testing.T) {
	w := compile(t, Rule{Path: Path{Regex: &Replacement{`/(.*)`, "/" + strings.Repeat("$1", MaxReferences)}}})
	for length, fits := range map[int]bool{MaxResult/MaxReferences - 1: true, MaxResult/MaxReferences + 1: false} {
		if _, _, err := w.Path(nil, "/"+strings.Repeat("a", length)); (err == nil) != fits || err != nil && !errors.Is(err, ErrResult) {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

func TestPathKeepsWhatIsInTheBuffer(t *testing.T) {
	w := compile(t, Rule{Path: Path{ReplacePrefix: &Replacement{"/a", "/b"}}})
	buf := append(make([]byte, 0, 100), "kept"...)
	got, buf, _ := w.Path(buf, "/a/1")
	other, buf, _ := w.Path(buf, "/a/2")
	if string(buf) != "kept/b/1/b/2" || got != "/b/1" || other != "/b/2" {
		t.Errorf("%q, %q, %q", buf, got, other)
	}
}

func TestPathAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 1024)
	for name, most := range map[string]struct {
		rule   Path
		allocs float64
	}{
		"strip":   {Path{StripPrefix: "/users"}, 0},
		"replace": {Path{ReplacePrefix: &Replacement{"/users", "/u"}}, 0},
		"regex":   {Path{Regex: &Replacement{"/users/([0-9]+)", "/u/$1"}}, 1}, // package regexp's
	} {
		w := compile(t, Rule{Path: most.rule})
		if n := testing.AllocsPerRun(100, func() { _, _, _ = w.Path(buf, "/users/17") }); n > most.allocs {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestFitsPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, prefix string
		want            bool
	}{
		{"/api/v1/**", "/api", true}, {"/api/**", "/api/v1", true}, {"/api", "/api", true}, {"", "/api", true},
		{"/{version:v[0-9]+}/**", "/v1", true}, {"/{any}/x", "/api", true},
		{"/users/**", "/api", false}, {"/api", "/api/v1", false}, {"/{version:v[0-9]+}/**", "/api", false},
	} {
		if got := (&Path{StripPrefix: test.prefix}).FitsPattern(test.pattern); got != test.want {
			t.Errorf("%s of %s: %v", test.prefix, test.pattern, got)
		}
	}
	if !(&Path{ReplacePrefix: &Replacement{"/", "/x"}}).FitsPattern("/users") {
		t.Error("/ begins every path")
	}
}

// segmentsOf is the oracle of prefixes: lists of segments instead of text.
func segmentsOf(path string) []string { return strings.Split(path, "/")[1:] }

func prefixOracle(path, from, to string) string {
	segments, prefix := segmentsOf(path), segmentsOf(from)
	if from == "/" {
		prefix = nil
	}
	if len(segments) < len(prefix) {
		return path
	}
	for i := range prefix {
		if segments[i] != prefix[i] {
			return path
		}
	}
	rest := segments[len(prefix):]
	var result []string
	if to != "/" {
		result = segmentsOf(to)
	}
	result = append(result, rest...)
	return "/" + strings.Join(result, "/")
}

// FuzzPath: whatever the path and the rule, the result is in normal form, or
// refused; and it is what an oracle says: lists of segments for prefixes,
// package regexp's own ReplaceAllString for expressions.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/api/v1/users", "/", "//", "/api/../x", "/api/%2e%2e/x", "/api//evil.test", "/api/%2F%2Fevil", "*", "/.-./x", "/a%2-Fb"} {
		for _, from := range []string{"/api", "/", "/(.*)-(.*)", "/api/(.*)", "/([^/]*)/?(.*)"} {
			for _, to := range []string{"/", "/x/y", "/$2/$1", "/x$1$2", "/$2e$1"} {
				f.Add(path, from, to)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw, from, to string) {
		path, _, err := route.NormalisePath(nil, raw)
		if err != nil {
			return
		}
		for kind, rule := range map[string]Path{
			"strip": {StripPrefix: from}, "replace": {ReplacePrefix: &Replacement{from, to}}, "regex": {Regex: &Replacement{from, to}},
		} {
			w, err := (&Rule{Path: rule}).Compile()
			if err != nil || w == nil {
				continue
			}
			got, _, err := w.Path(nil, path)
			if err != nil {
				if kind != "regex" {
					t.Fatalf("%s refuses %q: %v", kind, path, err)
				}
				continue
			}
			if again, _, err := route.NormalisePath(nil, got); err != nil || again != got {
				t.Fatalf("%s of %q: %q is not normal: %q, %v", kind, path, got, again, err)
			}
			if path == "*" {
				if got != "*" {
					t.Fatalf("%s of *: %q", kind, got)
				}
				continue
			}
			var want string
			switch kind {
			case "strip":
				want = prefixOracle(path, from, "/")
			case "replace":
				want = prefixOracle(path, from, to)
			default:
				want = regexOracle(path, from, to)
			}
			if got != want {
				t.Fatalf("%s of %q from %q to %q: %q, want %q", kind, path, from, to, got, want)
			}
		}
	})
}

func regexOracle(path, from, to string) string {
	expression := regexp.MustCompile(`\A(?:` + from + `)\z`)
	// In package regexp $1x is the capture "1x"; here it is $1 and an x.
	to = regexp.MustCompile(`\$([1-9])`).ReplaceAllString(strings.ReplaceAll(to, "$$", "\x00"), "$${$1}")
	result := expression.ReplaceAllString(path, strings.ReplaceAll(to, "\x00", "$$"))
	if expression.MatchString(path) {
		for strings.Contains(result, "//") {
			result = strings.ReplaceAll(result, "//", "/")
		}
	}
	return result
}
