package fault

// newPartition parts nodes from others, both ways.
func newPartition(spec Spec, target any) (Fault, error) {
	links, from, to, err := sides(&spec, target)
	if err != nil {
		return nil, err
	}
	return blocking(target, "part "+list(from)+" from "+list(to), links, ways(from, to, true)), nil
}

// blocking lets nothing through.
func blocking(target any, what string, links Links, all []link) Fault {
	return onLinks(target, what, all,
		func(way link) error { return links.Block(way.from, way.to, true) },
		func(way link) error { return links.Block(way.from, way.to, false) })
}
