package route_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// randomInput is any world: up to 12 zones and versions, selectors by version
// and tag, all states of endpoints.
func randomInput(rng *rand.Rand) route.PlanInput {
	zones, versions := 1+rng.IntN(12), 1+rng.IntN(12)
	in := route.PlanInput{
		Name: "users", View: &federation.ServiceView{Name: "users"},
		Topology: &route.Topology{Zone: "az3", Region: "region0", ZoneOrder: []string{"az7", "az5", "az9"}},
		Lost:     map[string]bool{fmt.Sprintf("az%d", rng.IntN(12)): rng.IntN(3) == 0},
		Now:      time.Unix(1000, 0),
	}
	for i := range rng.IntN(40) {
		zone := rng.IntN(zones)
		e := &federation.Endpoint{
			Instance: &federation.Instance{
				Key:      federation.Key{Service: "users", ID: fmt.Sprintf("i%03d", i)},
				Locality: federation.Locality{Zone: fmt.Sprintf("az%d", zone), Region: fmt.Sprintf("region%d", zone%3)},
				Version:  fmt.Sprintf("v%d", rng.IntN(versions)),
				Tags:     map[string]string{"team": fmt.Sprintf("t%d", rng.IntN(2))},
				Weight:   rng.IntN(federation.MaxWeight + 1),
				Draining: rng.IntN(6) == 0,
			},
			Runtime: &runtime{full: rng.IntN(4) == 0},
		}
		if rng.IntN(10) == 0 {
			e.Weight = 0
		}
		e.Health = federation.Health{Status: federation.HealthStatus(rng.IntN(4)), Percent: uint8(1 + rng.IntN(100))}
		in.View.Endpoints = append(in.View.Endpoints, e)
	}
	if rng.IntN(5) > 0 {
		in.Service = &federation.Service{Name: "users", Baseline: &federation.Selector{Version: "v0"}}
		if rng.IntN(2) == 0 {
			in.Service.ZoneCapacity = map[string]int{"az0": 1 + rng.IntN(5000), "az3": 1 + rng.IntN(5000)}
		}
	}
	for i := range rng.IntN(5) {
		r := &federation.Release{
			Name: fmt.Sprintf("r%d", i), Fallback: []federation.Fallback{federation.Strict, federation.Permissive}[rng.IntN(2)],
			Paused: rng.IntN(5) == 0, Services: map[string]federation.Selector{},
		}
		switch rng.IntN(4) {
		case 0:
		case 1:
			r.Services["users"] = federation.Selector{Tags: map[string]string{"team": "t1"}}
		case 2:
			r.Services["users"] = federation.Selector{Version: "v1", Tags: map[string]string{"team": "t0"}}
		default:
			r.Services["users"] = federation.Selector{Version: fmt.Sprintf("v%d", 1+rng.IntN(versions))}
		}
		in.Releases = append(in.Releases, r)
	}
	return in
}

func forWorlds(t *testing.T, check func(t *testing.T, rng *rand.Rand, in route.PlanInput)) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		in := randomInput(rng)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { check(t, rng, in) })
		if t.Failed() {
			return
		}
	}
}

// TestLanesHoldWhatIsSelected compares the one pass over the endpoints with
// asking each selector about each endpoint.
func TestLanesHoldWhatIsSelected(t *testing.T) {
	forWorlds(t, func(t *testing.T, _ *rand.Rand, in route.PlanInput) {
		plan := route.NewPlan(in)
		selectors := []federation.Selector{{}}
		for _, r := range in.Releases {
			if s, covers := r.Services["users"]; covers {
				selectors = append(selectors, s)
			}
		}
		if in.Service != nil {
			selectors[0] = *in.Service.Baseline
		} else if len(selectors) > 1 {
			selectors[0].Version = "nothing"
		}
		if len(plan.Lanes) != len(selectors) {
			t.Fatalf("%d lanes, want %d", len(plan.Lanes), len(selectors))
		}
		index := 0
		for i, lane := range plan.Lanes {
			want, got := lists{}, lists{}
			for _, e := range in.View.Endpoints {
				if !selectors[i].Matches(e.Instance) {
					continue
				}
				l := want[e.Zone]
				switch {
				case e.Draining:
					l.draining++
				case e.Weight == 0:
				case e.Health.Status == federation.Unhealthy:
					l.unhealthy = append(l.unhealthy, e.ID)
				default:
					l.eligible = append(l.eligible, e.ID)
				}
				want[e.Zone] = l
			}
			for _, g := range lane.Groups {
				if g.Index != index {
					t.Errorf("group %d has index %d", index, g.Index)
				}
				index++
				got[g.Zone] = list{eligible: ids(g.Endpoints), unhealthy: ids(g.Unhealthy), draining: g.Draining}
			}
			if !reflect.DeepEqual(want, got) {
				t.Errorf("lane %s:\nwant %v\n got %v", lane.Subset, want, got)
			}
		}
		if index != plan.Groups {
			t.Errorf("%d groups, the plan says %d", index, plan.Groups)
		}
	})
}

