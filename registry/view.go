package registry

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// view is this edge's copy of what etcd holds, as far as the watch has come,
// and what it keeps of the instances that it owns. Registry.mu guards it.
type view struct {
	self     string
	revision int64
	lamport  uint64 // highest in what etcd was seen to hold
	cluster  uint64 // etcd's id; 0: from the cache
	// live: it came from etcd, not from the cache. Nothing is adopted or
	// removed on the word of a cached view.
	live      bool
	instances map[federation.Key]*federation.Instance
	edges     map[string]knownEdge
	owned     map[string]int // instances by owner, orphans left out
	orphans   int
	beats     map[federation.Key]beat
	changes   uint64 // how often what the cache keeps has changed
}

type knownEdge struct {
	federation.Edge
	mod  int64
	seen time.Time
}

// beat is what the owner keeps of one instance.
type beat struct {
	until time.Time // zero: it sends no heartbeats
	mod   int64     // ModRevision of the write that it is about
}

func newView(self string) view {
	return view{
		self:      self,
		instances: make(map[federation.Key]*federation.Instance),
		edges:     make(map[string]knownEdge),
		owned:     make(map[string]int),
		beats:     make(map[federation.Key]beat),
	}
}

func (v *view) count(i *federation.Instance, by int) {
	switch {
	case i == nil:
	case !i.OrphanedAt.IsZero():
		v.orphans += by
	case v.owned[i.Owner]+by == 0:
		delete(v.owned, i.Owner)
	default:
		v.owned[i.Owner] += by
	}
}

// put folds a write in and returns the state before.
func (v *view) put(i *federation.Instance, now time.Time) (before *federation.Instance) {
	v.changes++
	before = v.instances[i.Key]
	v.instances[i.Key] = i
	v.count(before, -1)
	v.count(i, 1)
	v.own(i, before, now)
	return before
}

// own keeps or drops the heartbeat that goes with a state of an instance. A new
// owner, and an owner that has restarted, grants one full TTL.
func (v *view) own(i, before *federation.Instance, now time.Time) {
	held, have := v.beats[i.Key]
	switch {
	case have && held.mod > i.Revision: // a write of this edge that the watch has yet to bring
	case i.Owner != v.self || !i.OrphanedAt.IsZero():
		delete(v.beats, i.Key)
	case i.TTL == 0:
		v.beats[i.Key] = beat{mod: i.Revision}
	case !have || held.until.IsZero() || before != nil && before.TTL != i.TTL:
		v.beats[i.Key] = beat{until: now.Add(time.Duration(i.TTL)), mod: i.Revision}
	default:
		v.beats[i.Key] = beat{until: held.until, mod: i.Revision}
	}
}

// remove folds in that a key holds no instance since a revision.
func (v *view) remove(key federation.Key, revision int64) (before *federation.Instance) {
	before = v.instances[key]
	if before != nil {
		v.changes++
		v.count(before, -1)
		delete(v.instances, key)
	}
	if v.beats[key].mod <= revision {
		delete(v.beats, key)
	}
	return before
}

// refresh takes a heartbeat of an instance that this edge owns.
func (v *view) refresh(key federation.Key, now time.Time) bool {
	held, ok := v.beats[key]
	if !ok {
		return false
	}
	if held.until.IsZero() {
		return true
	}
	i := v.instances[key]
	if i == nil || i.TTL == 0 {
		// The watch has yet to bring the write; until it does, the TTL that
		// was granted with it runs.
		return true
	}
	held.until = now.Add(time.Duration(i.TTL))
	v.beats[key] = held
	return true
}

// ownerless reports whether some instance has an owner without a lease, or is
// orphaned: whether looking for them is worth a walk.
func (v *view) ownerless() bool {
	if v.orphans > 0 {
		return true
	}
	for owner := range v.owned {
		if _, lives := v.edges[owner]; !lives && owner != v.self {
			return true
		}
	}
	return false
}

// regrant gives every instance that this edge owns its full TTL from now.
func (v *view) regrant(now time.Time) {
	for key, held := range v.beats {
		if i := v.instances[key]; i != nil && !held.until.IsZero() {
			held.until = now.Add(time.Duration(i.TTL))
			v.beats[key] = held
		}
	}
}
