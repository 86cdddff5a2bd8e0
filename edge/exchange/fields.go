package exchange

// Field is one header or trailer field as it was received or as the gateway
// set it. Name keeps the sender's letter case (HTTP/2 sends lower case);
// comparisons ignore it.
//
// Both strings may be views into a connection's buffer: they are valid until
// [Handler.Done] returns and must be cloned (strings.Clone) to be kept longer.
type Field struct {
	Name  string
	Value string
	// ID is the well-known name that Name is, [FieldLookalike] when it could
	// pass for one, or [FieldOther].
	ID FieldID
}

// Fields is an ordered list of fields, as received. The zero value is empty
// and ready to use; Reset keeps the memory for the next message.
type Fields struct {
	list []Field
}

// Reset empties the list and keeps its memory.
func (f *Fields) Reset() { clear(f.list); f.list = f.list[:0] }

// Len is the number of fields, counting repeated names each time.
func (f *Fields) Len() int { return len(f.list) }

// At returns the field at position i, 0 <= i < Len. The pointer is good until
// the list changes.
func (f *Fields) At(i int) *Field { return &f.list[i] }

// All is the list itself, in order, for reading and for changing values in
// place. It is good until the list changes.
func (f *Fields) All() []Field { return f.list }

// Append adds a field whose well-known id the caller has looked up already.
func (f *Fields) Append(field Field) { f.list = append(f.list, field) }

// Add appends a field. The strings are kept, not copied.
func (f *Fields) Add(name, value string) {
	f.list = append(f.list, Field{Name: name, Value: value, ID: LookupField(name)})
}

// Get returns the value of the first field with a well-known name and whether
// there is one.
func (f *Fields) Get(id FieldID) (string, bool) {
	for i := range f.list {
		if f.list[i].ID == id {
			return f.list[i].Value, true
		}
	}
	return "", false
}

// GetName returns the value of the first field called name in any letter case
// and whether there is one.
func (f *Fields) GetName(name string) (string, bool) {
	for i := range f.list {
		if EqualFold(f.list[i].Name, name) {
			return f.list[i].Value, true
		}
	}
	return "", false
}

// Count is how many fields have a well-known name.
func (f *Fields) Count(id FieldID) int {
	n := 0
	for i := range f.list {
		if f.list[i].ID == id {
			n++
		}
	}
	return n
}

// Set replaces the first field of a well-known name, removes its repetitions,
// or appends it where there is none. The strings are kept, not copied.
func (f *Fields) Set(id FieldID, value string) {
	for i := range f.list {
		if f.list[i].ID == id {
			f.list[i].Value = value
			f.removeAfter(i+1, id)
			return
		}
	}
	f.list = append(f.list, Field{Name: id.String(), Value: value, ID: id})
}

// Del removes every field of a well-known name, keeping the order of the rest.
func (f *Fields) Del(id FieldID) { f.removeAfter(0, id) }

// DelName removes every field called name in any letter case.
func (f *Fields) DelName(name string) {
	kept := f.list[:0]
	for _, field := range f.list {
		if !EqualFold(field.Name, name) {
			kept = append(kept, field)
		}
	}
	clear(f.list[len(kept):])
	f.list = kept
}

// DelLike removes every field called name, in any letter case and with anything
// but letters and digits in place of its dashes: see [FieldLookalike].
func (f *Fields) DelLike(name string) {
	kept := f.list[:0]
	for _, field := range f.list {
		if !Lookalike(name, field.Name) {
			kept = append(kept, field)
		}
	}
	clear(f.list[len(kept):])
	f.list = kept
}

func (f *Fields) removeAfter(from int, id FieldID) {
	n := from
	for i := from; i < len(f.list); i++ {
		if f.list[i].ID != id {
			if i != n {
				f.list[n] = f.list[i]
			}
			n++
		}
	}
	clear(f.list[n:])
	f.list = f.list[:n]
}

// EqualFold compares two field names byte by byte, ignoring ASCII letter case
// only: field names are ASCII tokens (RFC 9110, section 5.1).
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
