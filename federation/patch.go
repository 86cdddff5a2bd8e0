package federation

import (
	"slices"
)

// patch is the next snapshot in the making. It copies the endpoint list of a
// service when it first touches it, and nothing of the others. It is used
// while its catalog is locked.
type patch struct {
	catalog  *Catalog
	old      *Snapshot
	revision int64
	digest   Fingerprint
	edges    []Edge
	views    map[string]*ServiceView // touched
	gone     []Runtime
}

func (c *Catalog) newPatch(old *Snapshot) *patch {
	return &patch{catalog: c, old: old, revision: old.Revision, digest: old.Digest, edges: old.Edges}
}

// view returns the service's view to change, copied from the old snapshot.
func (p *patch) view(name string) *ServiceView {
	if v := p.views[name]; v != nil {
		return v
	}
	if p.views == nil {
		p.views = make(map[string]*ServiceView)
	}
	v := &ServiceView{Name: name}
	if old := p.old.Service(name); old != nil {
		v.Revision, v.Unhealthy = old.Revision, old.Unhealthy
		v.Endpoints = make([]*Endpoint, len(old.Endpoints), len(old.Endpoints)+1)
		copy(v.Endpoints, old.Endpoints)
	}
	p.views[name] = v
	return v
}

// peek returns the endpoint as the patch has it so far, without copying.
func (p *patch) peek(key Key) *Endpoint {
	v := p.views[key.Service]
	if v == nil {
		v = p.old.Service(key.Service)
	}
	if v == nil {
		return nil
	}
	if n, found := v.find(key.ID); found {
		return v.Endpoints[n]
	}
	return nil
}

// put folds in a registered instance unless something newer is known.
func (p *patch) put(i *Instance) {
	known := p.peek(i.Key)
	if known == nil && i.Revision <= p.old.Revision || known != nil && i.Revision <= known.Revision {
		return
	}
	p.set(i)
}

// set makes i what is known of its key.
func (p *patch) set(i *Instance) {
	v := p.view(i.Service)
	n, found := v.find(i.ID)
	var before *Endpoint
	if found {
		before = v.Endpoints[n]
	}
	e := p.endpoint(i, before)
	if found {
		v.Endpoints[n] = e
	} else {
		v.Endpoints = slices.Insert(v.Endpoints, n, e)
	}
	p.account(v, before, e)
}

// endpoint makes the endpoint of an instance, keeping the runtime of the one
// before while the address and the protocol are the same.
func (p *patch) endpoint(i *Instance, before *Endpoint) *Endpoint {
	e := &Endpoint{Instance: i, Health: p.fold(i)}
	if before != nil && before.Address == i.Address && before.Protocol == i.Protocol {
		e.Runtime = before.Runtime
		return e
	}
	if before != nil {
		p.gone = append(p.gone, before.Runtime)
	}
	e.Runtime = p.catalog.opts.NewRuntime(i)
	return e
}

// remove folds in a delete unless a newer write is known.
func (p *patch) remove(key Key, revision int64) {
	if known := p.peek(key); known != nil && known.Revision < revision {
		p.drop(key)
		p.views[key.Service].Revision = revision
	}
}

func (p *patch) drop(key Key) {
	if p.peek(key) == nil {
		return
	}
	v := p.view(key.Service)
	n, _ := v.find(key.ID)
	before := v.Endpoints[n]
	v.Endpoints = slices.Delete(v.Endpoints, n, n+1)
	p.gone = append(p.gone, before.Runtime)
	p.account(v, before, nil)
}

// replaceService makes instances all that a service has.
func (p *patch) replaceService(name string, instances []*Instance) {
	slices.SortFunc(instances, func(a, b *Instance) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	if p.sameRevisions(name, instances) {
		return
	}
	old := p.view(name).Endpoints
	v := &ServiceView{Name: name, Endpoints: make([]*Endpoint, 0, len(instances)+1)}
	p.views[name] = v
	for _, i := range instances {
		for len(old) > 0 && old[0].ID < i.ID {
			p.gone = append(p.gone, old[0].Runtime)
			p.account(v, old[0], nil)
			old = old[1:]
		}
		var before *Endpoint
		if len(old) > 0 && old[0].ID == i.ID {
			before, old = old[0], old[1:]
		}
		e := p.endpoint(i, before)
		v.Endpoints = append(v.Endpoints, e)
		p.account(v, before, e)
	}
	for _, before := range old {
		p.gone = append(p.gone, before.Runtime)
		p.account(v, before, nil)
	}
	v.Unhealthy = 0
	for _, e := range v.Endpoints {
		if e.Health.Status == Unhealthy {
			v.Unhealthy++
		}
	}
}

// sameRevisions spares a relist that brings nothing new the rebuilding of
// every service.
func (p *patch) sameRevisions(name string, instances []*Instance) bool {
	old := p.old.Service(name)
	if old == nil || len(old.Endpoints) != len(instances) {
		return false
	}
	for n, e := range old.Endpoints {
		if e.ID != instances[n].ID || e.Revision != instances[n].Revision || e.Fingerprint != instances[n].Fingerprint {
			return false
		}
	}
	return true
}

// account keeps the sums of the view and of the digest right when an endpoint
// takes the place of another; either may be nil.
func (p *patch) account(v *ServiceView, before, after *Endpoint) {
	if before != nil {
		p.digest = p.digest.Sub(before.Fingerprint)
		if before.Health.Status == Unhealthy {
			v.Unhealthy--
		}
	}
	if after != nil {
		p.digest = p.digest.Add(after.Fingerprint)
		v.Revision = max(v.Revision, after.Revision)
		if after.Health.Status == Unhealthy {
			v.Unhealthy++
		}
	}
}

// refold judges an instance's health anew.
func (p *patch) refold(key Key) {
	known := p.peek(key)
	if known == nil {
		return
	}
	health := p.fold(known.Instance)
	if health == known.Health {
		return
	}
	v := p.view(key.Service)
	n, _ := v.find(key.ID)
	after := &Endpoint{Instance: known.Instance, Health: health, Runtime: known.Runtime}
	v.Endpoints[n] = after
	p.account(v, known, after)
}

// snapshot returns the next snapshot and the names of the services that
// differ; nil when nothing changed at all.
func (p *patch) snapshot() (*Snapshot, []string) {
	sameEdges := len(p.edges) == len(p.old.Edges) && (len(p.edges) == 0 || &p.edges[0] == &p.old.Edges[0])
	if len(p.views) == 0 && p.revision == p.old.Revision && sameEdges {
		return nil, nil
	}
	next := &Snapshot{
		Revision:  p.revision,
		Digest:    p.digest,
		Instances: p.old.Instances,
		Unhealthy: p.old.Unhealthy,
		Edges:     p.edges,
		services:  p.old.services,
	}
	if len(p.views) == 0 {
		return next, nil
	}
	views := make([]*ServiceView, 0, len(p.views))
	names := make([]string, 0, len(p.views))
	for name, v := range p.views {
		views = append(views, v)
		names = append(names, name)
		next.Instances += len(v.Endpoints)
		next.Unhealthy += v.Unhealthy
		if old := p.old.Service(name); old != nil {
			next.Instances -= len(old.Endpoints)
			next.Unhealthy -= old.Unhealthy
		}
	}
	next.services = p.old.services.with(views)
	return next, names
}
