package dns

import (
	"math/bits"
	"slices"

	wire "github.com/miekg/dns"
)

// zone is all that is answered at one time. It is never changed.
type zone struct {
	names   map[string]*node // by name on the wire, in lower case
	entries int              // how many it is made of
}

// node is a name.
type node struct {
	// soa says that something is not there; its owner is the apex above.
	soa *packed
	// moving says that what the name holds comes from the entries.
	moving bool
	sets   [sets]*choices // nil: the name has no such records
}

// kind is a type of question, as far as they are told apart.
type kind uint8

const (
	kindA kind = iota
	kindAAAA
	kindSRV
	kindNS
	kindSOA
	kindAny
	kindOther
	kinds

	// sets are the kinds that are those of records.
	sets = kindAny
)

func kindOf(qtype uint16) kind {
	switch qtype {
	case wire.TypeA:
		return kindA
	case wire.TypeAAAA:
		return kindAAAA
	case wire.TypeSRV:
		return kindSRV
	case wire.TypeNS:
		return kindNS
	case wire.TypeSOA:
		return kindSOA
	case wire.TypeANY:
		return kindAny
	default:
		return kindOther
	}
}

// meta reports whether a type is none of records but of operations: transfers,
// keys, signatures, and what may come (RFC 6895, 3.1).
func meta(qtype uint16) bool {
	return qtype == wire.TypeOPT || 128 <= qtype && qtype < wire.TypeANY
}

func (z *zone) answer(q *query, random func() uint64) answer {
	switch {
	case q.version != 0:
		return answer{code: codeBadVersion}
	case q.class != wire.ClassINET || meta(q.qtype):
		return answer{code: codeRefused}
	}
	n, ok := z.names[string(q.key())]
	if !ok {
		return z.absent(q.key())
	}
	if set := n.find(kindOf(q.qtype)); set != nil {
		return answer{codeNoError, set.pick(random)}
	}
	if n.moving && z.entries == 0 {
		return answer{code: codeServerFailure}
	}
	return answer{codeNoData, n.soa}
}

// find returns the records of a kind; to the question for any, the first there
// are: RFC 8482, 4.1.
func (n *node) find(k kind) *choices {
	if k < sets {
		return n.sets[k]
	}
	if k == kindAny {
		for _, set := range n.sets {
			if set != nil {
				return set
			}
		}
	}
	return nil
}

// absent answers for a name that is not there, by the closest one above it.
func (z *zone) absent(name []byte) answer {
	for len(name) > 1 {
		name = name[1+int(name[0]):]
		n, ok := z.names[string(name)]
		if !ok {
			continue
		}
		if n.moving && z.entries == 0 { // it may be the name of an edge
			return answer{code: codeServerFailure}
		}
		return answer{codeNameError, n.soa}
	}
	return answer{code: codeRefused}
}

// choices are the answers to one question, of which one is given.
type choices struct {
	upTo []uint64 // sums of the weights: the i-th option has those below upTo[i]
	// options are the answers; those of one option differ in order alone and
	// are given equally often.
	options [][]packed
}

// pick costs one random number and a binary search.
func (c *choices) pick(random func() uint64) *packed {
	if len(c.options) == 1 && len(c.options[0]) == 1 {
		return &c.options[0][0]
	}
	ticket, rest := bits.Mul64(random(), c.upTo[len(c.upTo)-1])
	i, _ := slices.BinarySearch(c.upTo, ticket+1)
	turn, _ := bits.Mul64(rest, uint64(len(c.options[i])))
	return &c.options[i][turn]
}

// packed are records as they follow their question on the wire. Pointers in
// them lead to the question or into themselves, so that what is cut off at the
// end is not missed by the rest.
type packed struct {
	bytes  []byte
	counts [3]int // records in the answer, authority and additional section
	cuts   []cut  // where it may be cut off, rising
}

// cut is a place between two records.
type cut struct {
	at      int // bytes before it
	records int // records before it
}

// fit returns as much as room bytes hold, and the records in it by section.
func (p *packed) fit(room int) ([]byte, [3]int) {
	if len(p.bytes) <= room {
		return p.bytes, p.counts
	}
	var last cut
	for _, c := range p.cuts {
		if c.at > room {
			break
		}
		last = c
	}
	var counts [3]int
	left := last.records
	for i, n := range p.counts {
		counts[i] = min(left, n)
		left -= counts[i]
	}
	return p.bytes[:last.at], counts
}
