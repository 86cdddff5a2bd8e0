package balance

import (
	"sync/atomic"

	"github.com/grayfed/grayfed/federation"
)

// WeightedRoundRobin gives each endpoint its turns in exact proportion to its
// effective weight, evenly spread.
//
// It is the static stride scheduler of gRPC's weighted_round_robin, with the
// highest weight in place of 65535 so that nothing is rounded: the list is gone
// through again and again, and in each round an endpoint has its turn when its
// running sum of weights passes a multiple of the highest. In as many rounds
// as the highest weight says, divided by what all weights have in common, each
// has as many turns as its own says. Turns of endpoints that cannot be picked
// are passed over without shifting those of the others, so the others keep
// their ratio. There is no lock: a turn is claimed by an atomic step.
type WeightedRoundRobin struct {
	endpoints []*federation.Endpoint
	turns     []turns
	rounds    uint64 // after which turns repeat: the highest weight
	// position counts the places of the list gone through; 0: not begun.
	position atomic.Uint64
}

type turns struct{ weight, offset uint64 }

var _ Picker = (*WeightedRoundRobin)(nil)

// NewWeightedRoundRobin keeps the list, which must not change.
func NewWeightedRoundRobin(endpoints []*federation.Endpoint) *WeightedRoundRobin {
	w := &WeightedRoundRobin{endpoints: endpoints, turns: make([]turns, len(endpoints))}
	for i, e := range endpoints {
		w.turns[i].weight = weight(e)
		w.rounds = max(w.rounds, w.turns[i].weight)
	}
	for i := range w.turns {
		// Multiples of the golden ratio spread endpoints of equal weight over
		// the rounds, however many they are.
		w.turns[i].offset = below(uint64(i)*0x9e3779b97f4a7c15, w.rounds)
	}
	return w
}

// maxPlaces bounds the places of one pick: with weights of very different size
// there are many places to a turn.
const maxPlaces = 1024

// Pick implements [Picker]. rnd decides which turn is the first; and when
// maxPlaces places have no turn of an endpoint that can be picked, it decides
// among all those in proportion to their weights.
func (w *WeightedRoundRobin) Pick(rnd uint64, tried []*federation.Endpoint) *federation.Endpoint {
	if len(w.endpoints) == 0 {
		return nil
	}
	if w.position.Load() == 0 {
		w.begin(rnd)
	}
	for range maxPlaces {
		place := w.position.Add(1)
		if e := w.turn(place); e != nil && candidate(e, tried) {
			return e
		}
	}
	return sample(w.endpoints, rnd, tried)
}

// turn is the endpoint whose turn it is at a place, nil when it is none's.
func (w *WeightedRoundRobin) turn(place uint64) *federation.Endpoint {
	n := uint64(len(w.endpoints))
	i, round := place%n, place/n%w.rounds
	if t := w.turns[i]; (t.weight*round+t.offset)%w.rounds < w.rounds-t.weight {
		return nil
	}
	return w.endpoints[i]
}

// begin draws places until one has a turn, so that any turn can be the first,
// as in Envoy and gRPC: else endpoints at the head of the list would gain from
// each new list, and from each edge. After maxPlaces draws any place will do.
func (w *WeightedRoundRobin) begin(rnd uint64) {
	places := uint64(len(w.endpoints)) * w.rounds
	place := below(rnd, places)
	for range maxPlaces {
		if w.turn(place) != nil {
			break
		}
		rnd = next(rnd)
		place = below(rnd, places)
	}
	// Some rounds later, so that the position before it is not 0.
	w.position.CompareAndSwap(0, place+2*places-1)
}
