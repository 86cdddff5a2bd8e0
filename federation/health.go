package federation

import "time"

// HealthStatus is what one observer, or the fold of all, says of an endpoint.
type HealthStatus uint8

// The states. Unknown is not unhealthy: an endpoint nobody has an opinion of
// is usable.
const (
	HealthUnknown HealthStatus = iota
	Healthy
	// Recovering: re-admitted at a growing share (see Health.Percent).
	Recovering
	// Unhealthy: probes fail, or ejected for observed failures.
	Unhealthy
)

var healthNames = [...]string{"unknown", "healthy", "recovering", "unhealthy"}

// String is the name used by the API.
func (s HealthStatus) String() string {
	if int(s) >= len(healthNames) {
		return "unknown"
	}
	return healthNames[s]
}

// Health is the folded judgement on an endpoint.
type Health struct {
	Status HealthStatus
	// Percent is the share of its weight it gets while Recovering, 1 to 100.
	Percent uint8
	// Source says whose evidence decided.
	Source HealthSource
}

// Usable reports whether requests may be sent there.
func (h Health) Usable() bool { return h.Status != Unhealthy }

// HealthSource is whose evidence decided a fold.
type HealthSource uint8

// The sources, strongest first.
const (
	SourceNone     HealthSource = iota // nobody has fresh evidence
	SourceOwn                          // this edge's own probes and requests
	SourceZone                         // the edge of the instance's zone
	SourceMajority                     // most of the other fresh observers
)

var sourceNames = [...]string{"none", "own", "zone", "majority"}

// String is the name used by the API.
func (s HealthSource) String() string {
	if int(s) >= len(sourceNames) {
		return "none"
	}
	return sourceNames[s]
}

// HealthRecord is one observer's evidence on one instance. Records of one
// observer are ordered by (Incarnation, Seq); a lower one never replaces a
// higher one.
type HealthRecord struct {
	Subject Key
	// Observer is an edge id; Incarnation and Seq are that edge's.
	Observer    string
	Incarnation uint64
	Seq         uint64
	Status      HealthStatus
	Percent     uint8
	// Reason is a short constant text for people: "probe: 3 failures".
	Reason string
	// Received is when this edge got the record, by its own clock; records
	// age by it, never by a time that somebody else wrote.
	Received time.Time
}

// NewerThan orders records of the same subject and observer.
func (r *HealthRecord) NewerThan(o *HealthRecord) bool {
	if r.Incarnation != o.Incarnation {
		return r.Incarnation > o.Incarnation
	}
	return r.Seq > o.Seq
}
