package balance_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/federation"
)

const keys = 100_000

// owners is the endpoint of each key, by id, while nothing is in flight.
func owners(t testing.TB, list []*federation.Endpoint, o balance.RingOptions) []string {
	t.Helper()
	ring := balance.NewRing(list, o)
	ids := make([]string, keys)
	for key := range ids {
		e := ring.PickHash(keyHash(key), 0, nil)
		if e == nil {
			t.Fatal("nothing picked")
		}
		ids[key] = e.ID
	}
	return ids
}

func keyHash(key int) uint64 { return balance.HashKey(fmt.Sprintf("user-%d", key)) }

// moved is the percentage of keys with another owner, and how many of those
// neither left nor joined the endpoint in question.
func moved(before, after []string, id string) (percent float64, astray int) {
	n := 0
	for key := range before {
		if before[key] != after[key] {
			n++
			if before[key] != id && after[key] != id {
				astray++
			}
		}
	}
	return 100 * float64(n) / float64(len(before)), astray
}

func TestHashKeyIsTheSameEverywhere(t *testing.T) {
	// Edges of different versions and machines agree on these.
	for want, parts := range map[uint64][]string{
		0xc3817c016ba4ff30: nil,
		0xbdc261497787cb1a: {"user-1"},
		0xb628dab2cd6413ad: {"ab", "c"},
	} {
		if got := balance.HashKey(parts...); got != want {
			t.Errorf("%q hashes to %#x, want %#x", parts, got, want)
		}
	}
	if balance.HashKey("ab", "c") == balance.HashKey("a", "bc") {
		t.Error("parts flow into each other")
	}
	list := endpoints(100, 100, 100)
	ids := owners(t, list, balance.RingOptions{})
	if got := fmt.Sprint(ids[:8]); got != "[e2 e0 e0 e1 e2 e2 e2 e0]" {
		t.Errorf("the first keys go to %s", got)
	}
	// The order of the list means nothing.
	slices.Reverse(list)
	if !slices.Equal(ids, owners(t, list, balance.RingOptions{})) {
		t.Error("keys move with the order of the list")
	}
}

// TestRingSharesKeysByWeight within 1.5 percentage points: measured load is the
// adjuster's business.
func TestRingSharesKeysByWeight(t *testing.T) {
	for name, weights := range map[string][]int{
		"two":        same(2, 100),
		"ten":        same(10, 100),
		"hundred":    same(100, 1),
		"ratio":      {300, 100},
		"many kinds": {1000, 500, 200, 100, 100, 50, 1},
	} {
		list := endpoints(weights...)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		counts := make(map[string]int)
		for _, id := range owners(t, list, balance.RingOptions{}) {
			counts[id]++
		}
		for _, e := range list {
			share, due := float64(counts[e.ID])/keys, float64(e.Weight)/float64(sum)
			if math.Abs(share-due) > 0.015 {
				t.Errorf("%s: %s has %.2f%%, its weight is %.2f%%", name, e.ID, 100*share, 100*due)
			}
		}
	}
}

// TestOneThatGoesOrComesMovesOnlyItsKeys, at most its share and one percent.
func TestOneThatGoesOrComesMovesOnlyItsKeys(t *testing.T) {
	for _, weights := range [][]int{same(2, 100), same(5, 100), same(20, 100), same(100, 7), {1000, 500, 200, 100, 100, 50, 1}} {
		list := endpoints(weights...)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		before := owners(t, list, balance.RingOptions{})
		for _, i := range []int{0, len(list) / 2, len(list) - 1} {
			gone := list[i]
			without := slices.Delete(slices.Clone(list), i, i+1)
			after := owners(t, without, balance.RingOptions{})
			percent, astray := moved(before, after, gone.ID)
			if limit := 100*float64(gone.Weight)/float64(sum) + 1; percent > limit || astray != 0 {
				t.Errorf("%d endpoints, one of %d%% goes: %.2f%% of the keys move, %d between others", len(list), 100*gone.Weight/sum, percent, astray)
			}
			if percent == 0 && gone.Weight*100 > sum {
				t.Errorf("%d endpoints: nothing moves when %s goes", len(list), gone.ID)
			}
		}
	}
}

