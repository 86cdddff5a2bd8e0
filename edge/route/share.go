package route

import "slices"

// fullShare is all of a lane's requests; wholeHealth is a zone with nothing
// lost, in finer steps, for what is left when little is healthy anywhere.
const (
	fullShare   = 1 << 16
	wholeHealth = 1 << 20
)

// A zone counts as whole while 1/1.4 of its full capacity (71%) is healthy:
// Envoy's overprovisioning_factor, default 140.
const (
	overprovisionedBy = 14
	overprovisionedOf = 10
)

// shares gives each group, in ladder order, its part of 65536 first choices:
// Envoy's priority load, in finer steps than its percents. A group's health is
// its healthy weight times 1.4 by its full weight, at most 1. The first gets as
// much as its health, each next one as much of the rest; when all together are
// below 1, each is scaled up in proportion. What rounding leaves goes to the
// first that has an endpoint, as in Envoy.
// https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
func shares(groups []*groupDraft) []uint32 {
	// A lost zone is asked only where nothing else is left: what it still has
	// of endpoints is what nobody has tried yet.
	leave := slices.ContainsFunc(groups, func(g *groupDraft) bool { return !g.Lost && len(g.Endpoints) > 0 })
	health := make([]int64, len(groups))
	total := int64(0)
	for i, g := range groups {
		if g.Lost && leave {
			continue
		}
		health[i] = g.health()
		total += health[i]
	}
	given := make([]uint32, len(groups))
	if total == 0 {
		return given
	}
	rest, first := int64(fullShare), -1
	for i, h := range health {
		if h == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		share := min(rest, h*fullShare/min(total, wholeHealth))
		given[i] = uint32(share)
		rest -= share
	}
	given[first] += uint32(rest)
	return given
}

// health is of wholeHealth; at least 1 with an endpoint, so that the last one
// left of many still takes what nobody else can.
func (g *groupDraft) health() int64 {
	if len(g.Endpoints) == 0 {
		return 0
	}
	healthy := g.hundredths * overprovisionedBy
	full := g.full * overprovisionedOf * 100
	if healthy >= full {
		return wholeHealth
	}
	return max(1, healthy*wholeHealth/full)
}
