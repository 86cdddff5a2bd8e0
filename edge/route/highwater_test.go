package route_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// weighed is a plan of one endpoint of the given weight here, fed with h.
func weighed(h *route.HighWater, now time.Time, weight int) *route.Plan {
	return route.NewPlan(route.PlanInput{
		Name: "s", HighWater: h, Now: now, Topology: &route.Topology{Zone: "az1"},
		View: &federation.ServiceView{Name: "s", Endpoints: []*federation.Endpoint{{
			Instance: &federation.Instance{
				Key: federation.Key{Service: "s", ID: "a"}, Locality: federation.Locality{Zone: "az1"}, Weight: weight,
			},
			Runtime: &runtime{},
		}}},
	})
}

func full(p *route.Plan) int { return p.Lanes[0].Groups[0].Full }

// TestHighWaterIsTheHighestOfTenMinutes compares with looking at the whole
// history, and asks Expired what a new plan would say.
func TestHighWaterIsTheHighestOfTenMinutes(t *testing.T) {
	type span struct {
		weight int
		until  time.Time // still registered then
	}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var h route.HighWater
		var history []span
		now := time.Unix(1000, 0)
		for range 300 {
			weight := rng.IntN(100)
			if len(history) > 0 {
				history[len(history)-1].until = now
			}
			history = append(history, span{weight: weight})
			got := full(weighed(&h, now, weight))
			lowest, highest := weight, weight // a step of ten seconds more or less
			for _, s := range history[:len(history)-1] {
				if age := now.Sub(s.until); age <= 10*time.Minute {
					lowest, highest = max(lowest, s.weight), max(highest, s.weight)
				} else if age <= 10*time.Minute+10*time.Second {
					highest = max(highest, s.weight)
				}
			}
			if got < lowest || got > highest {
				t.Fatalf("seed %d: at %s full is %d, want %d to %d", seed, now, got, lowest, highest)
			}
			now = now.Add(time.Duration(rng.Int64N(int64(90 * time.Second))))
			if !h.Expired(now) {
				// Nothing aged out: a plan made now is the same but for the time.
				copied := h
				if again := full(weighed(&copied, now, weight)); again != got {
					t.Fatalf("seed %d: at %s full went from %d to %d unannounced", seed, now, got, again)
				}
				h = copied
			}
		}
	}
}

func TestHighWaterExpires(t *testing.T) {
	var h route.HighWater
	start := time.Unix(1000, 0)
	if h.Expired(start) {
		t.Error("expired before anything was seen")
	}
	weighed(&h, start, 100)
	if h.Expired(start.Add(time.Hour)) {
		t.Error("what is still registered expired")
	}
	start = start.Add(time.Hour)
	if got := full(weighed(&h, start, 40)); got != 100 {
		t.Errorf("full is %d right after the loss, want 100", got)
	}
	if h.Expired(start.Add(10 * time.Minute)) {
		t.Error("expired within ten minutes")
	}
	late := start.Add(10*time.Minute + 10*time.Second)
	if !h.Expired(late) {
		t.Error("not expired after ten minutes and a step")
	}
	if got := full(weighed(&h, late, 40)); got != 40 {
		t.Errorf("full is %d after ten minutes, want 40", got)
	}
	if h.Expired(late.Add(time.Hour)) {
		t.Error("expired twice")
	}
}

func TestWithoutHighWaterPresentWeightIsFull(t *testing.T) {
	now := time.Unix(1000, 0)
	var h route.HighWater
	weighed(&h, now, 100)
	if with, without := full(weighed(&h, now, 40)), full(weighed(nil, now, 40)); with != 100 || without != 40 {
		t.Errorf("full is %d with and %d without, want 100 and 40", with, without)
	}
}

// TestForgottenReleaseStartsAnew: history goes with the release it is of.
func TestForgottenReleaseStartsAnew(t *testing.T) {
	in := benchPlan(100, 1)
	now := in.Now
	first := route.NewPlan(in)
	few := *in.View
	few.Endpoints = few.Endpoints[:20]
	in.View, in.Now = &few, now.Add(time.Second)
	if got := route.NewPlan(in); got.Lanes[1].Groups[0].Full != first.Lanes[1].Groups[0].Full {
		t.Errorf("lost canaries are forgotten: %d, want %d", got.Lanes[1].Groups[0].Full, first.Lanes[1].Groups[0].Full)
	}
	releases := in.Releases
	in.Releases = nil
	route.NewPlan(in)
	in.Releases = releases
	fresh := in
	fresh.HighWater = nil
	if got, want := route.NewPlan(in).Lanes[1], route.NewPlan(fresh).Lanes[1]; !reflect.DeepEqual(got, want) {
		t.Errorf("full is %d, want %d", got.Groups[0].Full, want.Groups[0].Full)
	}
}
