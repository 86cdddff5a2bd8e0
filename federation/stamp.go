// Package federation is the vocabulary that every other package speaks: which
// instances exist, which releases select them, how healthy they are, in which
// order facts were written, and the immutable view that a request is decided
// on. It imports nothing but the standard library and does no I/O, save for
// the clock's high-water mark.
package federation

import (
	"cmp"
	"fmt"
)

// Stamp orders the writes of one key: by Lamport time, ties broken by the edge
// that wrote. Only edges mint stamps (see [Clock]). The order says nothing
// across keys. (Lamport, "Time, Clocks, and the Ordering of Events in a
// Distributed System", 1978.)
type Stamp struct {
	Lamport uint64 `json:"lamport"`
	Origin  string `json:"origin"` // id of the edge that minted it
}

// Compare is -1 when s was written before o, 1 when after, 0 when they are
// the same stamp.
func (s Stamp) Compare(o Stamp) int {
	if c := cmp.Compare(s.Lamport, o.Lamport); c != 0 {
		return c
	}
	return cmp.Compare(s.Origin, o.Origin)
}

// IsZero reports whether s was never minted.
func (s Stamp) IsZero() bool { return s.Lamport == 0 && s.Origin == "" }

// String is "lamport@origin".
func (s Stamp) String() string { return fmt.Sprintf("%d@%s", s.Lamport, s.Origin) }
