package balance

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of RingOptions.Bound.
const (
	DefaultBound = 1.25
	MinBound     = 1.05
	MaxBound     = 100.0
)

// RingOptions describe a [Ring].
type RingOptions struct {
	// Bound is how many times its share of the requests in flight an endpoint
	// may have before what hashes to it goes on to the next, MinBound to
	// MaxBound; 0 stands for DefaultBound.
	Bound float64
	// Corrections are an [Adjuster]'s, or nil.
	Corrections Corrections
	// Previous is the ring that this one replaces, or nil: what hashes to its
	// slots is counted on, and its layout is used again when endpoints and
	// weights are the same.
	Previous *Ring
}

// Ring is consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam
// 2018; HAProxy's hash-balance-factor): a hash has one owner, and goes on along
// the ring from one that cannot be picked or has more than its bounded share of
// what this edge has in flight.
//
// The ring is made of equal slots. Each endpoint draws slots at random, as
// often as its weight says, and whoever draws a slot first owns it. The draws
// depend on nothing but the endpoint's id, so that one that comes or goes, or
// whose weight changes, takes or leaves its own slots and moves no others.
//
// It is made for some thousand endpoints: with more, each has few slots.
type Ring struct {
	*layout
	endpoints []*federation.Endpoint
	slots     []uint32        // positions in endpoints: the layout's, corrected
	picked    []atomic.Uint32 // by slot: requests that hash to it, since the last sample
	// allowed[i] is how many requests in flight an endpoint may have for each
	// that all have.
	allowed []float64

	// What was in flight when it was last looked at, and the sum of that; for
	// rings of more than exactTotal endpoints.
	seen  []atomic.Int64
	total atomic.Int64
}

var _ HashPicker = (*Ring)(nil)

// layout is who drew which slot.
type layout struct {
	seeds   []uint64 // hashes of the ids
	weights []float64
	drawn   []uint32
}

const (
	slotBits = 14
	slotMask = 1<<slotBits - 1
	// exactTotal is up to how many endpoints all are asked what they have in
	// flight; with more, lookAt of them are at each pick.
	exactTotal = 8
	lookAt     = 8
	// maxSpill is over how many slots a place within the bound is looked for:
	// with the default bound at least a fifth of all have one while all can be
	// picked.
	maxSpill = 64
)

// NewRing keeps the list, which must not change. Endpoints have the effective
// weight they have now. It takes a millisecond or two, unless the previous ring
// has the same layout.
func NewRing(endpoints []*federation.Endpoint, o RingOptions) *Ring {
	bound := o.Bound
	if bound == 0 {
		bound = DefaultBound
	}
	n := len(endpoints)
	r := &Ring{endpoints: endpoints, allowed: make([]float64, n)}
	seeds, weights := make([]uint64, n), make([]float64, n)
	sum := 0.0
	for i, e := range endpoints {
		seeds[i], weights[i] = HashKey(e.ID), float64(weight(e))
		sum += weights[i]
	}
	for i, w := range weights {
		r.allowed[i] = bound * w / sum
	}
	if p := o.Previous; p != nil {
		r.picked = p.picked
	} else {
		r.picked = make([]atomic.Uint32, 1<<slotBits)
	}
	if p := o.Previous; p != nil && slices.Equal(p.seeds, seeds) && slices.Equal(p.weights, weights) {
		r.layout = p.layout
	} else {
		r.layout = newLayout(seeds, weights)
	}
	r.slots = r.corrected(o.Corrections)
	if n > exactTotal {
		r.seen = make([]atomic.Int64, n)
		for i := range endpoints {
			r.look(i)
		}
	}
	return r
}

// corrected is who owns which slot. A correction in favour of an endpoint that
// is not there does not count until it is back.
func (r *Ring) corrected(corrections Corrections) []uint32 {
	if len(corrections) == 0 {
		return r.drawn
	}
	at := make(map[string]int, len(r.endpoints))
	for i, e := range r.endpoints {
		at[e.ID] = i
	}
	slots := slices.Clone(r.drawn)
	for slot, id := range corrections {
		if i, there := at[id]; there {
			slots[slot] = uint32(i)
		}
	}
	return slots
}

