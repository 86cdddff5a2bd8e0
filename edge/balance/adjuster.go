package balance

import (
	"maps"
	"math"
)

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
// busy for any endpoint's share stays where it is, and its endpoint gives away
// what else it has.
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
	total, weights := 0.0, 0.0
	for _, load := range a.loads {
		total += load
	}
	for _, e := range s.Endpoints {
		weights += float64(e.Weight)
	}
	off := make([]float64, len(s.Endpoints)) // share above the due one
	for i, e := range s.Endpoints {
		off[i] = -float64(e.Weight) / weights
	}
	slots := make([][]uint32, len(s.Endpoints)) // that have a load
	for slot, owner := range s.Owners {
		if a.loads[slot] > 0 {
			off[owner] += a.loads[slot] / total
			slots[owner] = append(slots[owner], uint32(slot))
		}
	}
	worst := 0.0
	for _, o := range off {
		worst = max(worst, math.Abs(o))
	}
	if worst <= tolerance {
		return nil
	}
	moves := make(Corrections)
	stuck := make([]bool, len(off)) // has nothing to give
	for moved := 0.0; moved < maxMove; {
		from, to := extremes(off, stuck)
		if from < 0 || off[from] <= aim && off[to] >= -aim {
			break
		}
		// With half of their difference, they meet in the middle.
		at := largest(slots[from], a.loads, total*(off[from]-off[to])/2)
		if at < 0 {
			stuck[from] = true
			continue
		}
		slot := slots[from][at]
		share := a.loads[slot] / total
		slots[from][at] = slots[from][len(slots[from])-1]
		slots[from] = slots[from][:len(slots[from])-1]
		off[from] -= share
		off[to] += share
		moved += share
		moves[slot] = s.Endpoints[to].ID
	}
	return moves
}

// extremes are the endpoints most above, of those that are not stuck, and most
// below their shares; the first is -1 when there is none above.
func extremes(off []float64, stuck []bool) (most, least int) {
	most = -1
	for i, o := range off {
		if o > 0 && !stuck[i] && (most < 0 || o > off[most]) {
			most = i
		}
		if o < off[least] {
			least = i
		}
	}
	return most, least
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
