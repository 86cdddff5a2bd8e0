package route

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Topology is where this edge stands among the zones.
type Topology struct {
	Zone, Region string
	// ZoneOrder is the configured order in which zones of other regions are
	// tried; zones that it does not name come last, by name.
	ZoneOrder []string
}

// Baseline is the Subset of every baseline lane.
const Baseline = "baseline"

// Group is one zone's part of one subset. It is immutable.
type Group struct {
	// Index is unique within the plan, 0 to Plan.Groups-1, so that callers
	// can keep state beside the plan.
	Index        int
	Zone, Region string
	Here         bool // this edge's zone
	Lost         bool // demoted: its edges are dead and an endpoint of it failed
	// Endpoints are the eligible ones with a weight, by id. Whether one is
	// usable now, its Runtime says.
	Endpoints []*federation.Endpoint
	// Unhealthy are registered, have a weight and do not drain, but are
	// unhealthy: only panic opens them. By id.
	Unhealthy []*federation.Endpoint
	// Draining is how many drain.
	Draining int
	// Weight is what the Endpoints' weights add up to, counting of a
	// recovering one only its percentage; rounded up.
	Weight int
	// Full is the weight that counts as the zone's full capacity.
	Full int
	// Share, of 65536, is how many first choices the zone gets. A lane's
	// shares add up to 65536, or are all 0 when it has no endpoint.
	Share uint32
}

// Lane is one subset of a service in every zone, in ladder order: this edge's
// zone, other zones of its region, zones of other regions by the configured
// order and then by name, and lost zones last. It is immutable.
type Lane struct {
	// Subset is [Baseline] or the release's name.
	Subset string
	// Selects is a hash of what selects the instances: edges whose documents
	// differ find out by it that they mean different instances by one name.
	Selects uint64
	// Groups are the zones in which an instance of the subset is registered.
	Groups []*Group
}

// first is the index of the group that the point falls on by the shares; -1
// when no group has one.
func (l *Lane) first(point uint32) int {
	point %= fullShare
	for i, g := range l.Groups {
		if point < g.Share {
			return i
		}
		point -= g.Share
	}
	return -1
}

// Plan is what requests to one service are decided on. It is a pure function
// of its input, immutable and safe for concurrent use.
type Plan struct {
	Service string
	// Lanes are the baseline's, then one for each release that covers the
	// service, in the order of the configuration.
	Lanes []*Lane
	// Groups is how many groups all lanes have together.
	Groups int

	baseline *Lane
	covered  map[string]coveredRelease
	releases []*federation.Release
}

type coveredRelease struct {
	release *federation.Release
	lane    *Lane
}

// PlanInput is all that a [Plan] depends on. It is not changed, and what it
// points to must not change afterwards.
type PlanInput struct {
	Name    string                  // of the service
	View    *federation.ServiceView // nil: no instance
	Service *federation.Service     // nil: no document
	// Releases are all of the configuration: a tag that is none of them is
	// unknown.
	Releases []*federation.Release
	Topology *Topology
	Lost     map[string]bool // demoted zones
	// HighWater is this service's, fed and read here; nil: the weight
	// registered now is full capacity.
	HighWater *HighWater
	Now       time.Time
}

// NewPlan works out lanes, ladder order and shares. One pass over the
// endpoints serves all lanes.
//
// The baseline is what the service's selector picks. A service without one is
// baseline as a whole as long as no release covers it; once one does, the
// baseline is empty, since nobody said what untagged requests are to get.
func NewPlan(in PlanInput) *Plan {
	b := newPlanBuilder(&in)
	if in.View != nil {
		b.sort(in.View.Endpoints)
	}
	b.gather()
	b.measure()
	p := &Plan{
		Service:  in.Name,
		Lanes:    make([]*Lane, len(b.lanes)),
		releases: in.Releases,
		covered:  make(map[string]coveredRelease, len(b.lanes)-1),
	}
	for i := range b.lanes {
		l := &b.lanes[i]
		lane := b.lane(l)
		for _, g := range lane.Groups {
			g.Index = p.Groups
			p.Groups++
		}
		p.Lanes[i] = lane
		if l.release != nil {
			p.covered[l.release.Name] = coveredRelease{release: l.release, lane: lane}
		}
	}
	p.baseline = p.Lanes[0]
	return p
}

// known reports whether the tag is a release's. Only tags whose release does
// not cover the service come here, so looking through the list costs less than
// a set of all names in the plan of each of many services.
func (p *Plan) known(tag string) bool {
	for _, r := range p.releases {
		if r.Name == tag {
			return true
		}
	}
	return false
}
