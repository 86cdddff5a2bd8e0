package federation

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// CatalogOptions configure a [Catalog].
type CatalogOptions struct {
	// Self is this edge's id: records of this observer win over all others.
	Self string
	// NewRuntime makes the runtime of a new endpoint. It is called while the
	// catalog is locked, so it must not block nor call the catalog.
	NewRuntime func(*Instance) Runtime
	// RecordTTL is how long a health record counts after it was received:
	// three missed refreshes.
	RecordTTL time.Duration
}

// Change is one event of the registry's watch.
type Change struct {
	// Put is the instance written; nil for a delete.
	Put *Instance
	// Key is what was deleted, when Put is nil.
	Key Key
	// Revision is etcd's revision of the event.
	Revision int64
}

// Catalog folds facts from the registry and evidence from gossip and from this
// edge's own monitor into the [Snapshot] that requests are decided on. The
// registry decides what exists, evidence decides health; neither deletes the
// other's facts. It is safe for concurrent use; readers of the snapshot never
// wait.
type Catalog struct {
	opts CatalogOptions

	current atomic.Pointer[Snapshot]

	mu       sync.Mutex
	evidence map[Key][]HealthRecord // mu; at most one record an observer
	local    map[string][]Key       // mu; by source
	subs     []*Subscription        // mu
}

// NewCatalog returns an empty catalog. Its snapshot is empty, never nil.
func NewCatalog(opts CatalogOptions) *Catalog {
	c := &Catalog{
		opts:     opts,
		evidence: make(map[Key][]HealthRecord),
		local:    make(map[string][]Key),
	}
	c.current.Store(&Snapshot{services: newServiceShards()})
	return c
}

// Snapshot returns the current view, never nil.
func (c *Catalog) Snapshot() *Snapshot { return c.current.Load() }

// Replace makes all the registry's instances, read at one etcd revision, the
// whole of what exists; what is not among them is gone. Facts of local sources
// stay.
func (c *Catalog) Replace(all []*Instance, revision int64) {
	c.mu.Lock()
	old := c.current.Load()
	p := c.newPatch(old)
	p.revision = revision
	listed := make(map[string][]*Instance)
	for _, i := range all {
		listed[i.Service] = append(listed[i.Service], i)
	}
	for _, name := range old.Services() {
		if _, still := listed[name]; !still && !c.isLocal(name) {
			p.replaceService(name, nil)
		}
	}
	for name, instances := range listed {
		p.replaceService(name, instances)
	}
	c.finish(p) // unlocks
}

// Apply folds a batch of watch events in. A change that is not newer than what
// is known of its key is ignored, so events may come twice.
func (c *Catalog) Apply(changes []Change, revision int64) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	for _, change := range changes {
		if change.Put != nil {
			p.put(change.Put)
		} else {
			p.remove(change.Key, change.Revision)
		}
	}
	p.revision = max(p.revision, revision)
	c.finish(p) // unlocks
}

// Anticipate shows whether an instance drains before the registry confirms it:
// i is the instance as it is known but for that. Any newer revision of it, or
// its end, takes its place. It is outside the digest.
func (c *Catalog) Anticipate(i *Instance) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	if known := p.peek(i.Key); known != nil && known.Revision == i.Revision && known.Draining != i.Draining {
		p.set(i)
	}
	c.finish(p) // unlocks
}

// ReplaceLocal makes instances the whole of what a source of this edge alone
// (DNS upstreams) knows. They are outside the digest. Their service names
// contain a ":", which no registered service's can.
func (c *Catalog) ReplaceLocal(source string, instances []*Instance) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	for _, key := range c.local[source] {
		if !slices.ContainsFunc(instances, func(i *Instance) bool { return i.Key == key }) {
			p.drop(key)
		}
	}
	keys := make([]Key, len(instances))
	for n, i := range instances {
		keys[n] = i.Key
		p.set(i)
	}
	c.local[source] = keys
	if len(keys) == 0 {
		delete(c.local, source)
	}
	c.finish(p) // unlocks
}

