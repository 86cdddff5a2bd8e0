package fault

// newOneWayPartition lets nothing through from nodes to others; what those
// send still arrives.
func newOneWayPartition(spec Spec, target any) (Fault, error) {
	links, from, to, err := sides(&spec, target)
	if err != nil {
		return nil, err
	}
	return blocking(target, "nothing from "+list(from)+" to "+list(to), links, ways(from, to, false)), nil
}
