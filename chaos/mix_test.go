package chaos

import (
	"testing"
	"time"
)

func testTarget(zones ...string) *Target {
	t := &Target{Name: "test", Request: Request{
		Path: "/api/v1/users/42", Baseline: "v1",
		Permissive: Release{"v2-beta", "v2-beta"}, Strict: Release{"v2-strict", "v2-beta"},
	}}
	for _, zone := range zones {
		t.Edges = append(t.Edges, Edge{Zone: zone, Standby: zone == "az3"})
	}
	return t
}

// TestPlannerDealsExactly: of every kind of request exactly its share is sent,
// in any long enough stretch.
func TestPlannerDealsExactly(t *testing.T) {
	target := testTarget("az1", "az2", "az3")
	target.DNS.Servers = []string{"127.0.0.1:1"}
	l := &Load{
		Rate: 100, Duration: time.Second,
		Streams: []Stream{{Via: ViaEdges, Share: 2, Edges: map[string]int{"az1": 1, "az3": 3}}, {Via: ViaDNS, Share: 1}, {Via: ViaEdges, Share: 1, TLS: true}},
		Mix:     Mix{Untagged: 5, Permissive: 3, Strict: 2, Posts: 20},
	}
	p := newPlanner(l, target)
	const n = 120_000
	counts := make(map[job]int)
	for range n {
		counts[p.next()]++
	}
	classes := map[class]float64{untagged: .5, permissive: .3, strict: .2}
	for _, lane := range []struct {
		edge  int
		tls   bool
		share float64
	}{
		{0, false, 2. / 4 * 1 / 4}, {1, false, 0}, {2, false, 2. / 4 * 3 / 4}, {-1, false, 1. / 4},
		{0, true, 1. / 12}, {1, true, 1. / 12}, {2, true, 1. / 12}, {-1, true, 0},
	} {
		for class, part := range classes {
			for post, half := range map[bool]float64{true: .2, false: .8} {
				want := n * lane.share * part * half
				got := float64(counts[job{lane.edge, lane.tls, class, post}])
				if got < want-4 || got > want+4 {
					t.Errorf("edge %d, tls %v, class %d, post %v: %v requests, want %v", lane.edge, lane.tls, class, post, got, want)
				}
			}
		}
	}
	// No DNS: its stream is left out, the others share.
	target.DNS.Servers = nil
	p = newPlanner(l, target)
	direct := 0
	for range 3000 {
		if p.next().edge < 0 {
			t.Fatal("a request by DNS, which the target has not")
		}
		direct++
	}
	if direct != 3000 {
		t.Errorf("%d requests", direct)
	}
}
