package main

import (
	"slices"
	"strings"
	"testing"
)

func TestDrain(t *testing.T) {
	edge := newStandIn(t, false)
	got := grayfed(t, "drain", "user-service/az1-v1", "user-service/az2-v1", "--edge", edge.URL)
	if got.code != 0 || got.stdout != "user-service/az1-v1 drains\nuser-service/az2-v1 drains\n" {
		t.Errorf("%+v", got)
	}
	want := []string{"POST /v1/services/user-service/instances/az1-v1/drain", "POST /v1/services/user-service/instances/az2-v1/drain"}
	edge.locked(func() {
		if !slices.Equal(edge.calls, want) {
			t.Errorf("calls are %v", edge.calls)
		}
	})
	for _, as := range []string{"json", "yaml"} {
		got = grayfed(t, "drain", "user-service/az1-v1", "--edge", edge.URL, "-o", as)
		if got.code != 0 {
			t.Errorf("%+v", got)
		}
		golden(t, "drain."+as, got.stdout)
	}

	// One that is not there does not keep the others from draining.
	got = grayfed(t, "drain", "user-service/none", "user-service/az2-v1", "--edge", edge.URL)
	if got.code != 1 || got.stdout != "user-service/az2-v1 drains\n" ||
		!strings.Contains(got.stderr, "user-service/none is not registered") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}
