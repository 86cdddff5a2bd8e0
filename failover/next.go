package failover

import (
	"math"
	"time"
)

// Observation is what an edge knows at one heartbeat.
type Observation struct {
	// At is when, by a clock that is not set meanwhile: Go's monotonic
	// reading, not a wall clock's. A leap is read as a freeze (see [Next]).
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
	Weight int    // 1 to MaxWeight; while it is out, what it comes in with
	Reason string // constant text, for people
}

// The reasons.
const (
	reasonServing  = "serving"
	reasonClimbing = "climbing back"
	reasonReduced  = "serving with less capacity"
	reasonNotReady = "not ready, or draining"
	reasonEmpty    = "no instance of the zone is usable"
	reasonHeld     = "held out before it comes back"
	reasonStanding = "standing by"
	reasonNoLeader = "standing by: no consul leader"
	reasonStandIn  = "standing in for the primaries"
)

// overprovisioning is how far capacity may fall before the weight does, as the
// ladder has it within a zone. (Envoy: overprovisioning_factor.)
const overprovisioning = 1.4

// minAgreements is how many observations in a row must find every means agreed
// that the primaries are dead.
const minAgreements = 2

// wavering is how long they must agree instead while Consul's word on a primary
// wavers: longer than what takes a false death back needs to go round.
const wavering = 3 * time.Second

// State is what an edge remembers of the observations before. The zero value
// is that of an edge that just started.
type State struct {
	at     time.Time     // of the last observation; zero: none yet
	in     bool          // the entry is in
	age    time.Duration // since a primary started, went out or in; since a standby went in
	row    int           // observations in a row that speak for a change
	told   int           // a standby's in a row in which a Consul leader had all primaries for dead
	weight int           // as decided last
	steady time.Duration // since weight changed
}

// Next folds one observation, the first or one heartbeat after the last, into
// the state and decides. Options have their defaults and are valid. Same
// arguments, same result.
//
// A primary is in while it is ready and its zone has usable capacity, with its
// full weight times 1.4 times the usable part of the capacity, at most its full
// weight. It goes out at once when it is not ready, and when its zone had
// capacity and has had none for Misses observations. Once out it stays out for
// Hold, then climbs by Steps. An edge that starts does the same, since its entry
// may have been in a moment ago: one that dies every few seconds gets no clients,
// and where all start at once, [Answer] has them all the same. The weight falls
// at once and rises once every StepEvery at most; changes of less than a tenth
// of the full weight wait, but for those to the weight of a step or the full one.
//
// A standby goes in when a Consul leader, gossip and its own probes all say that
// every edge of every zone in Primaries is dead, in two observations in a row,
// and Consul has said so in Misses. The heartbeats that failed are not counted
// again here: a probe's verdict stands for Misses of them. The rest is for what
// one of the three says for a moment and takes back, Consul above all, whose
// Serf spreads a false death faster than its end; where it did so of late, they
// must agree for 3 s. Whatever is unknown, a zone without any edge that
// is known included, keeps the standby out. It goes out when, by Consul and not
// against both others, the primaries that are alive have the full weight of one
// (its own Weight) for Misses observations in a row and Hold has passed since it
// went in. It goes in once every Hold at most; it is not held out longer, as then
// nobody else is there. Without a Consul leader it stays what it is.
//
// An edge that did not observe for twice Misses heartbeats was frozen: others
// took it for dead, and what it remembers is old. It starts anew.
//
// The limit of this: while every primary that still serves clients is cut off
// from the standby and from Consul's quorum at once, directly and through
// others, the standby goes in beside it, after the same time as if it had died.
// Nothing that a program on this side of the cut can know tells the one from the
// other. Lost packets for so long are enough, and so is a cut of the way from the
// primary to the standby, where the quorum has no round trip to it. And a false
// death in Serf whose denial was lost on its way stands until two agents tell
// each other all that they hold, for 30 s at most: deploy/consul has Serf say
// each thing so often that this is rare. Who gets the standby's answer is served
// by it.
func Next(o *Options, s State, obs *Observation) (State, Decision) {
	s = s.advance(o, obs.At)
	if o.Role == Standby {
		return s.standby(o, obs)
	}
	return s.primary(o, obs)
}

// advance lets the time since the last observation pass.
func (s State) advance(o *Options, at time.Time) State {
	elapsed := at.Sub(s.at)
	if s.at.IsZero() || elapsed > 2*time.Duration(o.Misses)*o.Heartbeat {
		s = State{at: at}
		if o.Role == Standby {
			s.age = o.Hold // it did not go in of late that it knows of
		}
		return s
	}
	elapsed = max(elapsed, 0)
	s.at = at
	s.age += elapsed
	s.steady += elapsed
	return s
}

