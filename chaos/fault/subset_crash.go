package fault

// newSubsetCrash kills the instances of a subset, which deregister nothing.
func newSubsetCrash(spec Spec, target any) (Fault, error) {
	processes, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	return killing("crash "+list(matched), processes, matched), nil
}
