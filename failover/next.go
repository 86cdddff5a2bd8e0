package failover

import "time"

// Observation is what an edge knows at one heartbeat.
type Observation struct {
	At time.Time
	// Ready says that this edge serves on a full view and does not drain.
	Ready bool
	// Capacity is that of this edge's own zone: declared, or the highest of
	// late. Healthy is what of it is usable now. Both 0: there never was any.
	Capacity, Healthy int64
	// Leader says that a Consul leader answered lately.
	Leader bool
	// Others are all other edges' entries as last known, those included that
	// are gone from Consul.
	Others []Sighting
}

// Decision is what this edge's entry is to be.
type Decision struct {
	In     bool   // its check passes
	Weight int    // 1 to MaxWeight
	Reason string // constant text, for people
}

// State is what an edge remembers of the observations before. The zero value
// is that of an edge that just started.
type State struct {
	in bool
}

// Next folds one observation into the state and decides. Options have their
// defaults and are valid. Same arguments, same result.
func Next(o *Options, s State, obs *Observation) (State, Decision) {
	s.in = obs.Ready && o.Role == Primary
	return s, Decision{In: s.in, Weight: o.Weight, Reason: "serving"}
}