// TestAnyOneThatGoesMovesItsSlotsAlone, for weights of any kind, to the last
// slot.
func TestAnyOneThatGoesMovesItsSlotsAlone(t *testing.T) {
	bySlot := func(list []*federation.Endpoint) (ids [1 << 14]string) {
		ring := balance.NewRing(list, balance.RingOptions{})
		for slot := range ids {
			ids[slot] = ring.PickHash(uint64(slot)<<50, 0, nil).ID
		}
		return ids
	}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		weights := make([]int, 3+rng.IntN(6))
		for i := range weights {
			weights[i] = 1 + rng.IntN(1000)
			if rng.IntN(3) == 0 {
				weights[i] = 1
			}
		}
		list := endpoints(weights...)
		before := bySlot(list)
		i := rng.IntN(len(list))
		after := bySlot(slices.Delete(slices.Clone(list), i, i+1))
		for slot := range before {
			if before[slot] != after[slot] && before[slot] != list[i].ID {
				t.Fatalf("seed %d: weights %v, e%d goes: slot %d moves from %s to %s", seed, weights, i, slot, before[slot], after[slot])
			}
		}
	}
}

// TestChangedWeightMovesOnlyKeysOfItsEndpoint, as many as its share changes by.
func TestChangedWeightMovesOnlyKeysOfItsEndpoint(t *testing.T) {
	before := owners(t, endpoints(100, 200, 100, 400), balance.RingOptions{})
	for weight, due := range map[int]float64{210: 25 - 100.*210/810, 190: 25 - 100.*190/790, 400: 15, 100: 10.7} {
		percent, astray := moved(before, owners(t, endpoints(100, weight, 100, 400), balance.RingOptions{}), "e1")
		if math.Abs(percent-math.Abs(due)) > 0.7 || percent == 0 || astray != 0 {
			t.Errorf("weight %d: %.2f%% move, want about %.2f%%; %d between others", weight, percent, math.Abs(due), astray)
		}
	}
	// Nothing moves when all weights are multiplied alike.
	if percent, _ := moved(before, owners(t, endpoints(50, 100, 50, 200), balance.RingOptions{}), ""); percent != 0 {
		t.Errorf("all halved: %.2f%% move", percent)
	}
}

// TestCorrectionsMoveTheirSlots, those of endpoints that are not there move
// none, and an endpoint that goes still moves only its own keys.
func TestCorrectionsMoveTheirSlots(t *testing.T) {
	list := endpoints(same(4, 100)...)
	plain := owners(t, list, balance.RingOptions{})
	corrections := make(balance.Corrections)
	for slot := range uint32(1 << 14) {
		switch slot % 32 {
		case 0:
			corrections[slot] = "e2"
		case 1:
			corrections[slot] = "e9"
		}
	}
	corrected := owners(t, list, balance.RingOptions{Corrections: corrections})
	percent, astray := moved(plain, corrected, "e2")
	if math.Abs(percent-100*0.75/32) > 0.3 || astray != 0 {
		t.Errorf("%.2f%% move, %d astray", percent, astray)
	}
	for _, i := range []int{1, 2} {
		without := slices.Delete(slices.Clone(list), i, i+1)
		if _, astray := moved(corrected, owners(t, without, balance.RingOptions{Corrections: corrections}), list[i].ID); astray != 0 {
			t.Errorf("%s goes: %d keys move between others", list[i].ID, astray)
		}
	}
}

