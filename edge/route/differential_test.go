package route_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/mux"

	"github.com/grayfed/grayfed/edge/route"
)

// choices turns fuzz input into decisions; past its end all are the first.
type choices struct{ data []byte }

func (c *choices) pick(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

func (c *choices) of(words ...string) string { return words[c.pick(len(words))] }

// path makes a pattern without "**", or with one at its end sometimes.
func (c *choices) path(rest bool) string {
	var out strings.Builder
	segments := c.pick(5)
	for i := range segments {
		segment := c.of("a", "b", "users", "a%2Fb", "{x}", "{x:[0-9]+}", "{x:[a-z]*}", "{x:a|b|7}", "{x:[^/.]+}.{y}",
			"v{x:[0-9]{1,2}}", "{x}-{y:[a-z]+?}", "{x:(?i)USERS}", "~.x", "{x:\\w+}", "{x:.*}%2F{y:.+}")
		// gorilla's variables are named once per route.
		segment = strings.NewReplacer("{x", fmt.Sprintf("{x%d", i), "{y", fmt.Sprintf("{y%d", i)).Replace(segment)
		if strings.Contains(segment, ":.*}") || strings.Contains(segment, ":.+}") {
			// gorilla's dot runs over slashes; ours cannot.
			segment = strings.NewReplacer(":.*}", ":[^/]*}", ":.+}", ":[^/]+}").Replace(segment)
		}
		out.WriteString("/" + segment)
	}
	switch c.pick(4) {
	case 0:
		if segments > 0 {
			out.WriteByte('/')
		}
	case 1:
		if rest {
			out.WriteString("/**")
		}
	}
	if out.Len() == 0 {
		return "/"
	}
	return out.String()
}

func (c *choices) match(name string) route.Match {
	switch c.pick(4) {
	case 0:
		return route.Match{Name: name, Exact: c.of("1", "a b", "x")}
	case 1:
		return route.Match{Name: name, Regex: c.of("[0-9]+", "a|1", "a.*")}
	case 2:
		return route.Match{Name: name, Present: yes()}
	default:
		return route.Match{Name: name, Exact: "2"}
	}
}

func (c *choices) route(id string, rest bool) route.Route {
	r := route.Route{
		ID:   id,
		Host: c.of("", "", "a.example.com", "*.example.com", "*.b.example.com"),
		Path: c.path(rest),
	}
	for range c.pick(3) {
		r.Methods = append(r.Methods, c.of("GET", "POST", "PURGE"))
	}
	if c.pick(3) == 1 {
		r.Headers = append(r.Headers, c.match(c.of("x-a", "x-b")))
	}
	if c.pick(3) == 1 {
		r.Query = append(r.Query, c.match(c.of("q", "p r")))
	}
	return r
}

type fuzzRequest struct {
	method, host, path, query string
	headers                   map[string]string
}

// request makes a request, mostly one that is near to one of the routes.
func (c *choices) request(routes []route.Route) fuzzRequest {
	var path, query strings.Builder
	model := route.Route{Path: "/", Methods: []string{"GET"}}
	if c.pick(8) > 0 {
		model = routes[c.pick(len(routes))]
	}
	parts := strings.Split(strings.TrimSuffix(model.Path, "/**"), "/")[1:]
	for _, part := range parts {
		if strings.Contains(part, "{") || c.pick(16) == 15 {
			part = c.of("7", "a", "users", "x.y", "x-y", "v1", "a%2Fb", "Users", "b", "z", "")
		}
		path.WriteString("/" + part)
	}
	for range c.pick(3) * c.pick(2) * c.pick(2) {
		path.WriteString("/" + c.of("a", "b", "users", "a%2fb", "7", "42", "v1", "x.y", "x-y", "~.x", "%7e.x", "", ".", "..", "USERS", "é", "a%2Fb%2F"))
	}
	if c.pick(8) == 7 || path.Len() == 0 {
		path.WriteByte('/')
	}
	for _, m := range model.Query {
		query.WriteString(strings.ReplaceAll(m.Name, " ", c.of("+", "%20")) + "=" + c.of("1", "a+b", "x", "2", "a") + "&")
	}
	for range c.pick(3) {
		query.WriteString(c.of("q", "p+r", "p%20r", "%71", "%zz", "") + c.of("", "=", "=1", "=a+b", "=a%20b", "=%3", "=x") + c.of("&", "&&"))
	}
	r := fuzzRequest{
		method: c.of(append(model.Methods, "GET", "XX")...),
		host:   c.of("h", "a.example.com", "x.b.example.com", "example.com", "b.example.com"),
		path:   path.String(), query: query.String(), headers: make(map[string]string),
	}
	for _, name := range []string{"x-a", "x-b"} {
		if c.pick(2) == 1 {
			r.headers[name] = c.of("1", "a b", "", "x")
		}
	}
	return r
}

func (r *fuzzRequest) input(normal string) *route.Input {
	return &route.Input{Method: r.method, Host: r.host, Path: normal, Query: r.query, Header: func(name string) (string, bool) {
		value, ok := r.headers[name]
		return value, ok
	}}
}

// addToMux says the same route to gorilla/mux.
func addToMux(t *testing.T, router *mux.Router, r route.Route) {
	out := router.NewRoute().Name(r.ID).Path(r.Path).Handler(http.NotFoundHandler())
	if name, wildcard := strings.CutPrefix(r.Host, "*."); wildcard {
		out.Host("{sub:.+}." + name)
	} else if r.Host != "" {
		out.Host(r.Host)
	}
	if len(r.Methods) > 0 {
		out.Methods(r.Methods...)
	}
	for _, m := range r.Headers {
		switch {
		case m.Present != nil:
			out.Headers(m.Name, "")
		case m.Regex != "":
			out.HeadersRegexp(m.Name, "^(?:"+m.Regex+")$")
		default:
			out.Headers(m.Name, m.Exact)
		}
	}
	for _, m := range r.Query {
		switch {
		case m.Present != nil:
			out.Queries(m.Name, "")
		case m.Regex != "":
			out.Queries(m.Name, "{v:"+m.Regex+"}")
		default:
			out.Queries(m.Name, m.Exact)
		}
	}
	if err := out.GetError(); err != nil {
		t.Fatalf("gorilla/mux refuses %+v: %v", r, err)
	}
}

func newRouter() *mux.Router { return mux.NewRouter().SkipClean(true).UseEncodedPath() }

func (r *fuzzRequest) http(t *testing.T, normal string) *http.Request {
	decoded, err := url.PathUnescape(normal)
	if err != nil {
		t.Fatal(err)
	}
	out := &http.Request{Method: r.method, Host: r.host, URL: &url.URL{Path: decoded, RawPath: normal, RawQuery: r.query}, Header: make(http.Header)}
	for name, value := range r.headers {
		out.Header.Set(name, value)
	}
	return out
}

// FuzzDifferential holds the table against gorilla/mux with the routes in
// priority order. Whether only the method is wrong is asked of a router per
// route: within one router a later route clears what an earlier one found.
func FuzzDifferential(f *testing.F) {
	for seed := range 64 {
		data := make([]byte, 160)
		state := uint32(seed*2654435761 + 1)
		for i := range data {
			state = state*1664525 + 1013904223
			data[i] = byte(state >> 24)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &choices{data: data}
		var routes []route.Route
		for i := range 1 + c.pick(8) {
			r := c.route(fmt.Sprintf("r%d", i), false)
			r.Priority = -i
			routes = append(routes, r)
		}
		// What is declared first must not matter to the table.
		shuffled := slices.Clone(routes)
		for i := range shuffled {
			j := c.pick(i + 1)
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		}
		table := newTable(t, shuffled...)
		all := newRouter()
		alone := make([]*mux.Router, len(routes))
		for i, r := range routes {
			addToMux(t, all, r)
			alone[i] = newRouter()
			addToMux(t, alone[i], r)
		}
		for range 4 {
			r := c.request(routes)
			normal, _, err := route.NormalisePath(nil, r.path)
			if err != nil {
				continue
			}
			index, _, result := table.Match(r.input(normal))
			got := fmt.Sprint(result)
			if result == route.Matched {
				got = shuffled[index].ID
			}
			var found mux.RouteMatch
			want := fmt.Sprint(route.NoRoute)
			if all.Match(r.http(t, normal), &found) && found.MatchErr == nil {
				want = found.Route.GetName()
			} else {
				for i := range alone {
					var single mux.RouteMatch
					alone[i].Match(r.http(t, normal), &single)
					if errors.Is(single.MatchErr, mux.ErrMethodMismatch) {
						want = fmt.Sprint(route.MethodNotAllowed)
					}
				}
			}
			if got != want {
				t.Fatalf("%+v (normal %q)\non %+v\ngot %s, gorilla/mux says %s", r, normal, routes, got, want)
			}
		}
	})
}

// FuzzOrder holds the table, "**" and equal priorities included, against
// tables of one and of two routes: the winner is a route that matches alone
// and that beats every other such route in a table of the two.
func FuzzOrder(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &choices{data: data}
		var routes []route.Route
		for i := range 1 + c.pick(8) {
			r := c.route(fmt.Sprintf("r%d", i), true)
			r.Priority = c.pick(2)
			routes = append(routes, r)
		}
		table := newTable(t, routes...)
		for range 4 {
			r := c.request(routes)
			normal, _, err := route.NormalisePath(nil, r.path)
			if err != nil {
				continue
			}
			in := r.input(normal)
			index, _, result := table.Match(in)
			for i := range routes {
				if _, _, alone := newTable(t, routes[i]).Match(in); alone != route.Matched {
					if i == index {
						t.Fatalf("%+v on %+v: %s wins and does not match alone", r, routes, routes[i].ID)
					}
					continue
				}
				if result != route.Matched {
					t.Fatalf("%+v on %+v: nothing wins, %s matches alone", r, routes, routes[i].ID)
				}
				if i == index {
					continue
				}
				if winner, _, _ := newTable(t, routes[i], routes[index]).Match(in); winner != 1 {
					t.Fatalf("%+v on %+v: %s wins, but %s beats it", r, routes, routes[index].ID, routes[i].ID)
				}
			}
		}
	})
}
