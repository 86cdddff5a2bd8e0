package balance_test

import (
	"fmt"
	"testing"

	"github.com/grayfed/grayfed/edge/balance"
)

// BenchmarkPick is one pick by length of the list; "mixed" weights are 50, 100
// and 150.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		mixed := make([]int, n)
		for i := range mixed {
			mixed[i] = 50 * (1 + i%3)
		}
		for weights, list := range map[string][]int{"equal": same(n, 100), "mixed": mixed} {
			policies := pickers(endpoints(list...))
			policies["ring"] = balance.NewRing(endpoints(list...), balance.RingOptions{})
			for policy, p := range policies {
				b.Run(fmt.Sprintf("%s/endpoints=%d/%s", policy, n, weights), func(b *testing.B) {
					b.ReportAllocs()
					rnd := uint64(1)
					for b.Loop() {
						rnd = rnd*6364136223846793005 + 1442695040888963407
						if p.Pick(rnd, nil) == nil {
							b.Fatal("nothing picked")
						}
					}
				})
			}
		}
	}
}

// BenchmarkNew is what a changed list of 10,000 endpoints costs.
func BenchmarkNew(b *testing.B) {
	list := endpoints(same(10_000, 100)...)
	list[5000].Weight = 50
	b.Run("p2c", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			balance.NewP2C(list)
		}
	})
	b.Run("weighted round robin", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			balance.NewWeightedRoundRobin(list)
		}
	})
	b.Run("ring", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			balance.NewRing(list, balance.RingOptions{})
		}
	})
	b.Run("ring of the same", func(b *testing.B) {
		previous := balance.NewRing(list, balance.RingOptions{})
		b.ReportAllocs()
		for b.Loop() {
			balance.NewRing(list, balance.RingOptions{Previous: previous})
		}
	})
}

// BenchmarkRingUnderLoad is a pick whose owner has to be held against its
// bound.
func BenchmarkRingUnderLoad(b *testing.B) {
	for _, n := range []int{8, 100} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			list := endpoints(same(n, 100)...)
			for _, e := range list {
				state(e).inFlight.Store(10)
			}
			ring := balance.NewRing(list, balance.RingOptions{})
			b.ReportAllocs()
			rnd := uint64(1)
			for b.Loop() {
				rnd = rnd*6364136223846793005 + 1442695040888963407
				ring.PickHash(rnd, rnd, nil)
			}
		})
	}
}
