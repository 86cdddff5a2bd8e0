package edge

import (
	"flag"
	"testing"
)

// soak asks for the long forms (`make soak`).
var soak = flag.Bool("soak", false, "run the long forms: more rounds, changes and bytes") //nolint:gochecknoglobals // a flag

// length is how much of something a test does: little under -short, much under
// -soak.
func length(short, usual, long int) int {
	switch {
	case *soak:
		return long
	case testing.Short():
		return short
	default:
		return usual
	}
}
