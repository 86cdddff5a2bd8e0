package config

import (
	"cmp"
	"slices"
)

// Ref names a document.
type Ref struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// String is "Route/api-v1-users".
func (r Ref) String() string { return string(r.Kind) + "/" + r.Name }

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// Changes is what differs between two sets; each list is sorted by kind and
// name.
type Changes struct {
	Added   []Ref `json:"added,omitempty"`
	Changed []Ref `json:"changed,omitempty"`
	Removed []Ref `json:"removed,omitempty"`
}

// Empty reports whether the sets have the same content.
func (c Changes) Empty() bool { return len(c.Added)+len(c.Changed)+len(c.Removed) == 0 }

// Diff says what became of the documents of older in newer; a nil set is
// empty. A route whose upstream became another by a change elsewhere (a
// service that is declared now) has changed.
func Diff(older, newer *Documents) Changes {
	var before, after map[Ref]string
	if older != nil {
		before = older.contents()
	}
	if newer != nil {
		after = newer.contents()
	}
	var c Changes
	for ref, text := range after {
		old, had := before[ref]
		switch {
		case !had:
			c.Added = append(c.Added, ref)
		case old != text:
			c.Changed = append(c.Changed, ref)
		}
	}
	for ref := range before {
		if _, has := after[ref]; !has {
			c.Removed = append(c.Removed, ref)
		}
	}
	slices.SortFunc(c.Added, compareRefs)
	slices.SortFunc(c.Changed, compareRefs)
	slices.SortFunc(c.Removed, compareRefs)
	return c
}
