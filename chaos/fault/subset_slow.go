package fault

import "fmt"

// newSubsetSlow delays the answers of instances.
func newSubsetSlow(spec Spec, target any) (Fault, error) {
	return behaving(fmt.Sprintf("%s slower: ", spec.Delay), &spec, target)
}
