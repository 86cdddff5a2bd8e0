// Package failover decides, from what an edge knows, whether clients are sent
// to it by DNS and with which weight, and what DNS answers. It is pure: no
// clock, no network, no randomness. Each edge decides about its own entry
// alone, so that an edge that is cut off cannot demote the others.
package failover

import (
	"fmt"
	"net/netip"
)

// MaxWeight is the highest weight of an entry; the lowest is 1, as Consul
// refuses a passing weight below it: "out" is a failing check instead.
const MaxWeight = 1000

// Role is what a zone is for.
type Role uint8

// The roles.
const (
	RoleUnknown Role = iota
	// Primary zones share the clients by weight.
	Primary
	// Standby zones get clients only while no primary can.
	Standby
)

var roleNames = [...]string{"unknown", "primary", "standby"}

// String is the name used by configuration, Consul and the API.
func (r Role) String() string {
	if int(r) >= len(roleNames) {
		return roleNames[RoleUnknown]
	}
	return roleNames[r]
}

// ParseRole reads "primary" or "standby"; anything else is an error.
func ParseRole(text string) (Role, error) {
	for _, r := range []Role{Primary, Standby} {
		if text == r.String() {
			return r, nil
		}
	}
	return RoleUnknown, fmt.Errorf("role is %q, allowed primary or standby", text)
}

// Entry is what one edge publishes for DNS.
type Entry struct {
	Edge, Zone string
	Role       Role
	Addresses  []netip.Addr // where clients reach its data listener, 1 to 8, IPv4 and IPv6
	Port       uint16       // of its data listener
	Weight     int          // its share now, 1 to MaxWeight
}

// Verdict is what one means of knowing says of an edge.
type Verdict uint8

// The verdicts. Unknown is neither: the means itself is not to be had, or has
// not looked yet.
const (
	VerdictUnknown Verdict = iota
	Alive
	Dead
)

var verdictNames = [...]string{"unknown", "alive", "dead"}

// String is the name used by the API.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return verdictNames[VerdictUnknown]
	}
	return verdictNames[v]
}

// Sighting is an entry with what this edge knows of it, each by a means of its
// own.
type Sighting struct {
	Entry
	// Consul is Alive when a Consul leader reports that all checks pass and
	// Dead when it reports a critical one or no such entry; Unknown when no
	// leader answered lately.
	Consul Verdict
	// Wavers says that of late a Consul leader held the edge for dead and took
	// it back, while this edge could reach it by neither means of its own: in
	// Serf, a node that misses the other spreads its death, until that one has
	// heard of it and said otherwise, again and again.
	Wavers bool
	// Gossip is what the edges hold of each other. It is Alive also of an edge
	// whose packets still get here, while none gets there. It is Dead also of an edge
	// that has not been heard since this one started, once gossip has run for
	// longer than it takes to find one: else a standby that starts after the
	// primaries died would wait for ever.
	Gossip Verdict
	// Probe is what this edge's own probes of that edge's data listener say, one
	// at each heartbeat: Alive after an answer, Dead after Options.Misses in a
	// row without.
	Probe Verdict
	// Self says that it is this edge's own entry. Consul is then its own
	// decision, Alive when it is in and Dead when it is out, and Gossip is
	// Alive while it is ready: it needs nobody to say so.
	Self bool
}

// unreachable reports whether both means of this edge's own say that it is
// dead: faster than Consul does.
func (s *Sighting) unreachable() bool { return s.Gossip == Dead && s.Probe == Dead }

// isToldDead reports whether a Consul leader says so.
func (s *Sighting) isToldDead() bool { return s.Consul == Dead }

// isDead reports whether every means agrees that nobody serves there.
func (s *Sighting) isDead() bool { return s.isToldDead() && s.unreachable() }

// weight is the entry's, within its range whatever a remote edge wrote.
func (s *Sighting) weight() int { return min(max(1, s.Weight), MaxWeight) }
