package route

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/grayfed/grayfed/federation"
)

// planBuilder sorts the endpoints of a service into lanes and zones.
type planBuilder struct {
	in    *PlanInput
	lanes []laneDraft // the baseline's first

	versions   interner
	candidates [][]int32 // by version: lanes whose selector has it or has none
	zones      interner
	regions    []string // by zone, of the first instance seen there
	drafts     []groupDraft

	// Memberships in the order of the endpoints, hence of ids.
	eligible, unhealthy []member
	endpoints           []*federation.Endpoint
}

type laneDraft struct {
	subset   string
	release  *federation.Release // nil: the baseline
	selector federation.Selector
	empty    bool    // nothing is selected
	groups   []int32 // by zone: index in drafts, -1 for none
}

type groupDraft struct {
	Group
	eligible, unhealthy int
	hundredths          int64 // healthy weight
	registered, full    int64
}

// member is one endpoint in one group.
type member struct{ group, endpoint int32 }

func newPlanBuilder(in *PlanInput) *planBuilder {
	b := &planBuilder{in: in, lanes: make([]laneDraft, 1, 4)}
	for _, r := range in.Releases {
		if selector, covers := r.Services[in.Name]; covers {
			b.lanes = append(b.lanes, laneDraft{subset: r.Name, release: r, selector: selector})
		}
	}
	baseline := &b.lanes[0]
	baseline.subset = Baseline
	if in.Service != nil && in.Service.Baseline != nil {
		baseline.selector = *in.Service.Baseline
	} else {
		baseline.empty = len(b.lanes) > 1
	}
	return b
}

// sort finds the groups of every endpoint and adds the groups up.
func (b *planBuilder) sort(endpoints []*federation.Endpoint) {
	b.endpoints = endpoints
	b.eligible = make([]member, 0, len(endpoints))
	for at, e := range endpoints {
		version, isNew := b.versions.index(e.Version)
		if isNew {
			b.candidates = append(b.candidates, b.lanesOf(e.Version))
		}
		for _, lane := range b.candidates[version] {
			l := &b.lanes[lane]
			if len(l.selector.Tags) > 0 && !l.selector.Matches(e.Instance) {
				continue
			}
			b.add(l, e, int32(at))
		}
	}
}

// lanesOf returns the lanes that instances of a version can be in.
func (b *planBuilder) lanesOf(version string) []int32 {
	var lanes []int32
	for i := range b.lanes {
		if l := &b.lanes[i]; !l.empty && (l.selector.Version == "" || l.selector.Version == version) {
			lanes = append(lanes, int32(i))
		}
	}
	return lanes
}

func (b *planBuilder) add(l *laneDraft, e *federation.Endpoint, at int32) {
	group := b.group(l, e)
	g := &b.drafts[group]
	g.registered += int64(e.Weight)
	switch {
	case e.Draining:
		g.Draining++
	case e.Weight <= 0:
	case e.Health.Usable():
		g.hundredths += e.EffectiveWeight()
		g.eligible++
		b.eligible = append(b.eligible, member{group: group, endpoint: at})
	default:
		g.unhealthy++
		b.unhealthy = append(b.unhealthy, member{group: group, endpoint: at})
	}
}

func (b *planBuilder) group(l *laneDraft, e *federation.Endpoint) int32 {
	zone, isNew := b.zones.index(e.Zone)
	if isNew {
		b.regions = append(b.regions, e.Region)
	}
	for len(l.groups) <= int(zone) {
		l.groups = append(l.groups, -1)
	}
	if l.groups[zone] < 0 {
		l.groups[zone] = int32(len(b.drafts))
		b.drafts = append(b.drafts, groupDraft{Group: Group{
			Zone: e.Zone, Region: b.regions[zone],
			Here: e.Zone == b.in.Topology.Zone, Lost: b.in.Lost[e.Zone],
		}})
	}
	return l.groups[zone]
}

