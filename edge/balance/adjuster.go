package balance

import "maps"

// Corrections are the slots of a [Ring] that belong to another endpoint than the
// one that drew them: its instance id by slot. They do not change: an
// [Adjuster] makes new ones.
type Corrections map[uint32]string

// Sample is what was asked of a ring in an interval.
type Sample struct {
	Endpoints []SampledEndpoint
	Owners    []uint32 // by slot: a position in Endpoints; shared, do not change
	Picks     []uint32 // by slot: requests that hash to it
}

// SampledEndpoint is an endpoint and what its share is in proportion to.
type SampledEndpoint struct {
	ID     string
	Weight uint64
}

// Adjuster corrects a [Ring], whose keys are not equally busy, until each
// endpoint's share of the requests is that of its weight. It moves slots from
// endpoints above their share to those below, a few at a time and only such
// that both come closer to theirs, so that it comes to rest: a key that is too
// busy for any endpoint's share stays where it is, its endpoint gives away what
// else it has, and the others share out the rest.
//
// Slots and not weights, because the share of an endpoint is not a continuous
// function of its weight: where the next key to come or go has 3% of the
// requests, no weight brings both of its endpoints within 1 of theirs.
//
// It is not safe for concurrent use.
type Adjuster struct {
	corrections Corrections // as many as there are slots at most
	loads       []float64   // by slot; requests, those longer ago count less
	fresh       uint64      // of them, those since the last look
}

const (
	// minPicks is how many requests are waited for before shares are looked
	// at: with fewer, chance moves them by more than the tolerance (a half by
	// 0.35 percentage points in the standard deviation).
	minPicks = 20_000
	// tolerance is a deviation that is left alone. With chance added, a share
	// stays within one percentage point.
	tolerance = 0.005
	// aim is a deviation that is good enough once one was above tolerance.
	aim = tolerance / 4
	// maxMove is how much of all requests is moved at once, but for a slot that
	// alone has more.
	maxMove = 0.01
	// past is what of earlier requests counts at the next look.
	past = 0.75
)

// NewAdjuster returns one that corrects nothing yet.
func NewAdjuster() *Adjuster { return &Adjuster{} }

// Adjust takes the sample of an interval, of 10 seconds say. changed is false
// when the corrections are to stay as they are.
func (a *Adjuster) Adjust(s Sample) (corrections Corrections, changed bool) {
	if a.loads == nil {
		a.loads = make([]float64, 1<<slotBits)
	}
	for slot, picks := range s.Picks {
		a.loads[slot] += float64(picks)
		a.fresh += uint64(picks)
	}
	if a.fresh < minPicks {
		return a.corrections, false
	}
	moves := a.moves(s)
	a.fresh = 0
	for slot := range a.loads {
		a.loads[slot] *= past
	}
	if len(moves) == 0 {
		return a.corrections, false
	}
	// Readers have the map before.
	next := make(Corrections, len(a.corrections)+len(moves))
	maps.Copy(next, a.corrections)
	maps.Copy(next, moves)
	a.corrections = next
	return next, true
}

// moves is what to move now.
func (a *Adjuster) moves(s Sample) Corrections {
	if len(s.Endpoints) < 2 {
		return nil
	}
	total := 0.0
	for _, load := range a.loads {
		total += load
	}
	shares := newShares(s.Endpoints)
	slots := make([][]uint32, len(s.Endpoints)) // that have a load
	for slot, owner := range s.Owners {
		if a.loads[slot] > 0 {
			shares[owner].has += a.loads[slot] / total
			slots[owner] = append(slots[owner], uint32(slot))
		}
	}
	shares.settle()
	moves := make(Corrections)
	for moved, good := 0.0, tolerance; moved < maxMove; {
		from, to, off := shares.extremes()
		if off <= good {
			break
		}
		// With half of their difference, they meet in the middle.
		apart := shares[from].has - shares[from].due + shares[to].due - shares[to].has
		at := largest(slots[from], a.loads, total*apart/2)
		if at < 0 {
			shares[from].stuck = true
			shares.settle()
			continue
		}
		slot := slots[from][at]
		share := a.loads[slot] / total
		slots[from][at] = slots[from][len(slots[from])-1]
		slots[from] = slots[from][:len(slots[from])-1]
		shares[from].has -= share
		shares[to].has += share
		moved += share
		moves[slot] = s.Endpoints[to].ID
		good = aim
	}
	return moves
}

// shares are the endpoints' parts of all requests.
type shares []share

type share struct {
	weight   float64
	has, due float64
	stuck    bool // above its due share for keys that are too busy to move
}

func newShares(endpoints []SampledEndpoint) shares {
	list := make(shares, len(endpoints))
	for i, e := range endpoints {
		list[i].weight = float64(e.Weight)
	}
	return list
}

// settle shares out by weight what those that are stuck do not have.
func (l shares) settle() {
	rest, weights := 1.0, 0.0
	for i := range l {
		if l[i].stuck {
			rest -= l[i].has
		} else {
			weights += l[i].weight
		}
	}
	for i := range l {
		l[i].due = l[i].weight / weights * rest
	}
}

// extremes are the endpoints most above and most below their due shares, and by
// how much one of them is.
func (l shares) extremes() (most, least int, off float64) {
	above, below := 0.0, 0.0
	for i := range l {
		if l[i].stuck {
			continue
		}
		if o := l[i].has - l[i].due; o > above {
			most, above = i, o
		} else if -o > below {
			least, below = i, -o
		}
	}
	if above == 0 || below == 0 {
		return 0, 0, 0 // all that there is to say is rounding
	}
	return most, least, max(above, below)
}

// largest is the position of the slot with the largest load up to most, -1 when
// there is none.
func largest(slots []uint32, loads []float64, most float64) int {
	best := -1
	for i, slot := range slots {
		if loads[slot] <= most && (best < 0 || loads[slot] > loads[slots[best]]) {
			best = i
		}
	}
	return best
}
