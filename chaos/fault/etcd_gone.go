package fault

// newEtcdGone kills every member of etcd.
func newEtcdGone(_ Spec, target any) (Fault, error) {
	processes, members, err := partsNamed("etcd", target)
	if err != nil {
		return nil, err
	}
	return killing("kill all of etcd: "+list(members), processes, members), nil
}
