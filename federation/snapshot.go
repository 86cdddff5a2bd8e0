package federation

// Runtime is what this edge keeps about an endpoint from one snapshot to the
// next: its connections, what is in flight, its breaker. Implementations are
// safe for concurrent use and do not block.
type Runtime interface {
	// InFlight is how many requests of this edge the endpoint works on.
	InFlight() int64
	// Admits reports whether its breaker and its limit let one more in.
	Admits() bool
	// Close is called once, when the instance or its address is gone.
	Close()
}

// Endpoint is a routable instance: the registered facts, its folded health,
// and this edge's runtime for it. It is immutable but for the Runtime behind
// it; a change of facts or health makes a new Endpoint with the same Runtime.
type Endpoint struct {
	*Instance
	Health  Health
	Runtime Runtime
}

// Usable is the one predicate of the ladder: registered, not draining, not
// ejected, breaker admits, below its limit.
func (e *Endpoint) Usable() bool {
	return e.Eligible() && e.Runtime.Admits()
}

// Eligible is the part of Usable that only a new snapshot changes.
func (e *Endpoint) Eligible() bool { return !e.Draining && e.Health.Usable() }

// EffectiveWeight is the share of its subset's requests that the endpoint is to
// have now, in hundredths of a weight: its Weight, of which it gets only
// Health.Percent while it recovers. 0 to 100*MaxWeight; in hundredths, so that
// a recovering endpoint of weight 1 gets its small share too.
func (e *Endpoint) EffectiveWeight() int64 {
	switch e.Health.Status {
	case Unhealthy:
		return 0
	case Recovering:
		return int64(e.Weight) * int64(e.Health.Percent)
	case HealthUnknown, Healthy:
	}
	return int64(e.Weight) * 100
}

// ServiceView is one service in a Snapshot: immutable.
type ServiceView struct {
	Name string
	// Endpoints are sorted by instance id.
	Endpoints []*Endpoint
	// Revision is the highest etcd revision among the facts folded in.
	Revision int64
	// Unhealthy counts the endpoints folded as unhealthy.
	Unhealthy int
}

// Snapshot is the immutable view that a request is decided on. Making a new
// one after a change of one service shares everything else.
type Snapshot struct {
	// Revision is the etcd revision up to which facts are folded in.
	Revision int64
	// Digest covers the etcd-confirmed facts.
	Digest Fingerprint
	// Instances counts the registered, Unhealthy those folded as unhealthy:
	// the ground on which panic is judged.
	Instances int
	Unhealthy int
	Edges     []Edge // sorted by id; shared, do not change

	services serviceShards
}
