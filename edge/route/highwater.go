package route

import (
	"maps"
	"math"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// The high-water window is ten minutes in steps of ten seconds: a weight counts
// for ten minutes after it was last registered, and up to one step longer.
const (
	highWaterStep  = 10 * time.Second
	highWaterSteps = 60
)

// HighWater keeps, for each subset of one service and each zone, the highest
// registered weight of the last ten minutes, so that instances which vanished
// from the registry count as lost capacity and not as capacity that never was.
// [NewPlan] feeds and reads it. Its zero value is ready; it is not safe for
// concurrent use.
//
// A subset whose selector changes starts anew: what another selector picked is
// not this one's capacity.
type HighWater struct {
	began   time.Time
	subsets map[string]*waterline // by release; "" is the baseline's
	expires int64                 // the step in which the first maximum ages out
}

// waterline is the history of one subset.
type waterline struct {
	selector federation.Selector
	zones    map[string]*watermark
	observed bool // by the plan in the making
}

// watermark is the sliding maximum of one zone's weight.
type watermark struct {
	current int64
	// past holds the higher weights of before, falling, each with the last
	// step in which it was registered. Steps rise, so there are at most
	// highWaterSteps+1.
	past []pastWeight
}

type pastWeight struct {
	weight int64
	step   int64
}

// Expired reports whether a maximum aged out since the last plan was made, so
// that a plan made now could have other shares.
func (h *HighWater) Expired(now time.Time) bool {
	return len(h.subsets) > 0 && h.step(now) >= h.expires
}

func (h *HighWater) step(now time.Time) int64 {
	return int64(now.Sub(h.began) / highWaterStep)
}

// begin starts the observations of one plan.
func (h *HighWater) begin(now time.Time) {
	if h.subsets == nil {
		h.subsets = make(map[string]*waterline)
		h.began = now
	}
	h.expires = math.MaxInt64
	for _, line := range h.subsets {
		line.observed = false
	}
}

// observe takes the weights now registered of one subset, by zone, and sets
// each to the highest of its last ten minutes.
func (h *HighWater) observe(now time.Time, subset string, selector federation.Selector, weights map[string]int64) {
	line := h.subsets[subset]
	if line == nil || !sameSelector(line.selector, selector) {
		line = &waterline{selector: selector, zones: make(map[string]*watermark)}
		h.subsets[subset] = line
	}
	line.observed = true
	step := h.step(now)
	for zone := range weights {
		if line.zones[zone] == nil {
			line.zones[zone] = &watermark{}
		}
	}
	for zone, mark := range line.zones {
		mark.observe(step, weights[zone])
		if len(mark.past) > 0 {
			h.expires = min(h.expires, mark.past[0].step+highWaterSteps+1)
		} else if mark.current == 0 {
			delete(line.zones, zone)
		}
		if _, present := weights[zone]; present {
			weights[zone] = mark.highest()
		}
	}
}

// end forgets the subsets that the plan no longer has.
func (h *HighWater) end() {
	maps.DeleteFunc(h.subsets, func(_ string, line *waterline) bool { return !line.observed })
}

func (m *watermark) observe(step, weight int64) {
	for len(m.past) > 0 && m.past[0].step+highWaterSteps < step {
		m.past = m.past[1:]
	}
	if last := len(m.past) - 1; weight < m.current && (last < 0 || m.past[last].step < step) {
		m.past = append(m.past, pastWeight{weight: m.current, step: step})
	}
	for last := len(m.past) - 1; last >= 0 && m.past[last].weight <= weight; last-- {
		m.past = m.past[:last]
	}
	m.current = weight
}

func (m *watermark) highest() int64 {
	if len(m.past) > 0 {
		return m.past[0].weight
	}
	return m.current
}

func sameSelector(a, b federation.Selector) bool {
	return a.Version == b.Version && maps.Equal(a.Tags, b.Tags)
}
