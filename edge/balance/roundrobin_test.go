package balance_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/federation"
)

// TestRoundRobinIsExactOverAPeriod: wherever it begins, one period has each
// endpoint as often as its weight says, divided by the common factor.
func TestRoundRobinIsExactOverAPeriod(t *testing.T) {
	for name, c := range map[string]struct {
		weights []int
		down    int // position, -1: none
		percent uint8
		want    []int
	}{
		"equal":                {weights: []int{100, 100, 100}, down: -1, want: []int{1, 1, 1}},
		"one":                  {weights: []int{250}, down: -1, want: []int{1}},
		"ratio":                {weights: []int{500, 100, 200}, down: -1, want: []int{5, 1, 2}},
		"no common factor":     {weights: []int{7, 5, 3}, down: -1, want: []int{7, 5, 3}},
		"far apart":            {weights: []int{1000, 1}, down: -1, want: []int{1000, 1}},
		"heaviest down":        {weights: []int{500, 100, 200}, down: 0, want: []int{0, 1, 2}},
		"first of four down":   {weights: []int{100, 300, 200, 100}, down: 0, want: []int{0, 3, 2, 1}},
		"middle of four down":  {weights: []int{100, 300, 200, 100}, down: 1, want: []int{1, 0, 2, 1}},
		"last of four down":    {weights: []int{100, 300, 200, 100}, down: 3, want: []int{1, 3, 2, 0}},
		"last recovers at 25%": {weights: []int{100, 200, 100}, down: -1, percent: 25, want: []int{4, 8, 1}},
		"recovers at 1%":       {weights: []int{1, 1}, down: -1, percent: 1, want: []int{100, 1}},
		"recovers, one down":   {weights: []int{100, 200, 100}, down: 0, percent: 50, want: []int{0, 4, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			list := endpoints(c.weights...)
			if c.down >= 0 {
				state(list[c.down]).full.Store(true)
			}
			if c.percent > 0 {
				list[len(list)-1].Health = federation.Health{Status: federation.Recovering, Percent: c.percent}
			}
			period := 0
			for _, n := range c.want {
				period += n
			}
			for begin := range uint64(50) {
				rng := rand.New(rand.NewPCG(begin, 0))
				p := balance.NewWeightedRoundRobin(list)
				for round := range 3 {
					if got := picked(t, p, rng, list, period); !slices.Equal(got, c.want) {
						t.Fatalf("seed %d: period %d has %v, want %v", begin, round, got, c.want)
					}
				}
			}
		})
	}
}

// TestRoundRobinIsSmooth: an endpoint's turns are spread over the period; no
// stretch of it has more of them than its share, but for one turn in each
// direction.
func TestRoundRobinIsSmooth(t *testing.T) {
	weights := []int{5, 3, 1, 1}
	list := endpoints(weights...)
	p := balance.NewWeightedRoundRobin(list)
	var order []int
	for range 40 {
		order = append(order, slices.Index(list, p.Pick(seed, nil)))
	}
	for i, weight := range weights {
		for from := range order {
			turns := 0
			for length := 1; from+length <= len(order); length++ {
				if order[from+length-1] == i {
					turns++
				}
				share := float64(weight*length) / 10
				if off := float64(turns) - share; off > 2 || off < -2 {
					t.Fatalf("endpoint %d has %d turns of %d in a row from %d, want about %.1f: %v", i, turns, length, from, share, order)
				}
			}
		}
	}
}

// TestRoundRobinSpreadsLightOnes: turns of many light endpoints do not come in
// one burst between two turns of a heavy one.
func TestRoundRobinSpreadsLightOnes(t *testing.T) {
	list := endpoints(append(same(20, 1), 100)...)
	p := balance.NewWeightedRoundRobin(list)
	light := 0
	for range 240 {
		if p.Pick(seed, nil) == list[20] {
			light = 0
		} else if light++; light > 2 {
			t.Fatalf("%d light ones in a row", light)
		}
	}
}

// TestRoundRobinBeginsAnywhere: new lists, made at each change, do not favour
// those at their head.
func TestRoundRobinBeginsAnywhere(t *testing.T) {
	list := endpoints(100, 300, 100, 500)
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := make([]int, len(list))
	for range 20_000 {
		counts[slices.Index(list, balance.NewWeightedRoundRobin(list).Pick(rng.Uint64(), nil))]++
	}
	near(t, "first picks", counts, []float64{1, 3, 1, 5})
}
