package failover

import (
	"cmp"
	"slices"
)

// Share is one entry of a DNS answer. Weights are relative and at least 1.
type Share struct {
	Entry
	Weight int
}

// tiers are what is answered, best first; the first that anything fits is the
// answer.
var tiers = [...]func(*Sighting) bool{
	(*Sighting).isIn,
	// Every primary that shows a sign of life, whatever speaks against it: it
	// may be held out, or be beyond a partition that clients do not see.
	func(s *Sighting) bool {
		return s.Role == Primary && (s.Consul == Alive || s.Gossip == Alive || s.Probe == Alive)
	},
	// Every primary: this edge may be the one that is cut off.
	func(s *Sighting) bool { return s.Role == Primary },
	func(*Sighting) bool { return true },
}

// Doubtful reports whether nothing that is in was found to answer with: what
// [Answer] says then is a last resort, which clients should ask for again
// rather than keep, as the standby may be about to go in.
func Doubtful(sightings []Sighting) bool {
	return !slices.ContainsFunc(sightings, func(s Sighting) bool { return s.isIn() })
}

// Answer folds what is known into what DNS answers, by edge id. It is never
// empty when there are sightings.
func Answer(sightings []Sighting) []Share {
	for _, fits := range tiers {
		var shares []Share
		for i := range sightings {
			if s := &sightings[i]; fits(s) {
				shares = append(shares, Share{Entry: s.Entry, Weight: s.weight()})
			}
		}
		if len(shares) > 0 {
			slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(a.Edge, b.Edge) })
			return shares
		}
	}
	return nil
}

// isIn: without a Consul leader that is every primary that gossip or a probe
// reaches, and of the standbys this edge's own alone: another might be out, and
// a primary be well.
func (s *Sighting) isIn() bool {
	switch s.Consul {
	case Alive:
		return !s.unreachable()
	case VerdictUnknown:
		return s.Role == Primary && (s.Gossip == Alive || s.Probe == Alive)
	default:
		return false
	}
}
