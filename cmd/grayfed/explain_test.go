package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
)

func TestExplain(t *testing.T) {
	edge := newStandIn(t, false)
	for _, as := range []string{"table", "json", "yaml"} {
		got := grayfed(t, "explain", "/api/v1/users/42?lang=en", "--edge", edge.URL, "-o", as, "--tag", "v2-beta",
			"--method", "POST", "--host", "api.example.com", "--header", "x-tenant: acme ", "--header", "x-empty:", "--client-ip", "10.0.0.9")
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("exit code %d: %s", got.code, got.stderr)
		}
		golden(t, "explain."+as, got.stdout)
		want := api.ExplainRequest{
			Method: "POST", Host: "api.example.com", Path: "/api/v1/users/42", Query: "lang=en", Tag: "v2-beta", ClientIP: "10.0.0.9",
			Headers: map[string]string{"x-tenant": "acme", "x-empty": ""},
		}
		edge.locked(func() {
			if !reflect.DeepEqual(edge.asked, want) {
				t.Errorf("asked %+v", edge.asked)
			}
		})
	}
}

func TestExplainWhatGoesNowhere(t *testing.T) {
	edge := newStandIn(t, false)
	for outcome, c := range map[string]struct {
		status int
		says   string
	}{
		api.OutcomeNoRoute:          {404, "is answered 404: no route matches"},
		api.OutcomeMethodNotAllowed: {405, "is answered 405"},
		api.OutcomeBadRequest:       {400, "is answered 400"},
		api.OutcomeUnavailable:      {503, "is answered 503: no rung has a usable instance"},
		"of-a-later-version":        {418, "of-a-later-version (418)"},
	} {
		edge.locked(func() {
			edge.explains = api.Explanation{Outcome: outcome, Status: c.status, Detail: "the detail", Reason: "the-reason"}
		})
		got := grayfed(t, "explain", "/x", "--edge", edge.URL)
		if got.code != 0 {
			t.Errorf("%s: exit code %d: %s", outcome, got.code, got.stderr)
		}
		for _, words := range []string{"GET /x\n", c.says, "the detail", "the-reason"} {
			if !strings.Contains(got.stdout, words) {
				t.Errorf("%s: %q is missing in\n%s", outcome, words, got.stdout)
			}
		}
	}
}
