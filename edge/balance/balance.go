// Package balance picks one endpoint of a list. It is pure but for the position
// of a round robin: random bits are arguments, weights travel with their
// endpoints, and what an endpoint can take its Runtime says.
package balance

import (
	"math/bits"

	"github.com/grayfed/grayfed/federation"
)

// Picker picks endpoints out of a list given to its constructor.
// Implementations are safe for concurrent use and do not allocate.
type Picker interface {
	// Pick returns a usable endpoint that is not in tried, nil when there is
	// none. rnd is 64 random bits.
	Pick(rnd uint64, tried []*federation.Endpoint) *federation.Endpoint
}

// candidate reports whether an endpoint can be picked. A tried endpoint is
// known by its instance, which a change of its health alone does not replace.
func candidate(e *federation.Endpoint, tried []*federation.Endpoint) bool {
	for _, t := range tried {
		if t.Instance == e.Instance {
			return false
		}
	}
	return e.Usable()
}

// weight is an endpoint's effective weight, at least 1: lists hold no endpoint
// that is to get nothing.
func weight(e *federation.Endpoint) uint64 { return uint64(max(1, e.EffectiveWeight())) }

// below scales random bits to 0..n-1 (Lemire's multiplication, whose bias of
// n/2^64 is nothing here).
func below(rnd, n uint64) uint64 {
	high, _ := bits.Mul64(rnd, n)
	return high
}

// next turns random bits into further ones: the output function of SplitMix64
// (Steele, Lea, Flood 2014).
func next(rnd uint64) uint64 {
	rnd += 0x9e3779b97f4a7c15
	rnd = (rnd ^ rnd>>30) * 0xbf58476d1ce4e5b9
	rnd = (rnd ^ rnd>>27) * 0x94d049bb133111eb
	return rnd ^ rnd>>31
}

// sample picks among all candidates of the list in proportion to their
// weights, in one pass: for when drawing did not find one.
func sample(endpoints []*federation.Endpoint, rnd uint64, tried []*federation.Endpoint) *federation.Endpoint {
	var picked *federation.Endpoint
	total := uint64(0)
	for _, e := range endpoints {
		if !candidate(e, tried) {
			continue
		}
		w := weight(e)
		total += w
		if rnd = next(rnd); below(rnd, total) < w {
			picked = e
		}
	}
	return picked
}
