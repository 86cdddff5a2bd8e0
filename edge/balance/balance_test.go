package balance_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/federation"
)

// runtime is an endpoint's state on this edge.
type runtime struct {
	full     atomic.Bool
	inFlight atomic.Int64
}

func (r *runtime) InFlight() int64 { return r.inFlight.Load() }
func (r *runtime) Admits() bool    { return !r.full.Load() }
func (r *runtime) Close()          {}

// endpoints are healthy ones of the given weights, called e0, e1, ...
func endpoints(weights ...int) []*federation.Endpoint {
	list := make([]*federation.Endpoint, len(weights))
	for i, weight := range weights {
		list[i] = &federation.Endpoint{
			Instance: &federation.Instance{Key: federation.Key{Service: "s", ID: fmt.Sprintf("e%d", i)}, Weight: weight},
			Health:   federation.Health{Status: federation.Healthy, Percent: 100},
			Runtime:  &runtime{},
		}
	}
	return list
}

func same(n, weight int) []int { return slices.Repeat([]int{weight}, n) }

func state(e *federation.Endpoint) *runtime { return e.Runtime.(*runtime) }

// pickers has both policies over the same list.
func pickers(list []*federation.Endpoint) map[string]balance.Picker {
	return map[string]balance.Picker{
		"p2c":                  balance.NewP2C(list),
		"weighted round robin": balance.NewWeightedRoundRobin(list),
	}
}

// picked counts n picks by position in the list.
func picked(t *testing.T, p balance.Picker, rng *rand.Rand, list []*federation.Endpoint, n int) []int {
	t.Helper()
	counts := make([]int, len(list))
	for range n {
		e := p.Pick(rng.Uint64(), nil)
		if e == nil {
			t.Fatal("nothing picked")
		}
		counts[slices.Index(list, e)]++
	}
	return counts
}

// near fails unless the counts are as the weights have it, within five
// standard deviations.
func near(t *testing.T, what string, counts []int, weights []float64) {
	t.Helper()
	n, sum := 0.0, 0.0
	for i := range counts {
		n += float64(counts[i])
		sum += weights[i]
	}
	for i, count := range counts {
		p := weights[i] / sum
		if off := math.Abs(float64(count) - n*p); off > 5*math.Sqrt(n*p*(1-p)) {
			t.Errorf("%s: endpoint %d was picked %d times of %g, want %.0f", what, i, count, n, n*p)
		}
	}
}

const seed = 7

func TestIdleEndpointsAreSharedByWeight(t *testing.T) {
	t.Logf("seed %d", seed)
	for name, weights := range map[string][]int{
		"equal":      same(10, 100),
		"two":        {300, 100},
		"many kinds": {1000, 500, 200, 100, 100, 50, 1},
		"one down":   {300, 200, 100, 100},
	} {
		list := endpoints(weights...)
		want := make([]float64, len(weights))
		for i, weight := range weights {
			want[i] = float64(weight)
		}
		if name == "one down" {
			// Drawn pairs lose an endpoint, not its partner's share.
			list[0].Health.Status = federation.Unhealthy
			list, want = list[1:], want[1:]
		}
		for policy, p := range pickers(list) {
			near(t, name+", "+policy, picked(t, p, rand.New(rand.NewPCG(seed, 0)), list, 100_000), want)
		}
	}
}

func TestRecoveringEndpointsGetTheirPercentage(t *testing.T) {
	list := endpoints(1, 1, 1)
	list[2].Health = federation.Health{Status: federation.Recovering, Percent: 10}
	for policy, p := range pickers(list) {
		near(t, policy, picked(t, p, rand.New(rand.NewPCG(seed, 0)), list, 100_000), []float64{1, 1, 0.1})
	}
}

// TestOnlyUsableOnesThatWereNotTried: for any state of the list, an endpoint
// is picked exactly when there is one to pick.
func TestOnlyUsableOnesThatWereNotTried(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list := endpoints(same(rng.IntN(12), 1+rng.IntN(1000))...)
		var tried []*federation.Endpoint
		able := 0
		for _, e := range list {
			if rng.IntN(2) == 0 {
				e.Weight = 1 + rng.IntN(1000)
			}
			switch rng.IntN(6) {
			case 0:
				state(e).full.Store(true)
			case 1:
				e.Draining = true
			case 2:
				e.Health.Status = federation.Unhealthy
			case 3:
				// Tried under an earlier judgement of its health.
				tried = append(tried, &federation.Endpoint{Instance: e.Instance, Runtime: e.Runtime})
			default:
				able++
			}
		}
		for policy, p := range pickers(list) {
			for range 20 {
				e := p.Pick(rng.Uint64(), tried)
				if (e != nil) != (able > 0) {
					t.Fatalf("seed %d, %s: picked %v, %d can be", seed, policy, e, able)
				}
				if e != nil && (!e.Usable() || slices.ContainsFunc(tried, func(t *federation.Endpoint) bool { return t.ID == e.ID })) {
					t.Fatalf("seed %d, %s: picked %s, which is tried or not usable", seed, policy, e.ID)
				}
			}
		}
	}
}

// TestFewUsableAmongManyKeepTheirRatio: when drawing and turns both find
// nothing, those that remain still share by weight.
func TestFewUsableAmongManyKeepTheirRatio(t *testing.T) {
	list := endpoints(same(3000, 100)...)
	want := make([]float64, len(list))
	for i, e := range list {
		if e.Weight = 100; i%1000 != 500 {
			state(e).full.Store(true)
			continue
		}
		e.Weight = 1 + i/1000 // 1, 2 and 3
		want[i] = float64(e.Weight)
	}
	for policy, p := range pickers(list) {
		near(t, policy, picked(t, p, rand.New(rand.NewPCG(seed, 0)), list, 3000), want)
	}
}

func TestPicksAllocateNothing(t *testing.T) {
	list := endpoints(100, 200, 300, 1)
	state(list[2]).full.Store(true)
	rng := rand.New(rand.NewPCG(seed, 0))
	for policy, p := range pickers(list) {
		if allocated := testing.AllocsPerRun(1000, func() { p.Pick(rng.Uint64(), list[:1]) }); allocated != 0 {
			t.Errorf("%s: %g allocations a pick", policy, allocated)
		}
	}
}

// TestConcurrentPicks is for the race detector, and counts that no turn is
// given out twice.
func TestConcurrentPicks(t *testing.T) {
	list := endpoints(3, 2, 1)
	for policy, p := range pickers(list) {
		var counts [3]atomic.Int64
		var wg sync.WaitGroup
		for worker := range uint64(4) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, worker))
				for range 1500 {
					counts[slices.Index(list, p.Pick(rng.Uint64(), nil))].Add(1)
				}
			})
		}
		wg.Wait()
		got := []int{int(counts[0].Load()), int(counts[1].Load()), int(counts[2].Load())}
		if policy == "p2c" {
			near(t, policy, got, []float64{3, 2, 1})
		} else if !slices.Equal(got, []int{3000, 2000, 1000}) {
			t.Errorf("%s: %v, want exactly 3000, 2000 and 1000", policy, got)
		}
	}
}
