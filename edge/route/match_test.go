package route_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// request is "METHOD host path?query", then "name: value" lines.
func request(t testing.TB, text string) *route.Input {
	t.Helper()
	lines := strings.Split(text, "\n")
	parts := strings.Fields(lines[0])
	if len(parts) != 3 {
		t.Fatalf("bad request %q", text)
	}
	path, query, _ := strings.Cut(parts[2], "?")
	normal, _, err := route.NormalisePath(nil, path)
	if err != nil {
		t.Fatalf("bad path in %q: %v", text, err)
	}
	headers := make(map[string]string)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		headers[name] = strings.TrimSpace(value)
	}
	return &route.Input{Method: parts[0], Host: parts[1], Path: normal, Query: query, Header: func(name string) (string, bool) {
		value, ok := headers[name]
		return value, ok
	}}
}

func newTable(t testing.TB, routes ...route.Route) *route.Table {
	t.Helper()
	for i := range routes {
		if routes[i].ID == "" {
			routes[i].ID = fmt.Sprintf("r%d", i)
		}
	}
	table, err := route.NewTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

// TestMatchOne tries one route on requests that it takes and on their twins
// that it does not.
func TestMatchOne(t *testing.T) {
	for _, c := range []struct {
		name  string
		route route.Route
		takes []string
		not   []string
	}{
		{
			name:  "exact path",
			route: route.Route{Path: "/users"},
			takes: []string{"GET h /users", "DELETE h /users", "GET h //users", "GET h /a/../users", "GET h /%75sers", "GET h /users?a=b"},
			not:   []string{"GET h /users/", "GET h /user", "GET h /userss", "GET h /Users", "GET h /", "GET h /users/1", "GET h /users%2F"},
		},
		{
			name:  "root",
			route: route.Route{Path: "/"},
			takes: []string{"GET h /", "GET h //", "GET h /."},
			not:   []string{"GET h /a", "OPTIONS h *"},
		},
		{
			name:  "any path",
			route: route.Route{},
			takes: []string{"GET h /", "GET h /a/b", "OPTIONS h *"},
		},
		{
			name:  "everything below the root",
			route: route.Route{Path: "/**"},
			takes: []string{"GET h /", "GET h /a", "GET h /a/b/", "OPTIONS h *"},
		},
		{
			name:  "rest",
			route: route.Route{Path: "/api/v1/users/**"},
			takes: []string{"GET h /api/v1/users", "GET h /api/v1/users/", "GET h /api/v1/users/7", "GET h /api/v1/users/7/a%2Fb/"},
			not:   []string{"GET h /api/v1/usersx", "GET h /api/v1", "GET h /api/v1/user/7", "GET h /api/v1/users%2F7", "OPTIONS h *"},
		},
		{
			name:  "variable",
			route: route.Route{Path: "/users/{name}"},
			takes: []string{"GET h /users/42", "GET h /users/a%2Fb", "GET h /users/a;b"},
			not:   []string{"GET h /users/", "GET h /users", "GET h /users/42/", "GET h /users/42/x"},
		},
		{
			name:  "digits",
			route: route.Route{Path: "/users/{id:[0-9]+}"},
			takes: []string{"GET h /users/42"},
			not:   []string{"GET h /users/", "GET h /users/42a", "GET h /users/a42", "GET h /users/4%202", "GET h /users/42/"},
		},
		{
			name:  "expression that may be empty",
			route: route.Route{Path: "/users/{id:[0-9]*}"},
			takes: []string{"GET h /users/", "GET h /users/42"},
			not:   []string{"GET h /users", "GET h /users/x"},
		},
		{
			name:  "alternatives are anchored",
			route: route.Route{Path: "/{v:v1|v2}/x"},
			takes: []string{"GET h /v1/x", "GET h /v2/x"},
			not:   []string{"GET h /v11/x", "GET h /av2/x", "GET h /v3/x"},
		},
		{
			name:  "braces within an expression",
			route: route.Route{Path: "/{id:[0-9]{3}}"},
			takes: []string{"GET h /123"},
			not:   []string{"GET h /12", "GET h /1234"},
		},
		{
			name:  "class with a slash",
			route: route.Route{Path: "/{id:[^/.]+}/x"},
			takes: []string{"GET h /a/x"},
			not:   []string{"GET h /a.b/x", "GET h /a/b/x"},
		},
		{
			name:  "mixed segment",
			route: route.Route{Path: "/files/{name}.{ext:[a-z]+}"},
			takes: []string{"GET h /files/a.txt", "GET h /files/a.b.txt"},
			not:   []string{"GET h /files/.txt", "GET h /files/a.", "GET h /files/a.TXT", "GET h /files/atxt"},
		},
		{
			name:  "dots beside a variable",
			route: route.Route{Path: "/{a}.."},
			takes: []string{"GET h /x.."},
			not:   []string{"GET h /x.", "GET h /x"},
		},
		{
			name:  "literal that needs encoding",
			route: route.Route{Path: "/café/%7euser"},
			takes: []string{"GET h /caf%c3%a9/~user", "GET h /café/%7Euser"},
			not:   []string{"GET h /cafe/~user"},
		},
		{
			name:  "methods",
			route: route.Route{Path: "/x", Methods: []string{"GET", "PURGE"}},
			takes: []string{"GET h /x", "PURGE h /x"},
			not:   []string{"HEAD h /x", "POST h /x", "get h /x", "GE h /x", "PROPFIND h /x"},
		},
		{
			name:  "exact host",
			route: route.Route{Host: "API.example.com"},
			takes: []string{"GET api.example.com /", "GET Api.Example.COM. /"},
			not:   []string{"GET example.com /", "GET x.api.example.com /", "GET api.example.com.evil /", "GET xapi.example.com /"},
		},
		{
			name:  "wildcard host",
			route: route.Route{Host: "*.example.com"},
			takes: []string{"GET a.example.com /", "GET a.b.EXAMPLE.com /"},
			not:   []string{"GET example.com /", "GET .example.com /", "GET aexample.com /", "GET a.example.org /"},
		},
		{
			name:  "IPv6 host",
			route: route.Route{Host: "[2001:DB8::1]"},
			takes: []string{"GET [2001:db8::1] /"},
			not:   []string{"GET [2001:db8::2] /"},
		},
		{
			name:  "exact header",
			route: route.Route{Headers: []route.Match{{Name: "X-Tenant", Exact: "acme"}}},
			takes: []string{"GET h /\nx-tenant: acme"},
			not:   []string{"GET h /", "GET h /\nx-tenant: ACME", "GET h /\nx-tenant: acme2"},
		},
		{
			name:  "header expression",
			route: route.Route{Headers: []route.Match{{Name: "x-v", Regex: "v[0-9]|w"}}},
			takes: []string{"GET h /\nx-v: v1", "GET h /\nx-v: w"},
			not:   []string{"GET h /", "GET h /\nx-v: v12", "GET h /\nx-v: vw"},
		},
		{
			name:  "header present",
			route: route.Route{Headers: []route.Match{{Name: "x-v", Present: yes()}}},
			takes: []string{"GET h /\nx-v:", "GET h /\nx-v: 1"},
			not:   []string{"GET h /", "GET h /\nx-w: 1"},
		},
		{
			name:  "header absent and another there",
			route: route.Route{Headers: []route.Match{{Name: "x-v", Present: no()}, {Name: "x-w", Present: yes()}}},
			takes: []string{"GET h /\nx-w: 1"},
			not:   []string{"GET h /", "GET h /\nx-v: 1\nx-w: 1"},
		},
		{
			name:  "exact parameter",
			route: route.Route{Query: []route.Match{{Name: "a b", Exact: "c&d"}}},
			takes: []string{"GET h /?a+b=c%26d", "GET h /?x=1&a%20b=%63%26d", "GET h /?&&a+b=c%26d&a+b=x"},
			not:   []string{"GET h /", "GET h /?a+b=c", "GET h /?a+b", "GET h /?a+b=x&a+b=c%26d", "GET h /?A+b=c%26d", "GET h /?x;a+b=c%26d"},
		},
		{
			name:  "parameter expression",
			route: route.Route{Query: []route.Match{{Name: "v", Regex: "[0-9 ]+"}}},
			takes: []string{"GET h /?v=12", "GET h /?v=1+2", "GET h /?v=%31", "GET h /?v=%3&v=1"},
			not:   []string{"GET h /", "GET h /?v=", "GET h /?v=1a", "GET h /?v=%"},
		},
		{
			name:  "parameter present or absent",
			route: route.Route{Query: []route.Match{{Name: "v", Present: yes()}, {Name: "w", Present: no()}}},
			takes: []string{"GET h /?v", "GET h /?v=", "GET h /?x=w&v=1"},
			not:   []string{"GET h /", "GET h /?v&w", "GET h /?vv=1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, c.route)
			for _, text := range c.takes {
				if _, _, result := table.Match(request(t, text)); result != route.Matched {
					t.Errorf("%q is not taken", text)
				}
			}
			for _, text := range c.not {
				if index, _, result := table.Match(request(t, text)); result == route.Matched || index != -1 {
					t.Errorf("%q is taken", text)
				}
			}
		})
	}
}

// TestOrder lists routes from first to last for one request that all of them
// match; every pair is tried in both orders of declaration.
func TestOrder(t *testing.T) {
	const text = "GET a.b.example.com /api/users/42?q=1\nx-a: 1"
	routes := []route.Route{
		{ID: "priority", Priority: 1},
		{ID: "exact-host", Host: "a.b.example.com"},
		{ID: "long-wildcard", Host: "*.b.example.com"},
		{ID: "wildcard", Host: "*.example.com", Path: "/api/users/42"},
		{ID: "literal", Path: "/api/users/42"},
		{ID: "expression", Path: "/api/users/{id:[0-9]+}"},
		{ID: "variable-matchers", Path: "/api/users/{id}", Methods: []string{"GET"},
			Headers: []route.Match{{Name: "x-a", Exact: "1"}}, Query: []route.Match{{Name: "q", Exact: "1"}}},
		{ID: "variable-matcher", Path: "/api/users/{id}", Methods: []string{"GET"}, Headers: []route.Match{{Name: "x-a", Exact: "1"}}},
		{ID: "variable-method", Path: "/api/users/{other}", Methods: []string{"GET"}},
		{ID: "variable-a", Path: "/api/users/{id}"},
		{ID: "variable-b", Path: "/api/users/{id}"},
		{ID: "rest-long", Path: "/api/users/**"},
		{ID: "rest", Path: "/api/**"},
		{ID: "early-expression", Path: "/{a:[a-z]+}/users/42"},
		{ID: "early-variable", Path: "/{a}/users/42"},
		{ID: "any"},
		{ID: "negative", Path: "/api/users/42", Host: "a.b.example.com", Priority: -1},
	}
	for i := range routes {
		for j := range i {
			for _, pair := range [][]route.Route{{routes[i], routes[j]}, {routes[j], routes[i]}} {
				table := newTable(t, pair...)
				index, _, result := table.Match(request(t, text))
				if result != route.Matched || pair[index].ID != routes[j].ID {
					t.Errorf("of %s and %s, %d was taken (%v)", routes[j].ID, routes[i].ID, index, result)
				}
			}
		}
	}
	all := newTable(t, routes...)
	if index, _, _ := all.Match(request(t, text)); routes[index].ID != "priority" {
		t.Errorf("of all, %s was taken", routes[index].ID)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	table := newTable(t,
		route.Route{Path: "/users", Methods: []string{"GET", "POST"}},
		route.Route{Path: "/users", Methods: []string{"PURGE"}},
		route.Route{Path: "/users", Methods: []string{"DELETE"}, Headers: []route.Match{{Name: "x-admin", Present: yes()}}},
		route.Route{Path: "/users/{id}", Methods: []string{"GET"}},
		route.Route{Path: "/open/**", Methods: []string{"GET"}},
		route.Route{Path: "/open/{x}"},
		route.Route{Host: "a.example", Path: "/users", Methods: []string{"PATCH"}},
	)
	for _, c := range []struct {
		request string
		result  route.Result
		allow   string
	}{
		{"GET h /users", route.Matched, ""},
		{"PUT h /users", route.MethodNotAllowed, "GET, POST, PURGE"},
		{"PUT h /users\nx-admin: 1", route.MethodNotAllowed, "DELETE, GET, POST, PURGE"},
		{"PROPFIND h /users/1", route.MethodNotAllowed, "GET"},
		{"PUT a.example /users", route.MethodNotAllowed, "GET, PATCH, POST, PURGE"},
		{"PUT h /open/1", route.Matched, ""},
		{"PUT h /open/1/2", route.MethodNotAllowed, "GET"},
		{"PUT h /nothing", route.NoRoute, ""},
		{"GET h /users/1/2", route.NoRoute, ""},
	} {
		_, allow, result := table.Match(request(t, c.request))
		if result != c.result || table.Allow(allow) != c.allow {
			t.Errorf("%q: %v %q, want %v %q", c.request, result, table.Allow(allow), c.result, c.allow)
		}
	}
}

func TestNewTableNamesWhatIsWrong(t *testing.T) {
	long := strings.Repeat("a", route.MaxRegexLength+1)
	for _, c := range []struct {
		route route.Route
		field string
	}{
		{route.Route{ID: "bad id"}, "id"},
		{route.Route{ID: "r", Host: "a.*.com"}, "host"},
		{route.Route{ID: "r", Host: "*.*.com"}, "host"},
		{route.Route{ID: "r", Host: "a.com:80"}, "host"},
		{route.Route{ID: "r", Host: "bücher.example"}, "host"},
		{route.Route{ID: "r", Host: "[::1"}, "host"},
		{route.Route{ID: "r", Host: "[10.0.0.1]"}, "host"},
		{route.Route{ID: "r", Path: "users"}, "path"},
		{route.Route{ID: "r", Path: "/a//b"}, "path"},
		{route.Route{ID: "r", Path: "/a/../b"}, "path"},
		{route.Route{ID: "r", Path: "/a/."}, "path"},
		{route.Route{ID: "r", Path: "/%zz"}, "path"},
		{route.Route{ID: "r", Path: "/a*"}, "path"},
		{route.Route{ID: "r", Path: "/*"}, "path"},
		{route.Route{ID: "r", Path: "/**/a"}, "path"},
		{route.Route{ID: "r", Path: "/{}"}, "path"},
		{route.Route{ID: "r", Path: "/{a b}"}, "path"},
		{route.Route{ID: "r", Path: "/{a:}"}, "path"},
		{route.Route{ID: "r", Path: "/{a"}, "path"},
		{route.Route{ID: "r", Path: "/a}"}, "path"},
		{route.Route{ID: "r", Path: "/{a:(}"}, "path"},
		{route.Route{ID: "r", Path: "/{a:b)|(c}"}, "path"},
		{route.Route{ID: "r", Path: "/x{a:b)|(c}"}, "path"},
		{route.Route{ID: "r", Path: "/{a:b/c}"}, "path"},
		{route.Route{ID: "r", Path: "/{a:" + long + "}"}, "path"},
		{route.Route{ID: "r", Path: strings.Repeat("/a", route.MaxSegments+1)}, "path"},
		{route.Route{ID: "r", Path: "/" + strings.Repeat("a", route.MaxPathLength)}, "path"},
		{route.Route{ID: "r", Methods: []string{"GET", "get"}}, "methods[1]"},
		{route.Route{ID: "r", Methods: []string{"CONNECT"}}, "methods[0]"},
		{route.Route{ID: "r", Methods: make([]string, route.MaxMethods+1)}, "methods"},
		{route.Route{ID: "r", Headers: []route.Match{{Name: "a b", Exact: "x"}}}, "headers[0].name"},
		{route.Route{ID: "r", Headers: []route.Match{{Name: "a"}}}, "headers[0]"},
		{route.Route{ID: "r", Headers: []route.Match{{Name: "a", Exact: "x", Regex: "y"}}}, "headers[0]"},
		{route.Route{ID: "r", Headers: []route.Match{{Name: "a", Regex: "["}}}, "headers[0].regex"},
		{route.Route{ID: "r", Headers: []route.Match{{Name: "a", Regex: long}}}, "headers[0].regex"},
		{route.Route{ID: "r", Query: []route.Match{{Name: "", Exact: "x"}}}, "query[0].name"},
		{route.Route{ID: "r", Query: make([]route.Match, route.MaxMatchers+1)}, "query"},
		{route.Route{ID: "r", Priority: route.MaxPriority + 1}, "priority"},
		{route.Route{ID: "r", Tags: 9}, "tags"},
	} {
		_, err := route.NewTable([]route.Route{{ID: "good", Path: "/"}, c.route})
		var fields federation.FieldErrors
		if !errors.As(err, &fields) {
			t.Errorf("%+v: no field is named: %v", c.route, err)
			continue
		}
		if fields[0].Field != c.field || !strings.Contains(err.Error(), c.route.ID) || strings.Contains(err.Error(), `"good"`) {
			t.Errorf("%+v: %v", c.route, err)
		}
	}
	if _, err := route.NewTable([]route.Route{{ID: "r"}, {ID: "r", Path: "/x"}}); err == nil {
		t.Error("two routes of one id are accepted")
	}
	var many []route.Route
	for i := range 10 {
		r := route.Route{ID: fmt.Sprintf("r%d", i)}
		for j := range 10 {
			r.Methods = append(r.Methods, fmt.Sprintf("M%d-%d", i, j))
		}
		many = append(many, r)
	}
	if _, err := route.NewTable(many); err == nil || !strings.Contains(err.Error(), "methods[") {
		t.Errorf("more methods than a set holds: %v", err)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := newTable(t,
		route.Route{Host: "api.example.com", Path: "/users/{id:[0-9]+}", Methods: []string{"GET"},
			Headers: []route.Match{{Name: "x-a", Regex: "v(1|2)"}}, Query: []route.Match{{Name: "q", Exact: "a b"}}},
		route.Route{Host: "*.example.com", Path: "/{x}.{y}"},
		route.Route{Path: "/**"},
	)
	for _, text := range []string{
		"GET API.example.com. /users/42?q=a+b\nx-a: v1", "GET b.example.com /a.b", "POST h /nowhere",
	} {
		in := request(t, text)
		if n := testing.AllocsPerRun(200, func() {
			if _, _, result := table.Match(in); result != route.Matched {
				t.Fatalf("%q: %v", text, result)
			}
		}); n != 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
	}
}
