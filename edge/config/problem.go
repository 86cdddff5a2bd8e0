// Package config reads what an operator writes: the process settings of one
// edge (edge.yaml) and the documents that say what the federation serves
// (routes, services, releases). Decoding is strict, a set of documents is
// valid as a whole or not at all, and every problem is reported at once with
// file, line, column and field.
package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// Problem is one thing that is wrong with one field of a file.
type Problem struct {
	File   string
	Line   int // from 1; 0: the file as a whole
	Column int // from 1, in characters; 0: the line as a whole
	// Field is the path to it from the top of its YAML document:
	// "spec.rate_limit.rpm", "[2].methods[0]" in a bare list of routes; empty
	// for the document as a whole.
	Field   string
	Found   string
	Allowed string
}

// String is one line: "routes.yaml:4:12: [0].priority: found "high", allowed
// a whole number, -1000000 to 1000000".
func (p Problem) String() string {
	var at strings.Builder
	at.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&at, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&at, ":%d", p.Column)
		}
	}
	if at.Len() > 0 {
		at.WriteString(": ")
	}
	if p.Field != "" {
		at.WriteString(p.Field + ": ")
	}
	return fmt.Sprintf("%sfound %s, allowed %s", &at, p.Found, p.Allowed)
}

// Problems is everything that is wrong with what was read, sorted by file and
// position. It is the error of all decoding in this package; at most
// maxProblems are kept.
type Problems []Problem

// maxProblems bounds what is kept; more would not be read.
const maxProblems = 1000

// Error has one problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(problem Problem) {
	if len(*p) < maxProblems {
		*p = append(*p, problem)
	}
}

// sorted returns the problems in order, or nil, an error without content.
func (p Problems) sorted() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, comparePlaces)
	return slices.Compact(p)
}

func comparePlaces(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// fieldErrors collects what a Validate method finds.
type fieldErrors struct{ list federation.FieldErrors }

func (e *fieldErrors) add(field, found, allowed string) {
	e.list = append(e.list, federation.FieldError{Field: field, Found: found, Allowed: allowed})
}

func (e *fieldErrors) err() error {
	if len(e.list) == 0 {
		return nil
	}
	return e.list
}