func (c *Catalog) isLocal(service string) bool {
	for _, keys := range c.local {
		for _, key := range keys {
			if key.Service == service {
				return true
			}
		}
	}
	return false
}

// PutEdge folds in what is known of an edge. The evidence of a dead or departed
// edge is dropped.
func (c *Catalog) PutEdge(edge Edge) {
	if edge.Status == EdgeDead || edge.Status == EdgeLeft {
		c.ForgetObserver(edge.ID)
	}
	c.changeEdges(edge.ID, &edge)
}

// RemoveEdge forgets an edge and its evidence.
func (c *Catalog) RemoveEdge(id string) {
	c.ForgetObserver(id)
	c.changeEdges(id, nil)
}

func (c *Catalog) changeEdges(id string, edge *Edge) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	edges := slices.Clone(p.old.Edges)
	n, found := slices.BinarySearchFunc(edges, id, func(e Edge, id string) int { return cmp.Compare(e.ID, id) })
	refold := true
	switch {
	case edge == nil && !found:
		c.mu.Unlock()
		return
	case edge == nil:
		edges = slices.Delete(edges, n, n+1)
	case found:
		refold = edges[n].Zone != edge.Zone || edges[n].observes() != edge.observes()
		edges[n] = *edge
	default:
		edges = slices.Insert(edges, n, *edge)
	}
	p.edges = edges
	if refold {
		for key := range c.evidence {
			p.refold(key)
		}
	}
	c.finish(p) // unlocks
}

// observes reports whether the edge's silence means that its zone is well.
func (e *Edge) observes() bool { return e.Status == EdgeAlive || e.Status == EdgeSuspect }

// ObserveHealth folds records in. A record that is not newer than the one held
// of its observer only keeps that one fresh when it repeats it. A record of an
// instance that is not registered (yet) is held for its time.
func (c *Catalog) ObserveHealth(now time.Time, records ...HealthRecord) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	for _, r := range records {
		r.Received = now
		if c.keep(r) {
			p.refold(r.Subject)
		}
	}
	c.finish(p) // unlocks
}

// keep stores a record and reports whether it says anything new. Held under mu.
func (c *Catalog) keep(r HealthRecord) bool {
	held := c.evidence[r.Subject]
	n := slices.IndexFunc(held, func(h HealthRecord) bool { return h.Observer == r.Observer })
	switch {
	case n < 0:
		c.evidence[r.Subject] = append(held, r)
		return true
	case held[n].NewerThan(&r):
		return false
	}
	changed := held[n].Status != r.Status || held[n].Percent != r.Percent
	held[n] = r
	return changed
}

// ForgetObserver drops every record of an edge.
func (c *Catalog) ForgetObserver(edge string) {
	c.dropRecords(func(r HealthRecord) bool { return r.Observer == edge })
}

// Expire drops the records received longer than RecordTTL before now: what
// they said becomes unknown, not unhealthy.
func (c *Catalog) Expire(now time.Time) {
	c.dropRecords(func(r HealthRecord) bool { return now.Sub(r.Received) > c.opts.RecordTTL })
}

func (c *Catalog) dropRecords(drop func(HealthRecord) bool) {
	c.mu.Lock()
	p := c.newPatch(c.current.Load())
	for key, held := range c.evidence {
		kept := slices.DeleteFunc(held, drop)
		if len(kept) == len(held) {
			continue
		}
		if len(kept) == 0 {
			delete(c.evidence, key)
		} else {
			c.evidence[key] = kept
		}
		p.refold(key)
	}
	c.finish(p) // unlocks
}

// Evidence returns the records held on an instance, this edge's own included.
func (c *Catalog) Evidence(key Key) []HealthRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.evidence[key])
}

// finish makes the patch the current snapshot, unlocks the catalog, closes the
// runtimes that are gone and tells the subscribers.
func (c *Catalog) finish(p *patch) {
	next, changed := p.snapshot()
	if next == nil {
		c.mu.Unlock()
		return
	}
	c.current.Store(next)
	subs := c.subs
	c.mu.Unlock()
	for _, runtime := range p.gone {
		runtime.Close()
	}
	for _, sub := range subs {
		sub.notify(changed)
	}
}
