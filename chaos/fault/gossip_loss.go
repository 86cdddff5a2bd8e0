package fault

import "fmt"

// newGossipLoss blocks the port of the edges' gossip both ways, and nothing
// else.
func newGossipLoss(spec Spec, target any) (Fault, error) {
	_, from, to, err := sides(&spec, target)
	if err != nil {
		return nil, err
	}
	ports, err := need[Ports](target, "ports that can be blocked")
	if err != nil {
		return nil, err
	}
	return onLinks(target, fmt.Sprintf("no gossip (port %d) between %s and %s", spec.Port, list(from), list(to)), ways(from, to, true),
		func(way link) error { return ports.BlockPort(way.from, way.to, spec.Port, true) },
		func(way link) error { return ports.BlockPort(way.from, way.to, spec.Port, false) }), nil
}
