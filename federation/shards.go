package federation

import (
	"hash/maphash"
	"maps"
	"slices"
)

// serviceShardCount bounds what one change copies: with 100,000 services a
// shard holds about 400 of them.
const serviceShardCount = 256

// serviceShards is a persistent map of services: with shares every shard but
// one with the map it was made from.
type serviceShards struct {
	seed   maphash.Seed
	shards *[serviceShardCount]map[string]*ServiceView
}

func newServiceShards() serviceShards {
	return serviceShards{seed: maphash.MakeSeed(), shards: new([serviceShardCount]map[string]*ServiceView)}
}

func (s serviceShards) shard(name string) int {
	return int(maphash.String(s.seed, name) % serviceShardCount)
}

func (s serviceShards) get(name string) *ServiceView { return s.shards[s.shard(name)][name] }

// with returns a map in which the given views replace those of their names; a
// view without endpoints removes its service.
func (s serviceShards) with(views []*ServiceView) serviceShards {
	next := serviceShards{seed: s.seed, shards: new([serviceShardCount]map[string]*ServiceView)}
	*next.shards = *s.shards
	var copied [serviceShardCount]bool
	for _, view := range views {
		n := s.shard(view.Name)
		if !copied[n] {
			copied[n] = true
			next.shards[n] = maps.Clone(next.shards[n])
			if next.shards[n] == nil {
				next.shards[n] = make(map[string]*ServiceView)
			}
		}
		if len(view.Endpoints) == 0 {
			delete(next.shards[n], view.Name)
			continue
		}
		next.shards[n][view.Name] = view
	}
	return next
}

func (s serviceShards) names() []string {
	var names []string
	for _, shard := range s.shards {
		for name := range shard {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Service returns the view of a service, nil when it has no instance.
func (s *Snapshot) Service(name string) *ServiceView { return s.services.get(name) }

// Services returns the names of all services with an instance, sorted.
func (s *Snapshot) Services() []string { return s.services.names() }

// Endpoint returns the endpoint of an instance, nil when it is not registered.
func (s *Snapshot) Endpoint(key Key) *Endpoint {
	view := s.Service(key.Service)
	if view == nil {
		return nil
	}
	n, found := view.find(key.ID)
	if !found {
		return nil
	}
	return view.Endpoints[n]
}

func (v *ServiceView) find(id string) (int, bool) {
	return slices.BinarySearchFunc(v.Endpoints, id, func(e *Endpoint, id string) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
}
