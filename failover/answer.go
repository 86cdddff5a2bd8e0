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

// Answer folds what is known into what DNS answers, by edge id. It is never
// empty when there are sightings.
func Answer(sightings []Sighting) []Share {
	var shares []Share
	for _, s := range sightings {
		shares = append(shares, Share{Entry: s.Entry, Weight: max(1, s.Weight)})
	}
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(a.Edge, b.Edge) })
	return shares
}
