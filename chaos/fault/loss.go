package fault

import "fmt"

// newLoss loses a share of the packets, both ways.
func newLoss(spec Spec, target any) (Fault, error) {
	links, from, to, err := sides(&spec, target)
	if err != nil {
		return nil, err
	}
	return onLinks(target, fmt.Sprintf("lose %d%% between %s and %s", spec.Percent, list(from), list(to)), ways(from, to, true),
		func(way link) error { return links.Lose(way.from, way.to, spec.Percent) },
		func(way link) error { return links.Lose(way.from, way.to, 0) }), nil
}
