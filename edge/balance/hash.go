package balance

import "github.com/grayfed/grayfed/federation"

// HashPicker is a [Picker] that sends what hashes alike to the same endpoint.
type HashPicker interface {
	Picker
	// PickHash is Pick for a request with a hash; rnd decides nothing that the
	// hash could.
	PickHash(hash, rnd uint64, tried []*federation.Endpoint) *federation.Endpoint
}

// HashKey hashes what requests are to be kept together by: the same on every
// edge and after every restart, and different for ("ab", "c") and ("a", "bc").
// It is FNV-1a (Fowler, Noll, Vo) with the output function of SplitMix64, for
// the high bits' sake. It does not withstand clients that choose keys which
// collide; against those an endpoint's bound and limit hold.
func HashKey(parts ...string) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for _, part := range parts {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * prime
		}
		h = (h ^ uint64(len(part))) * prime
	}
	return next(h)
}