// TestUnusableEndpointIsWalkedPast: its keys go to the others by their weights,
// nobody else's move, and they come back.
func TestUnusableEndpointIsWalkedPast(t *testing.T) {
	list := endpoints(100, 100, 200, 100)
	before := owners(t, list, balance.RingOptions{})
	state(list[1]).full.Store(true)
	after := owners(t, list, balance.RingOptions{})
	taken := make(map[string]float64)
	lost := 0.0
	for key := range before {
		switch {
		case before[key] != "e1" && after[key] != before[key]:
			t.Fatalf("a key of %s goes to %s", before[key], after[key])
		case before[key] == "e1":
			taken[after[key]]++
			lost++
		}
	}
	for id, share := range map[string]float64{"e0": 0.25, "e1": 0, "e2": 0.5, "e3": 0.25} {
		if got := taken[id] / lost; math.Abs(got-share) > 0.05 {
			t.Errorf("%s takes %.1f%% of the lost keys, want about %.0f%%", id, 100*got, 100*share)
		}
	}
	state(list[1]).full.Store(false)
	if !slices.Equal(before, owners(t, list, balance.RingOptions{})) {
		t.Error("its keys did not come back")
	}
	// A request that tried its owner goes where it would without the owner.
	ring := balance.NewRing(list, balance.RingOptions{})
	for key := range 1000 {
		if first := ring.PickHash(keyHash(key), 0, nil); first == list[1] {
			if second := ring.PickHash(keyHash(key), 0, list[1:2]); second.ID != after[key] {
				t.Fatalf("the second try goes to %s, not %s", second.ID, after[key])
			}
		}
	}
}

// TestLoadIsBounded: however hot a key, no endpoint has more in flight than its
// bounded share.
func TestLoadIsBounded(t *testing.T) {
	for _, n := range []int{4, 50} {
		weights := same(n, 100)
		weights[1] = 300
		sum := 100*n + 200
		for _, bound := range []float64{0, 1.1, 2} {
			list := endpoints(weights...)
			ring := balance.NewRing(list, balance.RingOptions{Bound: bound})
			c := bound
			if c == 0 {
				c = balance.DefaultBound
			}
			rng := rand.New(rand.NewPCG(seed, 0))
			const requests = 2000
			for request := range requests {
				hash := keyHash(0)
				if request%2 == 0 {
					hash = rng.Uint64()
				}
				state(ring.PickHash(hash, rng.Uint64(), nil)).inFlight.Add(1)
			}
			for i, e := range list {
				most := math.Ceil(c * requests * float64(weights[i]) / float64(sum))
				if got := e.Runtime.InFlight(); float64(got) > most {
					t.Errorf("%d endpoints, bound %v: %s has %d in flight, may have %v", n, c, e.ID, got, most)
				}
			}
			// With nothing in flight, every key is its owner's again.
			owner := balance.NewRing(endpoints(weights...), balance.RingOptions{}).PickHash(keyHash(0), 0, nil)
			for _, e := range list {
				state(e).inFlight.Store(0)
			}
			if got := ring.PickHash(keyHash(0), 0, nil); got.ID != owner.ID {
				t.Errorf("the hot key stays at %s, its owner is %s", got.ID, owner.ID)
			}
		}
	}
}

// TestBoundRefusesNobody: when all that can be picked are above their bound,
// because others take nothing, the owner gets it.
func TestBoundRefusesNobody(t *testing.T) {
	list := endpoints(100, 100, 100, 100)
	for _, e := range list[1:] {
		state(e).full.Store(true)
	}
	state(list[0]).inFlight.Store(1000)
	ring := balance.NewRing(list, balance.RingOptions{})
	for key := range 1000 {
		if e := ring.PickHash(keyHash(key), 0, nil); e != list[0] {
			t.Fatalf("picked %v", e)
		}
	}
}

// TestRingPicksWhatCanBePicked: for any state of the list, exactly when there
// is one to pick.
func TestRingPicksWhatCanBePicked(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list := endpoints(same(rng.IntN(12), 1)...)
		if seed%20 == 0 {
			list = endpoints(same(3000, 1)...) // the one that can is not on the way
		}
		var tried []*federation.Endpoint
		able := 0
		for i, e := range list {
			e.Weight = 1 + rng.IntN(1000)
			state(e).inFlight.Store(int64(rng.IntN(3)))
			switch choice := rng.IntN(4); {
			case len(list) == 3000 && i != 1234, choice == 0:
				state(e).full.Store(true)
			case choice == 1 && len(tried) < 3:
				tried = append(tried, &federation.Endpoint{Instance: e.Instance, Runtime: e.Runtime})
			default:
				able++
			}
		}
		ring := balance.NewRing(list, balance.RingOptions{})
		for range 50 {
			hash := rng.Uint64()
			e := ring.PickHash(hash, rng.Uint64(), tried)
			if (e != nil) != (able > 0) {
				t.Fatalf("seed %d: picked %v, %d can be", seed, e, able)
			}
			if e == nil {
				continue
			}
			if !e.Usable() || slices.ContainsFunc(tried, func(t *federation.Endpoint) bool { return t.ID == e.ID }) {
				t.Fatalf("seed %d: picked %s, which is tried or not usable", seed, e.ID)
			}
			if len(list) <= 8 {
				if again := ring.PickHash(hash, rng.Uint64(), tried); again != e {
					t.Fatalf("seed %d: picked %s, then %s", seed, e.ID, again.ID)
				}
			}
		}
	}
}

