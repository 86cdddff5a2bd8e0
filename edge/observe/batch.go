package observe

import "unsafe"

// batch holds lines on their way to the writer, and the memory of their
// strings, which is used again for the next ones.
type batch struct {
	records []Record
	text    []byte // the block that strings are copied into
	size    int    // bytes of strings, in this block and earlier ones
}

const (
	// minBlock is the first block of strings, in bytes.
	minBlock = 16 << 10
	// keepLines is how large a batch keeps its memory, in lines of average
	// size; that of a burst goes back.
	keepLines = 4 * wakeAt
)

// textSize is how many bytes the record's strings have.
func (r *Record) textSize() int {
	n := 0
	for _, s := range r.texts() {
		n += len(*s)
	}
	return n
}

// add appends a copy of r, whose strings have size bytes.
func (b *batch) add(r *Record, size int) {
	if len(b.text)+size > cap(b.text) {
		// The strings of earlier records keep the block they are in.
		b.text = make([]byte, 0, max(2*cap(b.text), size, minBlock))
	}
	b.size += size
	b.records = append(b.records, *r)
	kept := &b.records[len(b.records)-1]
	for _, s := range kept.texts() {
		if *s == "" {
			continue
		}
		begin := len(b.text)
		b.text = append(b.text, *s...)
		*s = view(b.text[begin:])
	}
}

// reset forgets the records, whose strings are invalid from then on.
func (b *batch) reset() {
	if len(b.records) > keepLines || b.size > keepLines*lineText {
		*b = batch{}
		return
	}
	b.records, b.text, b.size = b.records[:0], b.text[:0], 0
}

// view is the bytes as a string, valid as long as they are not written to.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
