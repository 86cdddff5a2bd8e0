package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

func parse(t *testing.T, texts ...string) *config.Documents {
	t.Helper()
	documents, err := config.ParseDocuments(files(texts...))
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

func files(texts ...string) []config.File {
	var list []config.File
	for i, text := range texts {
		list = append(list, config.File{Name: string(rune('a'+i)) + ".yaml", Data: []byte(text)})
	}
	return list
}

func TestBareListMeansWhatItSays(t *testing.T) {
	documents, err := config.ReadDocuments("testdata/accepted/bare-list.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Route{{
		Route: route.Route{
			ID: "api-v1-users", Path: "/api/v1/users/**", Methods: []string{"GET", "POST"}, Service: "users-svc:8080",
		},
		Upstream:  config.UpstreamRef{Kind: config.UpstreamDNS, Text: "http://users-svc:8080", Host: "users-svc", Port: 8080},
		RateLimit: &ratelimit.Options{RPM: 1000, Burst: 200},
		Timeouts:  config.Timeouts{Idle: time.Minute, Total: 3 * time.Second},
		Retries:   config.Retries{Attempts: 1, On: []string{"gateway-error", "grpc-unavailable", "reset", "timeout"}},
		File:      "testdata/accepted/bare-list.yaml",
		Line:      1,
	}}
	if !reflect.DeepEqual(documents.Routes, want) {
		t.Errorf("got  %+v\nwant %+v", documents.Routes, want)
	}
	if len(documents.Warnings) > 0 {
		t.Errorf("warnings: %v", documents.Warnings)
	}
	if _, err := route.NewTable(documents.RouteTable()); err != nil {
		t.Error(err)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	documents, err := config.ReadDocuments("testdata/accepted/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := route.Route{
		ID: "users", Host: "*.example.com", Path: "/api/{version:v[0-9]+}/users/**", Methods: []string{"GET", "POST"},
		Headers:  []route.Match{{Name: "x-tenant", Exact: "acme"}, {Name: "x-beta", Present: &no}},
		Query:    []route.Match{{Name: "debug", Regex: "[01]"}, {Name: "lang", Exact: "en"}},
		Priority: 10, Service: "users", Tags: route.TagsTrusted, Explain: true,
	}
	byID := make(map[string]config.Route)
	for _, r := range documents.Routes {
		byID[r.ID] = r
	}
	users := byID["users"]
	if !reflect.DeepEqual(users.Route, want) {
		t.Errorf("got  %+v\nwant %+v", users.Route, want)
	}
	timeouts := config.Timeouts{
		Connect: 100 * time.Millisecond, TLS: 300 * time.Millisecond, Head: time.Second, PerTry: 2 * time.Second, Total: 10 * time.Second,
	}
	if users.Timeouts != timeouts || !reflect.DeepEqual(users.Retries, config.Retries{Attempts: 2, On: []string{"gateway-error", "reset"}}) ||
		!reflect.DeepEqual(users.Hash, []config.HashKey{{Cookie: "session"}, {ClientIP: true}}) || *users.RateLimit != (ratelimit.Options{RPM: 60}) {
		t.Errorf("policies: %+v", users)
	}
	for id, upstream := range map[string]struct {
		service string
		ref     config.UpstreamRef
	}{
		"users":         {"users", config.UpstreamRef{Kind: config.UpstreamService, Text: "users"}},
		"orders-by-url": {"orders", config.UpstreamRef{Kind: config.UpstreamService, Text: "http://orders:9999/"}},
		"external": {"api.example.net:443", config.UpstreamRef{
			Kind: config.UpstreamDNS, Text: "https://API.example.net", Host: "api.example.net", Port: 443, TLS: true,
		}},
		"by-address": {"[2001:db8::1]:8080", config.UpstreamRef{
			Kind: config.UpstreamDNS, Text: "http://[2001:db8::1]:8080", Host: "2001:db8::1", Port: 8080,
		}},
	} {
		if r := byID[id]; r.Service != upstream.service || r.Upstream != upstream.ref {
			t.Errorf("%s: service %q, %+v", id, r.Service, r.Upstream)
		}
	}
	service := &federation.Service{
		Name: "users", Baseline: &federation.Selector{Version: "v1", Tags: map[string]string{"track": "stable"}},
		ZoneCapacity: map[string]int{"az1": 400, "az2": 300}, HealthPath: "/ready",
	}
	if len(documents.Services) != 2 || !reflect.DeepEqual(documents.Services[1], service) {
		t.Errorf("services: %+v", documents.Services)
	}
	steady, _ := breaker.Profile("steady")
	for name, want := range map[string]config.ServicePolicy{
		"users": {
			Balance: config.BalanceHash, Hash: []config.HashKey{{Header: "x-user"}, {Query: "user"}}, LoadBound: 1.5,
			MaxRequests: 500, MaxServiceRequests: 2000, Queue: config.Queue{Size: 100, Timeout: 250 * time.Millisecond},
			Breaker:  &breaker.Options{FailureRatio: 0.5, MinRequests: 8, OpenFor: 5 * time.Second, Window: 20 * time.Second, Trials: 2},
			Timeouts: config.Timeouts{Connect: 50 * time.Millisecond, TLS: 300 * time.Millisecond, Idle: time.Minute, Total: 5 * time.Second},
		},
		"orders": {
			Balance: config.BalanceWeighted, MaxRequests: 10, Queue: config.Queue{Size: 1, Timeout: time.Second}, Breaker: &steady,
			Timeouts: config.Timeouts{Idle: time.Minute, Total: 3 * time.Second},
		},
	} {
		if p := documents.Policy(name); !reflect.DeepEqual(p, want) {
			t.Errorf("policy of %s: %+v, want %+v", name, p, want)
		}
	}
	if p := documents.Policy("nobody"); !reflect.DeepEqual(p, config.DefaultServicePolicy()) {
		t.Errorf("policy of an undeclared service: %+v", p)
	}
	v2 := federation.Selector{Version: "v2"}
	release := &federation.Release{
		Name: "v2-beta", Services: map[string]federation.Selector{"users": v2, "orders": v2},
		Fallback: federation.Permissive, Paused: true,
	}
	if len(documents.Releases) != 1 || !reflect.DeepEqual(documents.Releases[0], release) {
		t.Errorf("releases: %+v", documents.Releases)
	}
}

func TestReleaseIsStrictUnlessItSaysOtherwise(t *testing.T) {
	documents := parse(t, `
- { apiVersion: grayfed/v1, kind: Service, metadata: { name: s }, spec: { baseline: { version: v1 } } }
- { apiVersion: grayfed/v1, kind: Release, metadata: { name: r }, spec: { services: { s: { version: v2 } } } }
`)
	if r := documents.Releases[0]; r.Fallback != federation.Strict || r.Paused {
		t.Errorf("%+v", r)
	}
}

const (
	hashRoutes = `
- { id: a, path: /a, methods: [GET, POST], upstream: s, headers: [{ name: X-A, exact: "1" }, { name: x-b, exact: "2" }] }
- { id: b, path: /b, upstream: "http://x" }
`
	hashService = `
apiVersion: grayfed/v1
kind: Service
metadata: { name: s }
spec: { baseline: { version: v1, tags: { a: b, c: d } } }
`
	hashRelease = `
apiVersion: grayfed/v1
kind: Release
metadata: { name: r }
spec: { services: { s: { version: v2 } } }
`
)

func TestHashDependsOnContentAlone(t *testing.T) {
	base := parse(t, hashRoutes, hashService, hashRelease)
	if len(base.Hash) != 32 {
		t.Errorf("hash %q", base.Hash)
	}
	for name, same := range map[string]*config.Documents{
		"order of files": parse(t, hashRelease, hashService, hashRoutes),
		"one file":       parse(t, hashRelease+"---"+hashService+"---"+hashRoutes),
		"comments":       parse(t, "# a comment\n"+hashRoutes, hashService, hashRelease),
		"spelling": parse(t, `
- apiVersion: grayfed/v1
  kind: Route
  metadata: { name: b }
  spec: { upstream: 'http://X:80/', path: /b, priority: 0, retries: { attempts: 1 }, timeouts: { total: 3000ms } }
- id: a
  headers: { x-b: "2", x-a: "1" }
  path: /a
  methods: [POST, GET, GET]
  upstream: http://s:1234
`, strings.Replace(hashService, "a: b, c: d", `"c": d, a: "b"`, 1), strings.Replace(hashRelease, "spec: {", "spec: { fallback: strict, paused: false,", 1)),
	} {
		if same.Hash != base.Hash {
			t.Errorf("%s: another hash for the same content", name)
		}
		if changes := config.Diff(base, same); !changes.Empty() {
			t.Errorf("%s: %+v", name, changes)
		}
	}
	seen := map[string]string{base.Hash: "nothing changed"}
	for _, change := range []struct{ in, from, to string }{
		{hashRoutes, "path: /a", "path: /aa"},
		{hashRoutes, "id: a", "id: aa"},
		{hashRoutes, "GET, POST", "GET"},
		{hashRoutes, `exact: "1"`, `exact: "2"`},
		{hashRoutes, `exact: "1"`, `regex: "1"`},
		{hashRoutes, "upstream: s", "upstream: t"},
		{hashRoutes, "http://x", "https://x:80"},
		{hashRoutes, "path: /b,", "path: /b, priority: 1,"},
		{hashRoutes, "path: /b,", "path: /b, host: h,"},
		{hashRoutes, "path: /b,", "path: /b, tags: trusted,"},
		{hashRoutes, "path: /b,", "path: /b, explain: true,"},
		{hashRoutes, "path: /b,", "path: /b, rate_limit: { rpm: 1 },"},
		{hashRoutes, "path: /b,", "path: /b, timeouts: { total: 1s },"},
		{hashRoutes, "path: /b,", "path: /b, timeouts: { per_try: 1s },"},
		{hashRoutes, "path: /b,", "path: /b, timeouts: { tls: 1s },"},
		{hashRoutes, "path: /b,", "path: /b, retries: { attempts: 0 },"},
		{hashRoutes, "path: /b,", "path: /b, retries: { on: [reset] },"},
		{hashRoutes, "path: /b,", "path: /b, query: { a: b },"},
		{hashRoutes, "path: /b,", "path: /b, rewrite: { strip_prefix: /b },"},
		{hashRoutes, "path: /b,", "path: /b, rewrite: { replace_prefix: { from: /b, to: /c } },"},
		{hashRoutes, "path: /b,", "path: /b, rewrite: { replace_prefix: { from: /b, to: /d } },"},
		{hashRoutes, "path: /b,", "path: /b, rewrite: { regex: { from: /b, to: /c } },"},
		{hashRoutes, "path: /b,", "path: /b, rewrite: { host: upstream },"},
		{hashRoutes, "path: /b,", "path: /b, request_headers: { set: { x: a } },"},
		{hashRoutes, "path: /b,", "path: /b, request_headers: { set: { x: b } },"},
		{hashRoutes, "path: /b,", "path: /b, request_headers: { add: { x: a } },"},
		{hashRoutes, "path: /b,", "path: /b, request_headers: { remove: [x] },"},
		{hashRoutes, "path: /b,", "path: /b, response_headers: { set: { x: a } },"},
		{hashService, "a: b", "a: c"},
		{hashService, "spec: {", "spec: { balance: weighted-round-robin,"},
		{hashService, "spec: {", "spec: { balance: consistent-hash, hash: [{ header: h }],"},
		{hashService, "spec: {", "spec: { balance: consistent-hash, hash: [{ cookie: h }],"},
		{hashService, "spec: {", "spec: { balance: consistent-hash, hash: [{ cookie: h }], load_bound: 2,"},
		{hashService, "spec: {", "spec: { breaker: steady,"},
		{hashService, "spec: {", "spec: { timeouts: { total: 1s },"},
		{hashService, "spec: {", "spec: { limits: { max_requests: 1 },"},
		{hashService, "spec: {", "spec: { limits: { max_service_requests: 1 },"},
		{hashService, "spec: {", "spec: { limits: { max_requests: 1, queue: { size: 1 } },"},
		{hashService, "spec: {", "spec: { health_path: /h,"},
		{hashService, "spec: {", "spec: { probe: grpc,"},
		{hashService, "spec: {", "spec: { zone_capacity: { z: 1 },"},
		{hashRelease, "version: v2", "version: v3"},
		{hashRelease, "spec: {", "spec: { fallback: permissive,"},
		{hashRelease, "spec: {", "spec: { paused: true,"},
	} {
		texts := []string{hashRoutes, hashService, hashRelease}
		for i := range texts {
			if texts[i] == change.in {
				texts[i] = strings.Replace(change.in, change.from, change.to, 1)
			}
		}
		changed := parse(t, texts...)
		if other, taken := seen[changed.Hash]; taken {
			t.Errorf("%s has the hash of %s", change.to, other)
		}
		seen[changed.Hash] = change.to
		if config.Diff(base, changed).Empty() {
			t.Errorf("%s is no difference", change.to)
		}
	}
}

// What a route does not say its service does, so that a service's change is its
// routes' as well.
func TestServiceTimeoutsAreItsRoutes(t *testing.T) {
	routes := `
- { id: own, path: /own, upstream: s, timeouts: { total: 9s, idle: 0 } }
- { id: none, path: /none, upstream: s }
- { id: other, path: /other, upstream: t }
`
	before := parse(t, routes, hashService)
	after := parse(t, routes, strings.Replace(hashService, "spec: {", "spec: { timeouts: { total: 1s, head: 500ms },", 1))
	for id, want := range map[string]config.Timeouts{
		"own":   {Head: 500 * time.Millisecond, Total: 9 * time.Second},
		"none":  {Head: 500 * time.Millisecond, Idle: time.Minute, Total: time.Second},
		"other": {Idle: time.Minute, Total: 3 * time.Second},
	} {
		for _, r := range after.Routes {
			if r.ID == id && r.Timeouts != want {
				t.Errorf("%s: %+v, want %+v", id, r.Timeouts, want)
			}
		}
	}
	want := []config.Ref{{Kind: config.KindRoute, Name: "none"}, {Kind: config.KindRoute, Name: "own"}, {Kind: config.KindService, Name: "s"}}
	if got := config.Diff(before, after); !reflect.DeepEqual(got.Changed, want) || len(got.Added)+len(got.Removed) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestDiff(t *testing.T) {
	older := parse(t, hashRoutes, hashService, hashRelease)
	newer := parse(t, strings.Replace(hashRoutes, "id: b", "id: c", 1), strings.Replace(hashService, "a: b", "a: z", 1))
	want := config.Changes{
		Added:   []config.Ref{{Kind: config.KindRoute, Name: "c"}},
		Changed: []config.Ref{{Kind: config.KindService, Name: "s"}},
		Removed: []config.Ref{{Kind: config.KindRelease, Name: "r"}, {Kind: config.KindRoute, Name: "b"}},
	}
	if got := config.Diff(older, newer); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := config.Diff(nil, older); len(got.Added) != 4 || len(got.Changed)+len(got.Removed) != 0 {
		t.Errorf("from nothing: %v", got)
	}
	if got := config.Diff(older, nil); len(got.Removed) != 4 {
		t.Errorf("to nothing: %v", got)
	}
}

// TestDeclaringAServiceTakesItsURLs: the route's text stays, its upstream
// becomes another.
func TestDeclaringAServiceTakesItsURLs(t *testing.T) {
	const routes = `[{ id: a, path: /a, upstream: "http://s:8080" }]`
	before, after := parse(t, routes), parse(t, routes, hashService)
	if r := before.Routes[0]; r.Upstream.Kind != config.UpstreamDNS || r.Service != "s:8080" {
		t.Errorf("undeclared: %+v", r)
	}
	if r := after.Routes[0]; r.Upstream.Kind != config.UpstreamService || r.Service != "s" {
		t.Errorf("declared: %+v", r)
	}
	if got := config.Diff(before, after); len(got.Changed) != 1 {
		t.Errorf("%v", got)
	}
}

func TestAllProblemsOfAllFilesAreReported(t *testing.T) {
	_, err := config.ParseDocuments(files("- { id: a, path: x, upstream: u }", "- { id: a, path: /, upstream: 'http://' }", "]"))
	if err == nil {
		t.Fatal("accepted")
	}
	text := err.Error()
	for _, want := range []string{`a.yaml:1:18: [0].path: found "x"`, `b.yaml:1:9: [0].id: found Route "a" again`, `b.yaml:1:31: [0].upstream: found "http://"`, "c.yaml: found a syntax error"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestUnreadablePaths(t *testing.T) {
	folder := t.TempDir()
	large := folder + "/large.yaml"
	if err := os.WriteFile(large, make([]byte, config.MaxFileSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		folder + "/none.yaml": "none.yaml: found no such file or directory, allowed a file or folder",
		large:                 "large.yaml: found more than 16777216 bytes, allowed at most 16 MiB",
	} {
		if _, err := config.ReadDocuments(path); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v", err)
		}
		if _, err := config.LoadProcess(path); err == nil || !strings.Contains(err.Error(), "found ") {
			t.Errorf("%v", err)
		}
	}
}

// TestDocumentsAreNotSettings and the other way round.
func TestDocumentsAreNotSettings(t *testing.T) {
	if _, err := config.ReadDocuments("testdata/accepted/edge.yaml"); err == nil || !strings.Contains(err.Error(), "found process settings") {
		t.Errorf("settings as documents: %v", err)
	}
	if _, err := config.LoadProcess("testdata/accepted/bare-list.yaml"); err == nil || !strings.Contains(err.Error(), "found a list, allowed a mapping") {
		t.Errorf("documents as settings: %v", err)
	}
}
