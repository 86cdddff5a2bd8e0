package route_test

import (
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/route"
)

func TestValidTag(t *testing.T) {
	for tag, want := range map[string]bool{
		"v2-beta": true, "2": true, "a.b_c-d": true, strings.Repeat("a", 128): true,
		"": false, "-v2": false, "v2 beta": false, "v2,v3": false, "v2\x00": false, "vé": false, strings.Repeat("a", 129): false,
	} {
		if got := route.ValidTag(tag); got != want {
			t.Errorf("ValidTag(%q) = %v", tag, got)
		}
	}
}

func TestPanic(t *testing.T) {
	for _, c := range []struct {
		instances, unhealthy, threshold int
		want                            bool
	}{
		{0, 0, 50, false},
		{1, 1, 50, true},
		{1, 1, 0, false},
		{2, 1, 50, false},
		{3, 2, 50, true},
		{100, 50, 50, false},
		{100, 51, 50, true},
		{100, 0, 100, false},
		{100, 1, 100, true},
	} {
		if got := route.Panic(c.instances, c.unhealthy, c.threshold); got != c.want {
			t.Errorf("Panic(%d, %d, %d) = %v", c.instances, c.unhealthy, c.threshold, got)
		}
	}
}

// TestNames: each value has a name of its own, any other is unknown.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for rung := range route.Rung(route.RungCount) {
		if name := rung.String(); name == "" || seen[name] {
			t.Errorf("rung %d is called %q", rung, name)
		}
		seen[rung.String()] = true
	}
	for reason := range route.ReasonPanic + 1 {
		if name := reason.String(); name == "" || seen[name] && reason != route.ReasonPanic {
			t.Errorf("reason %d is called %q", reason, name)
		}
		seen[reason.String()] = true
	}
	if route.Rung(99).String() != "none" || route.Reason(99).String() != "unknown" {
		t.Error("a value out of range has a name")
	}
}

// TestDecideAllocatesNothing: the whole decision of a request.
func TestDecideAllocatesNothing(t *testing.T) {
	plan := route.NewPlan(benchPlan(100, 3))
	for _, tag := range []string{"", "canary-1", "unknown"} {
		allocated := testing.AllocsPerRun(100, func() {
			d := plan.Decide(route.Ask{Tag: tag, TagCounts: true})
			ladder := d.LadderAvoiding(77, "az1")
			for _, _, ok := ladder.Next(); ok; _, _, ok = ladder.Next() {
			}
			ladder = d.PanicLadder()
			for _, _, ok := ladder.Next(); ok; _, _, ok = ladder.Next() {
			}
		})
		if allocated != 0 {
			t.Errorf("tag %q: %g allocations", tag, allocated)
		}
	}
}