// gather gives each group its endpoints, out of one array for all.
func (b *planBuilder) gather() {
	all := make([]*federation.Endpoint, len(b.eligible)+len(b.unhealthy))
	cut := func(n int) (part []*federation.Endpoint) {
		part, all = all[:0:n], all[n:]
		return part
	}
	for i := range b.drafts {
		g := &b.drafts[i]
		g.Endpoints, g.Unhealthy = cut(g.eligible), cut(g.unhealthy)
	}
	for _, m := range b.eligible {
		g := &b.drafts[m.group]
		g.Endpoints = append(g.Endpoints, b.endpoints[m.endpoint])
	}
	for _, m := range b.unhealthy {
		g := &b.drafts[m.group]
		g.Unhealthy = append(g.Unhealthy, b.endpoints[m.endpoint])
	}
}

// measure finds the weight that is full capacity of each group: what the
// operator declared of the baseline, else the high-water weight.
func (b *planBuilder) measure() {
	water := b.in.HighWater
	if water != nil {
		water.begin(b.in.Now)
	}
	for i := range b.lanes {
		l := &b.lanes[i]
		weights := make(map[string]int64, len(l.groups))
		for _, group := range l.groups {
			if group >= 0 {
				g := &b.drafts[group]
				weights[g.Zone] = g.registered
			}
		}
		if water != nil && !l.empty {
			water.observe(b.in.Now, l.key(), l.selector, weights)
		}
		for _, group := range l.groups {
			if group < 0 {
				continue
			}
			g := &b.drafts[group]
			g.full = weights[g.Zone]
			if l.release == nil && b.in.Service != nil {
				if declared := b.in.Service.ZoneCapacity[g.Zone]; declared > 0 {
					g.full = int64(declared)
				}
			}
		}
	}
	if water != nil {
		water.end()
	}
}

// key names the lane's history; a release may be called "baseline", but never
// nothing.
func (l *laneDraft) key() string {
	if l.release == nil {
		return ""
	}
	return l.subset
}

// selects is a hash of the lane's selector, the same at every edge.
func (l *laneDraft) selects() uint64 {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%t %q", l.empty, l.selector.Version)
	for _, tag := range slices.Sorted(maps.Keys(l.selector.Tags)) {
		fmt.Fprintf(hash, " %q=%q", tag, l.selector.Tags[tag])
	}
	return hash.Sum64()
}

// lane puts the groups of a lane in ladder order and shares requests out.
func (b *planBuilder) lane(l *laneDraft) *Lane {
	drafts := make([]*groupDraft, 0, len(l.groups))
	for _, group := range l.groups {
		if group >= 0 {
			drafts = append(drafts, &b.drafts[group])
		}
	}
	slices.SortFunc(drafts, func(x, y *groupDraft) int {
		return cmp.Or(
			boolCompare(x.Lost, y.Lost),
			-boolCompare(x.Here, y.Here),
			-boolCompare(x.Region == b.in.Topology.Region, y.Region == b.in.Topology.Region),
			cmp.Compare(b.rank(x.Zone), b.rank(y.Zone)),
			cmp.Compare(x.Zone, y.Zone),
		)
	})
	lane := &Lane{Subset: l.subset, Selects: l.selects(), Groups: make([]*Group, len(drafts))}
	groups := make([]Group, len(drafts)) // apart from the drafts, which need not live on
	for i, share := range shares(drafts) {
		d := drafts[i]
		d.Share = share
		d.Weight, d.Full = int((d.hundredths+99)/100), int(d.full)
		groups[i] = d.Group
		lane.Groups[i] = &groups[i]
	}
	return lane
}

// rank is a zone's place in the configured order.
func (b *planBuilder) rank(zone string) int {
	if at := slices.Index(b.in.Topology.ZoneOrder, zone); at >= 0 {
		return at
	}
	return len(b.in.Topology.ZoneOrder)
}

// boolCompare puts false before true.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// interner numbers names in the order of their first use. Hashing costs more
// than comparing a few, and a stranger may register many.
type interner struct {
	names []string
	many  map[string]int32
}

// fewNames is up to how many names are compared.
const fewNames = 8

func (n *interner) index(name string) (index int32, isNew bool) {
	if n.many != nil {
		if at, found := n.many[name]; found {
			return at, false
		}
	} else if at := slices.Index(n.names, name); at >= 0 {
		return int32(at), false
	}
	index = int32(len(n.names))
	n.names = append(n.names, name)
	if n.many != nil {
		n.many[name] = index
	} else if len(n.names) > fewNames {
		n.many = make(map[string]int32)
		for at, known := range n.names {
			n.many[known] = int32(at)
		}
	}
	return index, true
}
