package balance

import (
	"sort"

	"github.com/grayfed/grayfed/federation"
)

// P2C takes the less loaded of two endpoints drawn at random in proportion to
// their effective weights; load is requests in flight by effective weight.
// Equal loads go to the one drawn first, so that an idle service is shared by
// weight. (Mitzenmacher, "The Power of Two Choices in Randomized Load
// Balancing", 2001; Envoy's LEAST_REQUEST with choice_count 2; drawing by
// weight as linkerd2-proxy does, since two even draws would let weights speak
// only under load.)
type P2C struct {
	endpoints []*federation.Endpoint
	// ends[i] is the sum of the weights up to and with endpoint i; nil when
	// all weights are the same.
	ends []uint64
}

var _ Picker = (*P2C)(nil)

// NewP2C keeps the list, which must not change. Endpoints are drawn by the
// effective weight they have.
func NewP2C(endpoints []*federation.Endpoint) *P2C {
	p := &P2C{endpoints: endpoints}
	for _, e := range endpoints {
		if weight(e) != weight(endpoints[0]) {
			p.ends = make([]uint64, len(endpoints))
			break
		}
	}
	total := uint64(0)
	for i := range p.ends {
		total += weight(endpoints[i])
		p.ends[i] = total
	}
	return p
}

// draws is how many pairs are looked at before all endpoints are.
const draws = 4

// Pick implements [Picker]. Its cost does not grow with the list but for a
// binary search when weights differ; only when several pairs have no usable
// endpoint it looks at all.
func (p *P2C) Pick(rnd uint64, tried []*federation.Endpoint) *federation.Endpoint {
	if len(p.endpoints) < 2 {
		return sample(p.endpoints, rnd, tried)
	}
	for range draws {
		a, b := p.pair(rnd, next(rnd))
		first, second := candidate(a, tried), candidate(b, tried)
		switch {
		case first && second:
			if a.Runtime.InFlight()*int64(weight(b)) <= b.Runtime.InFlight()*int64(weight(a)) {
				return a
			}
			return b
		case first:
			return a
		case second:
			return b
		}
		rnd = next(next(rnd))
	}
	return sample(p.endpoints, rnd, tried)
}

// pair draws two different endpoints.
func (p *P2C) pair(rnd1, rnd2 uint64) (a, b *federation.Endpoint) {
	if p.ends == nil {
		n := uint64(len(p.endpoints))
		i, j := below(rnd1, n), below(rnd2, n-1)
		if j >= i {
			j++
		}
		return p.endpoints[i], p.endpoints[j]
	}
	total := p.ends[len(p.ends)-1]
	i := p.at(below(rnd1, total))
	// The second is drawn as if the first were not there.
	w := weight(p.endpoints[i])
	point := below(rnd2, total-w)
	if point >= p.ends[i]-w {
		point += w
	}
	return p.endpoints[i], p.endpoints[p.at(point)]
}

// at is the endpoint that a point below the sum of all weights falls on.
func (p *P2C) at(point uint64) int {
	return sort.Search(len(p.ends), func(i int) bool { return point < p.ends[i] })
}