func TestRingWithoutHashPicksByWeight(t *testing.T) {
	list := endpoints(100, 200, 300, 400)
	counts := picked(t, balance.NewRing(list, balance.RingOptions{}), rand.New(rand.NewPCG(seed, 0)), list, 100_000)
	for i, n := range counts {
		if due := float64(10_000 * (i + 1)); math.Abs(float64(n)-due) > 1500 {
			t.Errorf("endpoint %d was picked %d times, want about %.0f", i, n, due)
		}
	}
}

// TestSampleCounts what was asked since the last one, of whom it hashes to and
// over rings that replace each other.
func TestSampleCounts(t *testing.T) {
	list := endpoints(100, 100, 50)
	first := owners(t, list, balance.RingOptions{})
	ring := balance.NewRing(list, balance.RingOptions{})
	ask := func(n int) {
		for key := range n {
			ring.PickHash(keyHash(key), 0, nil)
		}
	}
	sampled := func() (counts map[string]uint32, total uint32) {
		counts = make(map[string]uint32)
		s := ring.Sample()
		for slot, picks := range s.Picks {
			counts[s.Endpoints[s.Owners[slot]].ID] += picks
			total += picks
		}
		return counts, total
	}
	ask(1000)
	ring.PickHash(keyHash(0), 0, list[:1]) // a retry
	want := make(map[string]uint32)
	for _, id := range first[:1000] {
		want[id]++
	}
	if got, _ := sampled(); !maps.Equal(got, want) {
		t.Fatalf("sampled %v, want %v", got, want)
	}
	ask(500)
	// A judgement on health makes new endpoints of the same weight; another
	// joins.
	for _, weights := range [][]int{{100, 100, 50}, {100, 100, 50, 10}} {
		again := endpoints(weights...)
		ring = balance.NewRing(again, balance.RingOptions{Previous: ring})
		if e := ring.PickHash(keyHash(1), 0, nil); !slices.Contains(again, e) {
			t.Fatal("an endpoint of the ring before is picked")
		}
	}
	state(list[0]).full.Store(true)
	ask(500)
	if _, got := sampled(); got != 1002 {
		t.Errorf("%d of 1002 are sampled over the changes", got)
	}
	if _, got := sampled(); got != 0 {
		t.Errorf("%d are sampled twice", got)
	}
}

func TestRingIsSafeForConcurrentUse(t *testing.T) {
	list := endpoints(same(20, 100)...)
	ring := balance.NewRing(list, balance.RingOptions{})
	var done sync.WaitGroup
	for worker := range uint64(4) {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 0))
			for range 5000 {
				e := ring.PickHash(uint64(rng.IntN(100))<<50, rng.Uint64(), nil)
				state(e).inFlight.Add(1)
				if rng.IntN(100) == 0 {
					ring.Sample()
				}
				state(e).inFlight.Add(-1)
			}
		})
	}
	done.Wait()
}

func TestRingPicksAllocateNothing(t *testing.T) {
	list := endpoints(same(20, 100)...)
	for _, e := range list {
		state(e).inFlight.Store(3)
	}
	var ring balance.HashPicker = balance.NewRing(list, balance.RingOptions{})
	user := "user-7"
	if n := testing.AllocsPerRun(1000, func() { ring.PickHash(balance.HashKey("cookie", user), 1, list[:1]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