// newLayout has each endpoint draw slots, its k-th draw at a random time between
// k and k+1 weights' worth of time, until every slot was drawn.
func newLayout(seeds []uint64, weights []float64) *layout {
	l := &layout{seeds: seeds, weights: weights, drawn: make([]uint32, 1<<slotBits)}
	if len(seeds) < 2 {
		return l
	}
	times := slices.Repeat([]float64{math.Inf(1)}, len(l.drawn))
	draws := make([]uint64, len(seeds))
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	// After this, e^-8 of the slots were not drawn yet.
	turn := float64(len(l.drawn)) / sum
	for until := 8 * turn; ; until += turn {
		for i, w := range weights {
			// With the draw that may be before or after.
			for k, end := draws[i], uint64(w*until)+1; k < end; k++ {
				x := next(seeds[i] + k*0x9e3779b97f4a7c15)
				slot := x >> (64 - slotBits)
				at := (float64(k) + float64(x<<slotBits>>11)/(1<<53)) / w
				if at < times[slot] {
					times[slot], l.drawn[slot] = at, uint32(i)
				}
			}
			draws[i] = uint64(w*until) + 1
		}
		if slices.Max(times) <= until {
			return l
		}
	}
}

// Pick implements [Picker], for requests without a hash: by weight, within the
// bound.
func (r *Ring) Pick(rnd uint64, tried []*federation.Endpoint) *federation.Endpoint {
	return r.PickHash(rnd, next(rnd), tried)
}

// PickHash implements [HashPicker]. rnd decides only which endpoints of a long
// list are asked what they have in flight.
func (r *Ring) PickHash(hash, rnd uint64, tried []*federation.Endpoint) *federation.Endpoint {
	if len(r.endpoints) == 0 {
		return nil
	}
	total := int64(-1) // not known yet
	spare, last := -1, -1
	slot := hash >> (64 - slotBits)
	if len(tried) == 0 {
		r.picked[slot].Add(1)
	}
	for range maxPlaces {
		i := int(r.slots[slot&slotMask])
		slot++
		if i == last || !candidate(r.endpoints[i], tried) {
			continue
		}
		last = i
		load := r.endpoints[i].Runtime.InFlight()
		if load == 0 {
			return r.endpoints[i]
		}
		if total < 0 {
			total = r.inFlight(rnd)
		}
		if float64(load+1) <= math.Ceil(r.allowed[i]*float64(total+1)) {
			return r.endpoints[i]
		}
		if spare < 0 {
			spare = i
		}
		if slot-hash>>(64-slotBits) > maxSpill {
			break
		}
	}
	if spare < 0 {
		spare = r.rendezvous(hash, tried)
	}
	if spare < 0 {
		return nil
	}
	return r.endpoints[spare]
}

// inFlight is what all endpoints together have in flight. In a long list only a
// few are asked each time, so that it lags by as many picks as it takes to come
// to each.
func (r *Ring) inFlight(rnd uint64) (total int64) {
	n := len(r.endpoints)
	if n <= exactTotal {
		for _, e := range r.endpoints {
			total += e.Runtime.InFlight()
		}
		return total
	}
	i := int(below(rnd, uint64(n)))
	for range lookAt {
		r.look(i)
		if i++; i == n {
			i = 0
		}
	}
	return max(0, r.total.Load())
}

func (r *Ring) look(i int) {
	if now := r.endpoints[i].Runtime.InFlight(); now != r.seen[i].Load() {
		r.total.Add(now - r.seen[i].Swap(now))
	}
}

// rendezvous picks among all that can be picked, -1 when there is none: for
// when the way along the ring was too long (Thaler and Ravishankar 1998, with
// weights).
func (r *Ring) rendezvous(hash uint64, tried []*federation.Endpoint) int {
	best, least := -1, math.Inf(1)
	for i, e := range r.endpoints {
		if !candidate(e, tried) {
			continue
		}
		// An exponential variable of the rate weight: the least of several is
		// each one's as often as its weight says.
		u := (float64(next(hash^r.seeds[i])>>11) + 0.5) / (1 << 53)
		if x := -math.Log(u) / r.weights[i]; x < least {
			best, least = i, x
		}
	}
	return best
}

// Sample is what was asked of the ring, and of those before it, since the last
// call; retries are not counted. It is asked of whom it hashes to, even when it
// went on to another.
func (r *Ring) Sample() Sample {
	s := Sample{
		Endpoints: make([]SampledEndpoint, len(r.endpoints)),
		Owners:    r.slots,
		Picks:     make([]uint32, len(r.picked)),
	}
	for i, e := range r.endpoints {
		s.Endpoints[i] = SampledEndpoint{ID: e.ID, Weight: weight(e)}
	}
	for slot := range r.picked {
		s.Picks[slot] = r.picked[slot].Swap(0)
	}
	return s
}
