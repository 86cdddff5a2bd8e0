package route

import (
	"encoding/binary"
	"hash/maphash"
)

// fewChildren is up to how many children looking at each beats hashing.
const fewChildren = 6

// literalChildren are the literal segments below a node: few in a list, many
// in a hash table with open addressing, at most three quarters full. With
// thousands of routes a match costs what it reads that no cache holds: a map
// would read a word of control bytes, the key, its text and the node, each
// elsewhere; here one entry tells whether a short text is it.
type literalChildren struct {
	entries []literalChild // of a table, as many as a power of two
	count   int
	seed    maphash.Seed
}

// literalChild is half a cache line.
type literalChild struct {
	head uint64 // of the text; see headOf
	text string
	node *node // nil: free
}

// headOf packs a text of up to eight bytes, whose length makes it unique, or
// the first eight bytes of a longer one.
func headOf(text string) (head uint64) {
	switch n := len(text); {
	case n >= 8:
		return word64(text)
	case n >= 4:
		return uint64(word32(text)) | uint64(word32(text[n-4:]))<<32
	default:
		for i := range n {
			head = head<<8 | uint64(text[i])
		}
		return head
	}
}

func word64(text string) uint64 {
	return binary.LittleEndian.Uint64([]byte(text[:8])) // the compiler does not copy
}

func word32(text string) uint32 { return binary.LittleEndian.Uint32([]byte(text[:4])) }

func (c *literalChild) is(head uint64, text string) bool {
	return c.head == head && len(c.text) == len(text) && (len(text) <= 8 || c.text == text)
}

func (c *literalChildren) hashed() bool { return c.count > fewChildren }

// get returns the child, nil when there is none.
func (c *literalChildren) get(text string) *node {
	head := headOf(text)
	if c.hashed() {
		return c.slot(head, text).node
	}
	for i := range c.entries {
		if c.entries[i].is(head, text) {
			return c.entries[i].node
		}
	}
	return nil
}

// slot returns the entry of a text in the table, or the free one for it.
func (c *literalChildren) slot(head uint64, text string) *literalChild {
	mask := len(c.entries) - 1
	for at := int(maphash.String(c.seed, text)) & mask; ; at = (at + 1) & mask {
		if entry := &c.entries[at]; entry.node == nil || entry.is(head, text) {
			return entry
		}
	}
}

// add returns the child, made now when there is none.
func (c *literalChildren) add(text string) *node {
	if n := c.get(text); n != nil {
		return n
	}
	child := literalChild{head: headOf(text), text: text, node: &node{best: rankNone}}
	hashed := c.hashed()
	c.count++
	switch {
	case !c.hashed():
		c.entries = append(c.entries, child)
	case !hashed || 4*c.count > 3*len(c.entries):
		c.rebuild(child)
	default:
		*c.slot(child.head, text) = child
	}
	return child.node
}

// rebuild makes the table anew, with one more child, half full at most.
func (c *literalChildren) rebuild(child literalChild) {
	size := 1
	for size < 2*c.count {
		size *= 2
	}
	old := append(c.entries, child)
	c.entries = make([]literalChild, size)
	c.seed = maphash.MakeSeed()
	for i := range old {
		if old[i].node != nil {
			*c.slot(old[i].head, old[i].text) = old[i]
		}
	}
}