type list struct {
	eligible, unhealthy []string
	draining            int
}

type lists map[string]list

func ids(endpoints []*federation.Endpoint) (ids []string) {
	for _, e := range endpoints {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestSharesSumUp: all first choices are given out when there is an endpoint
// at all, none to a zone without one, and as Envoy's formula has it in floating
// point.
func TestSharesSumUp(t *testing.T) {
	forWorlds(t, func(t *testing.T, _ *rand.Rand, in route.PlanInput) {
		for i, lane := range route.NewPlan(in).Lanes {
			sum, endpoints := uint32(0), 0
			for _, g := range lane.Groups {
				sum += g.Share
				endpoints += len(g.Endpoints)
				if g.Share > 0 && len(g.Endpoints) == 0 {
					t.Errorf("lane %s: zone %s has a share of %d and no endpoint", lane.Subset, g.Zone, g.Share)
				}
			}
			if want := uint32(min(endpoints, 1) * 65536); sum != want {
				t.Errorf("lane %s: shares add up to %d, want %d", lane.Subset, sum, want)
			}
			load, total := priorityLoad(in, lane, i == 0)
			for j, want := range load {
				rounding := float64(len(lane.Groups)+1) * (1 + 65536/(1<<20*min(1, total)))
				if got := float64(lane.Groups[j].Share); math.Abs(got-want) > rounding {
					t.Errorf("lane %s: zone %s has a share of %g, want %g", lane.Subset, lane.Groups[j].Zone, got, want)
				}
			}
		}
	})
}

func priorityLoad(in route.PlanInput, lane *route.Lane, baseline bool) (load []float64, total float64) {
	health := make([]float64, len(lane.Groups))
	others := false
	for _, g := range lane.Groups {
		others = others || !g.Lost && len(g.Endpoints) > 0
	}
	for i, g := range lane.Groups {
		if g.Lost && others {
			continue
		}
		weight, full := 0.0, float64(g.Full)
		for _, e := range g.Endpoints {
			w := float64(e.Weight)
			if e.Health.Status == federation.Recovering {
				w *= float64(e.Health.Percent) / 100
			}
			weight += w
		}
		if baseline && in.Service != nil && in.Service.ZoneCapacity[g.Zone] > 0 {
			full = float64(in.Service.ZoneCapacity[g.Zone])
		}
		if weight > 0 {
			health[i] = min(1, 1.4*weight/full)
		}
		total += health[i]
	}
	load = make([]float64, len(health))
	rest := 1.0
	for i, h := range health {
		if h > 0 {
			load[i] = min(rest, h/min(1, total))
			rest -= load[i]
		}
		load[i] *= 65536
	}
	return load, total
}

// TestLadderWalksEachGroupOnce: all groups of the lane, each once, then all of
// the fallback; the first by its share, the avoided zone last of its lane.
func TestLadderWalksEachGroupOnce(t *testing.T) {
	forWorlds(t, func(t *testing.T, rng *rand.Rand, in route.PlanInput) {
		plan := route.NewPlan(in)
		for _, tag := range []string{"", "r0", "r1", "r2", "r3", "unknown"} {
			d := plan.Decide(route.Ask{Tag: tag, TagCounts: true})
			point, avoid := rng.Uint32(), []string{"", fmt.Sprintf("az%d", rng.IntN(12))}[rng.IntN(2)]
			want := walk(d.Lane, point, avoid)
			canaries := len(want)
			if d.Fallback != nil {
				want = append(want, walk(d.Fallback, point, avoid)...)
			}
			ladder := d.LadderAvoiding(point, avoid)
			for i, wanted := range want {
				g, rung, ok := ladder.Next()
				if !ok || g != wanted {
					t.Fatalf("tag %q avoiding %q: step %d is %v, want zone %s", tag, avoid, i, g, wanted.Zone)
				}
				if canary := rung == route.RungCanaryHere || rung == route.RungCanaryElsewhere; canary != (d.Canary && i < canaries) {
					t.Errorf("tag %q: step %d is on rung %s", tag, i, rung)
				}
				if here := rung == route.RungCanaryHere || rung == route.RungBaselineHere; here != (g.Zone == "az3") {
					t.Errorf("tag %q: zone %s is on rung %s", tag, g.Zone, rung)
				}
			}
			for range 2 {
				if g, rung, ok := ladder.Next(); ok || g != nil || rung != route.RungNone {
					t.Errorf("tag %q: the ladder goes on behind its end", tag)
				}
			}
			if d.Canary == (d.Lane == plan.Lanes[0]) || d.Canary != (d.Release != "") {
				t.Errorf("tag %q: canary %v of release %q", tag, d.Canary, d.Release)
			}
			checkPanicLadder(t, &d)
		}
	})
}

// walk is the order in which a lane's groups come, worked out with lists.
func walk(lane *route.Lane, point uint32, avoid string) []*route.Group {
	order, at := slices.Clone(lane.Groups), point%65536
	for i, g := range order {
		if at < g.Share {
			order = slices.Insert(slices.Delete(order, i, i+1), 0, g)
			break
		}
		at -= g.Share
	}
	if i := slices.IndexFunc(order, func(g *route.Group) bool { return g.Zone == avoid }); i == 0 {
		// The first is avoided: the rest is in ladder order.
		order = slices.DeleteFunc(slices.Clone(lane.Groups), func(g *route.Group) bool { return g.Zone == avoid })
		order = append(order, lane.Groups[slices.IndexFunc(lane.Groups, func(g *route.Group) bool { return g.Zone == avoid })])
	} else if i > 0 {
		g := order[i]
		order = append(slices.Delete(order, i, i+1), g)
	}
	return order
}

func checkPanicLadder(t *testing.T, d *route.Decision) {
	t.Helper()
	ladder := d.PanicLadder()
	for _, want := range d.Lane.Groups {
		if g, rung, ok := ladder.Next(); !ok || g != want || rung != route.RungPanic {
			t.Fatalf("panic comes to %v on rung %s, want zone %s", g, rung, want.Zone)
		}
	}
	if _, _, ok := ladder.Next(); ok {
		t.Error("panic leaves its lane")
	}
}

// TestUsableCanaryComesFirst: as long as any canary is usable, no baseline
// endpoint is found before it, whatever the point and the zone avoided.
func TestUsableCanaryComesFirst(t *testing.T) {
	forWorlds(t, func(t *testing.T, rng *rand.Rand, in route.PlanInput) {
		plan := route.NewPlan(in)
		for _, r := range in.Releases {
			selector, covers := r.Services["users"]
			if !covers || r.Paused {
				continue
			}
			usable := slices.ContainsFunc(in.View.Endpoints, func(e *federation.Endpoint) bool {
				return selector.Matches(e.Instance) && e.Usable() && e.Weight > 0
			})
			d := plan.Decide(route.Ask{Tag: r.Name, TagCounts: true})
			ladder := d.LadderAvoiding(rng.Uint32(), fmt.Sprintf("az%d", rng.IntN(12)))
			picked, took := firstUsable(&ladder)
			switch baseline := took >= route.RungBaselineHere; {
			case usable && (picked == nil || baseline):
				t.Errorf("release %s has a usable canary, but the request ends on rung %s", r.Name, took)
			case picked != nil && !baseline && !selector.Matches(picked.Instance):
				t.Errorf("release %s got an endpoint of version %s", r.Name, picked.Version)
			case r.Fallback == federation.Strict && baseline:
				t.Errorf("strict release %s ends on rung %s", r.Name, took)
			}
		}
	})
}

func firstUsable(ladder *route.Ladder) (*federation.Endpoint, route.Rung) {
	for g, rung, ok := ladder.Next(); ok; g, rung, ok = ladder.Next() {
		for _, e := range g.Endpoints {
			if e.Usable() {
				return e, rung
			}
		}
	}
	return nil, route.RungNone
}

// TestOrderIsStable: the same input makes the same plan, and health moves
// shares but never the ladder's order.
func TestOrderIsStable(t *testing.T) {
	forWorlds(t, func(t *testing.T, rng *rand.Rand, in route.PlanInput) {
		before := route.NewPlan(in)
		if !reflect.DeepEqual(before, route.NewPlan(in)) {
			t.Error("two plans of one input differ")
		}
		changed := &federation.ServiceView{Name: "users"}
		for _, e := range in.View.Endpoints {
			next := *e
			next.Health = federation.Health{Status: federation.HealthStatus(rng.IntN(4)), Percent: 50}
			changed.Endpoints = append(changed.Endpoints, &next)
		}
		in.View = changed
		after := route.NewPlan(in)
		for i, lane := range before.Lanes {
			for j, g := range lane.Groups {
				if now := after.Lanes[i].Groups[j]; now.Zone != g.Zone || now.Index != g.Index {
					t.Fatalf("health moved zone %s of lane %s", g.Zone, lane.Subset)
				}
			}
		}
	})
}
