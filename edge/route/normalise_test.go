package route_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unsafe"

	"github.com/grayfed/grayfed/edge/route"
)

func TestNormalisePath(t *testing.T) {
	for _, c := range []struct {
		path, normal string
		err          error
	}{
		{path: "/", normal: "/"},
		{path: "*", normal: "*"},
		{path: "/users/42", normal: "/users/42"},
		{path: "/users/", normal: "/users/"},
		{path: "/a.b/..c/.d/e..", normal: "/a.b/..c/.d/e.."},
		{path: "/...", normal: "/..."},
		{path: "/a;v=1/b,c:d@e=f&g!$'()*+~_-", normal: "/a;v=1/b,c:d@e=f&g!$'()*+~_-"},

		{path: "//", normal: "/"},
		{path: "//a///b//", normal: "/a/b/"},
		{path: "/.", normal: "/"},
		{path: "/./a/./b/.", normal: "/a/b/"},
		{path: "/a/b/../c", normal: "/a/c"},
		{path: "/a/b/..", normal: "/a/"},
		{path: "/a/..", normal: "/"},
		{path: "/a/../", normal: "/"},
		{path: "/a/b/../..", normal: "/"},
		{path: "/a//../b", normal: "/b"},

		{path: "/%2e/a", normal: "/a"},
		{path: "/a/%2E%2e/b", normal: "/b"},
		{path: "/a/.%2e/b", normal: "/b"},
		{path: "/a%2fb", normal: "/a%2Fb"},
		{path: "/a%2F..%2Fb", normal: "/a%2F..%2Fb"},
		{path: "/a/%2e%2e%2fb", normal: "/a/..%2Fb"},
		{path: "/%75sers/%7euser", normal: "/users/~user"},
		{path: "/caf%c3%a9", normal: "/caf%C3%A9"},
		{path: "/café", normal: "/caf%C3%A9"},
		{path: "/a b\"<>^`{|}[]#?", normal: "/a%20b%22%3C%3E%5E%60%7B%7C%7D%5B%5D%23%3F"},
		{path: "/100%25", normal: "/100%25"},
		{path: "/%252e%252e/a", normal: "/%252e%252e/a"},

		{path: "", err: route.ErrPathForm},
		{path: "users", err: route.ErrPathForm},
		{path: "**", err: route.ErrPathForm},
		{path: "/%", err: route.ErrPathEscape},
		{path: "/%2", err: route.ErrPathEscape},
		{path: "/%zz", err: route.ErrPathEscape},
		{path: "/a%2g/b", err: route.ErrPathEscape},
		{path: `/a\b`, err: route.ErrPathByte},
		{path: "/a%5cb", err: route.ErrPathByte},
		{path: "/a%5Cb", err: route.ErrPathByte},
		{path: "/a%00", err: route.ErrPathByte},
		{path: "/a\x00b", err: route.ErrPathByte},
		{path: "/a\tb", err: route.ErrPathByte},
		{path: "/a\x7f", err: route.ErrPathByte},
		{path: "/..", err: route.ErrPathAboveRoot},
		{path: "/../a", err: route.ErrPathAboveRoot},
		{path: "/a/../../b", err: route.ErrPathAboveRoot},
		{path: "/%2e%2E/a", err: route.ErrPathAboveRoot},
		{path: "/a/..;/b", err: route.ErrPathDotParameter},
		{path: "/a/..;v=./b", err: route.ErrPathDotParameter},
		{path: "/a/.;v", err: route.ErrPathDotParameter},
		{path: "/a/%2e%2e;/b", err: route.ErrPathDotParameter},
	} {
		normal, _, err := route.NormalisePath(nil, c.path)
		if normal != c.normal || !errors.Is(err, c.err) {
			t.Errorf("%q: got %q, %v; want %q, %v", c.path, normal, err, c.normal, c.err)
		}
	}
}

func TestNormalPathIsReturnedAsItIs(t *testing.T) {
	buf := make([]byte, 0, 64)
	in := strings.Clone("/api/v1/users/42/caf%C3%A9/x.y")
	if n := testing.AllocsPerRun(100, func() {
		out, _, err := route.NormalisePath(buf, in)
		if err != nil || unsafe.StringData(out) != unsafe.StringData(in) {
			t.Fatalf("%q came back as another string %q (%v)", in, out, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a normal path", n)
	}
}

// FuzzNormalisePath holds the normal form against its definition, and against
// the standard library's path.Clean and percent decoding.
func FuzzNormalisePath(f *testing.F) {
	for _, seed := range []string{
		"/", "/a/../b", "/%2e%2e/", "/a%2fb", "//a//", "/a/./..;x", "/é", "/%25%32%65", "/..%2f", "*", "/a/..", "/.%2E/", "/%2f..",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		buf := make([]byte, 0, 8)
		normal, buf, err := route.NormalisePath(buf, in)
		if err != nil {
			if normal != "" {
				t.Fatalf("%q is refused (%v) and still %q", in, err, normal)
			}
			return
		}
		if in == "*" {
			return
		}
		if normal[0] != '/' || strings.ContainsAny(normal, "\\\x00 \"<>") || strings.Contains(normal, "//") {
			t.Fatalf("%q: not normal: %q", in, normal)
		}
		if again, _, err := route.NormalisePath(buf, normal); err != nil || again != normal {
			t.Fatalf("%q: %q is not final: %q, %v", in, normal, again, err)
		}
		decoded, err := url.PathUnescape(normal)
		if err != nil {
			t.Fatalf("%q: %q has bad escapes", in, normal)
		}
		for segment := range strings.SplitSeq(normal, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q: %q has a dot segment", in, normal)
			}
		}
		// The same location as path.Clean finds, where no encoded slash makes
		// decoding ambiguous.
		original, err := url.PathUnescape(in)
		if err != nil {
			t.Fatalf("%q was accepted with bad escapes", in)
		}
		if strings.Count(original, "/") != strings.Count(in, "/") {
			return
		}
		want := path.Clean(original)
		if got := strings.TrimSuffix(decoded, "/"); got != strings.TrimSuffix(want, "/") {
			t.Fatalf("%q: normal %q is at %q, path.Clean says %q", in, normal, got, want)
		}
	})
}
