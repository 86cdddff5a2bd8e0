package route_test

// runtime is an endpoint's state on this edge.
type runtime struct {
	full     bool
	inFlight int64
}

func (r *runtime) InFlight() int64 { return r.inFlight }
func (r *runtime) Admits() bool    { return !r.full }
func (r *runtime) Close()          {}
