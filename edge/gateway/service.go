package gateway

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// service is a service that a route of one configuration names.
type service struct {
	name    string
	current atomic.Pointer[servicePlan] // never nil once requests come
	*serviceMemory
}

// serviceMemory is what a service keeps from one configuration to the next.
type serviceMemory struct {
	budget    budget
	limit     admission.Limit // of all requests
	queues    atomic.Pointer[queues]
	highWater route.HighWater       // Gateway.mu
	hashing   map[string]*hashGroup // Gateway.mu; by subset and zone
}

// servicePlan is a plan with what is kept beside it: immutable.
type servicePlan struct {
	*route.Plan
	pickers []balance.Picker // by Group.Index
	rings   []*balance.Ring  // by Group.Index; nil unless the balance is ConsistentHash
	hash    []HashKey        // for routes without their own
	limited bool             // the service has a limit
	zones   []*zone          // in which it has endpoints
	metered []meter          // endpoints that declare their capacity
}

// meter is an endpoint whose load other edges want to know.
type meter struct {
	key      federation.Key
	endpoint *endpoint
}

// SetSnapshot takes a new view of the instances: the names of the services
// that changed since the last call, or all. It takes what a catalog's
// subscription gives, and is to be called once for each.
func (g *Gateway) SetSnapshot(snap *federation.Snapshot, changed []string, all bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.snapshot.Store(snap)
	g.panicking.Store(route.Panic(snap.Instances, snap.Unhealthy, g.opts.PanicThreshold))
	services := g.routing.Load().services
	if all {
		for _, s := range services {
			g.plan(s)
		}
	} else {
		for _, name := range changed {
			if s := services[name]; s != nil {
				g.plan(s)
			}
		}
	}
	g.closeGone(snap)
}

// plan makes the plan of a service anew. Held under mu.
func (g *Gateway) plan(s *service) {
	in := route.PlanInput{
		Name:      s.name,
		Releases:  g.config.Releases,
		Topology:  &g.opts.Topology,
		Lost:      g.lostZones(),
		HighWater: &s.highWater,
		Now:       g.opts.Now(),
	}
	if snap := g.snapshot.Load(); snap != nil {
		in.View = snap.Service(s.name)
	}
	for _, declared := range g.config.Services {
		if declared.Name == s.name {
			in.Service = declared
		}
	}
	policy := g.config.Policies[s.name]
	sp := &servicePlan{Plan: route.NewPlan(in), limited: policy.MaxServiceRequests > 0}
	g.balance(s, sp, &policy)
	if in.View != nil {
		for _, e := range in.View.Endpoints {
			g.adopt(sp, e, &policy)
		}
	}
	s.setPlaces(sp, &policy)
	s.current.Store(sp)
	s.stirred()
}

// balance makes what picks the endpoints of each group. Held under mu.
func (g *Gateway) balance(s *service, sp *servicePlan, policy *Policy) {
	sp.pickers = make([]balance.Picker, sp.Groups)
	if policy.Balance == ConsistentHash {
		sp.rings, sp.hash = make([]*balance.Ring, sp.Groups), policy.Hash
	} else {
		s.hashing = nil
	}
	for _, lane := range sp.Lanes {
		for _, group := range lane.Groups {
			var picker balance.Picker
			switch policy.Balance {
			case ConsistentHash:
				ring := s.ring(lane.Subset, group, policy)
				sp.rings[group.Index], picker = ring, ring
			case WeightedRoundRobin:
				picker = balance.NewWeightedRoundRobin(group.Endpoints)
			default:
				picker = balance.NewP2C(group.Endpoints)
			}
			sp.pickers[group.Index] = picker
		}
	}
}

// adopt brings an endpoint's runtime up to date with facts and policy.
func (g *Gateway) adopt(sp *servicePlan, e *federation.Endpoint, policy *Policy) {
	rt, ok := e.Runtime.(*endpoint)
	if !ok {
		return
	}
	z := rt.zone.Load()
	if z.name != e.Zone {
		z = g.zone(e.Zone)
		rt.zone.Store(z)
	}
	capacity := int64(0)
	if e.Capacity > 0 && z.through == nil {
		sp.metered = append(sp.metered, meter{e.Key, rt})
		if e.Zone != g.opts.Topology.Zone {
			capacity = int64(e.Capacity)
		}
	}
	g.bind(rt, e.Key, policy, capacity, z.through)
	g.setDraining(rt, e.Draining)
	if !slices.Contains(sp.zones, z) {
		sp.zones = append(sp.zones, z)
	}
}

// Refresh does what only the passing of time brings about; it is to be called
// once a second.
func (g *Gateway) Refresh(now time.Time) {
	g.mu.Lock()
	services := g.routing.Load().services
	g.ticks++
	for _, s := range services {
		s.budget.tick()
		moved := g.ticks%adjustTicks == 0 && s.hashing != nil && s.adjust()
		if s.highWater.Expired(now) || moved {
			g.plan(s)
		} else {
			// Ejections end, and other edges' requests.
			s.stirred()
		}
	}
	over := g.overstayed(now)
	g.mu.Unlock()
	g.endLasting(over)
	if g.opts.PublishLoad == nil {
		return
	}
	for _, s := range services {
		for _, m := range s.current.Load().metered {
			g.opts.PublishLoad(m.key, m.endpoint.inFlight.Load())
		}
	}
}

// replan makes the plans of all services with endpoints in the zone anew.
func (g *Gateway) replan(z *zone) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.routing.Load().services {
		if sp := s.current.Load(); slices.Contains(sp.zones, z) {
			g.plan(s)
		}
	}
}
