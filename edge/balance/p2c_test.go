package balance_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/grayfed/grayfed/edge/balance"
)

// TestP2CTakesTheLessLoaded: of two, always; by load relative to weight.
func TestP2CTakesTheLessLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		weights  []int
		inFlight [2]int64
		want     int
	}{
		"fewer in flight":               {[]int{100, 100}, [2]int64{5, 4}, 1},
		"more weight carries more":      {[]int{300, 100}, [2]int64{5, 2}, 0},
		"but not more than its measure": {[]int{300, 100}, [2]int64{7, 2}, 1},
		"idle beats any weight":         {[]int{1000, 1}, [2]int64{1, 0}, 1},
	} {
		list := endpoints(c.weights...)
		for i, n := range c.inFlight {
			state(list[i]).inFlight.Store(n)
		}
		p := balance.NewP2C(list)
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 100 {
			if got := p.Pick(rng.Uint64(), nil); got != list[c.want] {
				t.Errorf("%s: picked %s, want %s", name, got.ID, list[c.want].ID)
				break
			}
		}
	}
}

// TestP2CTiesAreBrokenAtRandom: with the same load relative to weight, both
// are picked, in proportion to weight.
func TestP2CTiesAreBrokenAtRandom(t *testing.T) {
	list := endpoints(300, 100)
	state(list[0]).inFlight.Store(6)
	state(list[1]).inFlight.Store(2)
	p := balance.NewP2C(list)
	near(t, "tie", picked(t, p, rand.New(rand.NewPCG(seed, 0)), list, 20_000), []float64{3, 1})
}

// TestP2CLooksAtTwo: with one of many much busier it is never picked, since
// any partner is better; and the worst but one only beside the worst.
func TestP2CLooksAtTwo(t *testing.T) {
	const n = 10
	list := endpoints(same(n, 100)...)
	for i, e := range list {
		state(e).inFlight.Store(int64(i))
	}
	p := balance.NewP2C(list)
	counts := picked(t, p, rand.New(rand.NewPCG(seed, 0)), list, 90_000)
	if counts[n-1] != 0 {
		t.Errorf("the busiest was picked %d times", counts[n-1])
	}
	// Endpoint i is the less loaded of 2(n-1-i) of the n(n-1) ordered pairs.
	want := make([]float64, n)
	for i := range want {
		want[i] = float64(2 * (n - 1 - i))
	}
	near(t, "pairs", counts, want)
}

// TestP2CLevelsLoad: under load each holds its share by weight, also with one
// endpoint down.
func TestP2CLevelsLoad(t *testing.T) {
	list := endpoints(400, 200, 100, 100)
	state(list[0]).full.Store(true)
	p := balance.NewP2C(list)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 4000 {
		state(p.Pick(rng.Uint64(), nil)).inFlight.Add(1)
	}
	var got []int64
	for _, e := range list {
		got = append(got, state(e).InFlight())
	}
	for i, want := range []int64{0, 2000, 1000, 1000} {
		if off := got[i] - want; off < -10 || off > 10 {
			t.Errorf("in flight %v, want about 0, 2000, 1000 and 1000", got)
			break
		}
	}
	if p.Pick(1, list[1:]) != nil {
		t.Error("picked though one is full and the others are tried")
	}
	if !slices.Contains(list[2:3], p.Pick(1, slices.Concat(list[:2], list[3:]))) {
		t.Error("did not find the only one left")
	}
}