func (s State) primary(o *Options, obs *Observation) (State, Decision) {
	count(&s.row, obs.Capacity > 0 && obs.Healthy <= 0)
	reason := reasonServing
	switch {
	case !obs.Ready:
		s.goOut()
		reason = reasonNotReady
	case s.row >= o.Misses:
		s.goOut()
		reason = reasonEmpty
	case !s.in && s.age < o.Hold:
		reason = reasonHeld
	case !s.in:
		s.in, s.age = true, 0
	}
	step := o.step(0)
	if s.in {
		step = o.step(int(s.age / o.StepEvery))
	}
	s.weigh(o, usable(obs), step)
	switch {
	case !s.in:
	case step < 1:
		reason = reasonClimbing
	case s.weight < o.Weight:
		reason = reasonReduced
	}
	return s, Decision{In: s.in, Weight: s.weight, Reason: reason}
}

func (s *State) goOut() {
	if s.in {
		s.in, s.age = false, 0
	}
}

func (s State) standby(o *Options, obs *Observation) (State, Decision) {
	switch {
	case !obs.Ready:
		s.in, s.row, s.told = false, 0, 0
	case s.in:
		count(&s.row, obs.Leader && o.areBack(obs.Others))
		if s.row >= o.Misses && s.age >= o.Hold {
			s.in, s.row = false, 0
		}
	default:
		count(&s.row, obs.Leader && o.allAre((*Sighting).isDead, obs.Others))
		count(&s.told, obs.Leader && o.allAre((*Sighting).isToldDead, obs.Others))
		if s.row >= o.agreements(obs.Others) && s.told >= o.Misses && s.age >= o.Hold {
			s.in, s.row, s.told, s.age = true, 0, 0, 0
		}
	}
	s.weigh(o, usable(obs), 1)
	reason := reasonStanding
	switch {
	case !obs.Ready:
		reason = reasonNotReady
	case s.in:
		reason = reasonStandIn
	case !obs.Leader:
		reason = reasonNoLeader
	}
	return s, Decision{In: s.in, Weight: s.weight, Reason: reason}
}

func count(row *int, again bool) {
	if again {
		*row++
	} else {
		*row = 0
	}
}

// weigh moves the weight to the part of the full one that capacity and step
// allow, or leaves it: what a step sets is always published, the full weight
// being the last.
func (s *State) weigh(o *Options, capacity, step float64) {
	weight := max(1, int(math.Round(float64(o.Weight)*min(capacity, step))))
	change := weight - s.weight
	small := capacity < step && 10*max(change, -change) < o.Weight
	if s.weight > 0 && (change == 0 || small || change > 0 && s.steady < o.StepEvery) {
		return
	}
	s.weight, s.steady = weight, 0
}

// usable is the part of the full weight that the zone's capacity allows; all of
// it from 1.
func usable(obs *Observation) float64 {
	if obs.Capacity <= 0 {
		return 1
	}
	return overprovisioning * float64(max(0, obs.Healthy)) / float64(obs.Capacity)
}

// step is the part of the full weight that the nth step allows, from 0.
func (o *Options) step(n int) float64 {
	if n >= len(o.Steps) {
		return 1
	}
	return float64(o.Steps[n]) / 100
}

// allAre reports whether every zone that this standby stands in for has edges
// that are known, and so it is with all of them.
func (o *Options) allAre(so func(*Sighting) bool, others []Sighting) bool {
	for _, zone := range o.Primaries {
		known := false
		for i := range others {
			s := &others[i]
			if s.Zone != zone {
				continue
			}
			if !so(s) {
				return false
			}
			known = true
		}
		if !known {
			return false
		}
	}
	return true
}

// agreements is how many observations in a row must find the primaries dead.
func (o *Options) agreements(others []Sighting) int {
	for i := range others {
		if s := &others[i]; o.standsInFor(s.Zone) && s.Wavers {
			return max(minAgreements, int((wavering+o.Heartbeat-1)/o.Heartbeat))
		}
	}
	return minAgreements
}

// areBack reports whether what is in again of those zones can do without this
// standby.
func (o *Options) areBack(others []Sighting) bool {
	weight := 0
	for i := range others {
		if s := &others[i]; o.standsInFor(s.Zone) && s.Consul == Alive && !s.unreachable() {
			weight += s.weight()
		}
	}
	return weight >= o.Weight
}
