package fault

import "fmt"

// newSubsetErrors lets instances fail a share of their requests.
func newSubsetErrors(spec Spec, target any) (Fault, error) {
	return behaving(fmt.Sprintf("%d%% errors: ", spec.Percent), &spec, target)
}
