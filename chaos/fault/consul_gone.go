package fault

// newConsulGone kills every Consul server.
func newConsulGone(_ Spec, target any) (Fault, error) {
	processes, servers, err := partsNamed("consul", target)
	if err != nil {
		return nil, err
	}
	return killing("kill all of Consul: "+list(servers), processes, servers), nil
}
