package edge

import (
	"reflect"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/rewrite"
)

// TestRewritesReachGatewayAndAPI: as documents say them, save that an
// upstream's host is the URL's where it is one.
func TestRewritesReachGatewayAndAPI(t *testing.T) {
	docs, err := config.ParseDocuments([]config.File{{Name: "routes.yaml", Data: []byte(`
- { id: a, path: /plain, upstream: users }
- id: b
  path: /api/**
  upstream: https://users.test
  rewrite: { replace_prefix: { from: /api, to: /v1 }, host: upstream }
  request_headers: { set: { X-Route: "${route}" }, add: { X-Edge: "${edge}" }, remove: [X-Internal] }
- { id: c, path: /c, upstream: users, rewrite: { host: upstream }, response_headers: { remove: [Server] } }
`)}})
	if err != nil {
		t.Fatal(err)
	}
	c := gatewayConfig(docs)
	for n, want := range []rewrite.Host{rewrite.HostKeep, "users.test", rewrite.HostUpstream} {
		if got := c.Routes[n].Rewrite; got.Host != want || !reflect.DeepEqual(got.Path, docs.Routes[n].Rewrite.Path) ||
			!reflect.DeepEqual(got.Request, docs.Routes[n].Rewrite.Request) || !reflect.DeepEqual(got.Response, docs.Routes[n].Rewrite.Response) {
			t.Errorf("%s: %+v", docs.Routes[n].ID, got)
		}
	}
	for n, want := range []api.Route{
		{},
		{
			Rewrite: &api.Rewrite{
				ReplacePrefix: &api.Replacement{From: "/api", To: "/v1"}, Host: "upstream",
				SamplePath: "/api/more", SampleUpstreamPath: "/v1/more",
			},
			RequestHeaders: &api.HeaderChanges{
				Set: map[string]string{"X-Route": "${route}"}, Add: map[string]string{"X-Edge": "${edge}"}, Remove: []string{"X-Internal"},
			},
		},
		{
			Rewrite:         &api.Rewrite{Host: "upstream"},
			ResponseHeaders: &api.HeaderChanges{Set: map[string]string{}, Add: map[string]string{}, Remove: []string{"Server"}},
		},
	} {
		shown := apiRoute(&docs.Routes[n])
		if !reflect.DeepEqual(shown.Rewrite, want.Rewrite) || !reflect.DeepEqual(shown.RequestHeaders, want.RequestHeaders) ||
			!reflect.DeepEqual(shown.ResponseHeaders, want.ResponseHeaders) {
			t.Errorf("%s: %+v", shown.ID, shown)
		}
	}
}
