package config_test

import (
	"reflect"
	"testing"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/rewrite"
)

func TestRewritesAreRead(t *testing.T) {
	documents, err := config.ReadDocuments("testdata/accepted/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]rewrite.Rule{
		"users": {
			Path: rewrite.Path{StripPrefix: "/api/v1"}, Host: rewrite.HostUpstream,
			Request: rewrite.Headers{
				Set:    []rewrite.Header{{Name: "X-Route", Value: "${route}"}, {Name: "X-Api-Key", Value: "cost: $$5"}},
				Add:    []rewrite.Header{{Name: "X-Seen-By", Value: "${edge}"}},
				Remove: []string{"X-Internal"},
			},
			Response: rewrite.Headers{
				Set: []rewrite.Header{{Name: "Strict-Transport-Security", Value: "max-age=31536000"}}, Remove: []string{"Server"},
			},
		},
		"orders-by-url": {Path: rewrite.Path{ReplacePrefix: &rewrite.Replacement{From: "/orders", To: "/internal/orders"}}},
		"external": {
			Path: rewrite.Path{Regex: &rewrite.Replacement{From: "/(ext)", To: "/$1"}}, Host: "api.example.net:443",
		},
		"by-address": {},
	}
	for _, r := range documents.Routes {
		if !reflect.DeepEqual(r.Rewrite, want[r.ID]) {
			t.Errorf("%s: %+v", r.ID, r.Rewrite)
		}
	}
}

// TestOrderOfHeadersIsNoDifference: a name stands once.
func TestOrderOfHeadersIsNoDifference(t *testing.T) {
	one := parse(t, `[{ id: a, path: /a, upstream: u, request_headers: { set: { X-A: a, X-B: b }, remove: [X-C, X-D] } }]`)
	other := parse(t, `[{ id: a, path: /a, upstream: u, request_headers: { remove: [x-d, x-c], set: { x-b: b, x-a: a } } }]`)
	if one.Hash != other.Hash {
		t.Error("another hash for the same content")
	}
}

func TestUpstreamsHost(t *testing.T) {
	for upstream, want := range map[string]rewrite.Host{
		"users":                     rewrite.HostUpstream,
		"http://users.test":         "users.test",
		"http://users.test:80":      "users.test",
		"http://users.test:443":     "users.test:443",
		"https://users.test":        "users.test",
		"https://users.test:80":     "users.test:80",
		"https://[2001:db8::1]":     "[2001:db8::1]",
		"http://[2001:db8::1]:8080": "[2001:db8::1]:8080",
	} {
		r := parse(t, `[{ id: a, path: /a, rewrite: { host: upstream }, upstream: "`+upstream+`" }]`).Routes[0]
		rule := r.UpstreamRewrite()
		if rule.Host != want || rule.Validate() != nil {
			t.Errorf("%s: %q, %v", upstream, rule.Host, rule.Validate())
		}
		if r.Rewrite.Host != rewrite.HostUpstream {
			t.Error("what the document says has changed")
		}
	}
}

func TestSampleRewrite(t *testing.T) {
	for _, test := range []struct{ path, rewrite, sample, upstream string }{
		{"/api/v1/users/{id}", "strip_prefix: /api/v1", "/api/v1/users/id", "/users/id"},
		{"/api/**", "strip_prefix: /api/v1", "/api/v1/more", "/more"},
		{"/api/{version:v[0-9]+}/**", "strip_prefix: /api", "/api/v1/more", "/v1/more"},
		{"", "replace_prefix: { from: /a, to: /b }", "/a/more", "/b/more"},
		{"/x", "replace_prefix: { from: /, to: /b }", "/x", "/b/x"},
		{"/users/{id:[0-9]+}", `regex: { from: "/users/([0-9]+)", to: /u/$1 }`, "/users/1", "/u/1"},
		{"/x", "host: upstream", "", ""},
	} {
		r := parse(t, `[{ id: a, path: "`+test.path+`", rewrite: { `+test.rewrite+` }, upstream: u }]`).Routes[0]
		sample, upstream, ok := r.SampleRewrite()
		if sample != test.sample || upstream != test.upstream || ok != (sample != "") {
			t.Errorf("%s by %s: %q, %q, %v", test.path, test.rewrite, sample, upstream, ok)
		}
	}
}
