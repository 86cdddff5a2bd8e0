package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// benchPlan is a service of n endpoints in three zones, one in ten a canary,
// and releases that cover it.
func benchPlan(n, releases int) route.PlanInput {
	view := &federation.ServiceView{Name: "s"}
	for i := range n {
		zone := fmt.Sprintf("az%d", 1+i%3)
		version := "v1"
		if i%10 == 0 {
			version = fmt.Sprintf("canary-%d", i/10%releases)
		}
		view.Endpoints = append(view.Endpoints, &federation.Endpoint{
			Instance: &federation.Instance{
				Key:      federation.Key{Service: "s", ID: fmt.Sprintf("i%06d", i)},
				Locality: federation.Locality{Zone: zone, Region: "east"},
				Version:  version, Weight: 100,
			},
			Runtime: &runtime{},
		})
	}
	in := route.PlanInput{
		Name: "s", View: view,
		Service:   &federation.Service{Name: "s", Baseline: &federation.Selector{Version: "v1"}},
		Topology:  &route.Topology{Zone: "az1", Region: "east"},
		HighWater: &route.HighWater{},
		Now:       time.Unix(1000, 0),
	}
	for i := range releases {
		name := fmt.Sprintf("canary-%d", i)
		in.Releases = append(in.Releases, &federation.Release{
			Name: name, Fallback: federation.Permissive,
			Services: map[string]federation.Selector{"s": {Version: name}},
		})
	}
	return in
}

// BenchmarkNewPlan is what one change of a service costs.
func BenchmarkNewPlan(b *testing.B) {
	for _, size := range []struct{ endpoints, releases int }{{100, 1}, {10_000, 1}, {10_000, 100}} {
		b.Run(fmt.Sprintf("endpoints=%d/releases=%d", size.endpoints, size.releases), func(b *testing.B) {
			in := benchPlan(size.endpoints, size.releases)
			b.ReportAllocs()
			for b.Loop() {
				route.NewPlan(in)
			}
		})
	}
}

// BenchmarkUpdate is one registration in a service of 10,000, from the
// registry's event to the plan that requests are decided on.
func BenchmarkUpdate(b *testing.B) {
	in := benchPlan(10_000, 1)
	catalog := federation.NewCatalog(federation.CatalogOptions{
		Self:       "edge-1",
		NewRuntime: func(*federation.Instance) federation.Runtime { return &runtime{} },
	})
	var all []*federation.Instance
	for _, e := range in.View.Endpoints {
		all = append(all, e.Instance)
	}
	catalog.Replace(all, 1)
	b.ReportAllocs()
	for revision := int64(2); b.Loop(); revision++ {
		changed := *all[int(revision*7919)%len(all)]
		changed.Revision = revision
		catalog.Apply([]federation.Change{{Put: &changed, Revision: revision}}, revision)
		in.View = catalog.Snapshot().Service("s")
		if plan := route.NewPlan(in); plan.Groups != 6 {
			b.Fatalf("%d groups", plan.Groups)
		}
	}
}

// BenchmarkDecide is what the lane and the whole walk of one request cost.
func BenchmarkDecide(b *testing.B) {
	plan := route.NewPlan(benchPlan(10_000, 100))
	for _, tag := range []string{"", "canary-42", "canary-unknown"} {
		b.Run("tag="+tag, func(b *testing.B) {
			b.ReportAllocs()
			groups := 0
			for point := uint32(0); b.Loop(); point++ {
				d := plan.Decide(route.Ask{Tag: tag, TagCounts: true})
				ladder := d.LadderAvoiding(point, "az2")
				for _, _, ok := ladder.Next(); ok; _, _, ok = ladder.Next() {
					groups++
				}
			}
			if groups == 0 {
				b.Fatal("no group")
			}
		})
	}
}
