package registry

import (
	"reflect"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// EventKind says what became of an instance.
type EventKind string

// The kinds. Those up to EventExpiredOrphan are seen by every edge, in etcd's
// order; the others only by the edge that they concern.
const (
	EventRegistered    EventKind = "registered"
	EventUpdated       EventKind = "updated"
	EventDraining      EventKind = "draining"
	EventAdopted       EventKind = "adopted"  // another edge owns it now
	EventOrphaned      EventKind = "orphaned" // owner gone, nobody adopted it
	EventDeregistered  EventKind = "deregistered"
	EventExpired       EventKind = "expired"        // its heartbeats ended
	EventExpiredOrphan EventKind = "orphan-expired" // orphaned for the orphan TTL

	// EventSuperseded: a write of this edge was overwritten, by another edge
	// or by a concurrent write of this one.
	EventSuperseded EventKind = "superseded"
	// EventReplayRefused: a write that was queued while etcd was away is not
	// newer than what etcd holds, and was dropped.
	EventReplayRefused EventKind = "replay-refused"
	// EventReplayExpired: a queued write grew too old to be replayed safely.
	EventReplayExpired EventKind = "replay-expired"
)

// Event is one thing that became of one instance.
type Event struct {
	Kind EventKind
	federation.Key
	// Stamp is that of the write told of; of a superseded or refused write,
	// that of the loser.
	Stamp federation.Stamp
	// By is the stamp of the write that won, where there are two.
	By federation.Stamp
	// Revision is etcd's of the write that stands; 0 when it is not known.
	Revision int64
	// Owner is the owning edge after it, Previous the one before when it
	// differs.
	Owner    string
	Previous string
	Time     time.Time // when this edge saw it
}

func (r *Registry) emit(events ...Event) {
	if r.opts.OnEvent == nil {
		return
	}
	now := time.Now()
	for _, e := range events {
		e.Time = now
		r.opts.OnEvent(e)
	}
}

// difference returns the event that leads from one state of a key to the next;
// either may be nil. removed tells why it is gone, when it is.
func difference(before, after *federation.Instance, removed *tombstone, revision int64) (Event, bool) {
	switch {
	case before == nil && after == nil:
		return Event{}, false
	case after == nil:
		e := Event{Kind: EventDeregistered, Key: before.Key, Stamp: before.Stamp, Revision: revision, Owner: before.Owner}
		if removed != nil {
			e.Kind, e.Stamp = removed.Reason, removed.Stamp
		}
		return e, true
	}
	e := Event{Kind: EventUpdated, Key: after.Key, Stamp: after.Stamp, Revision: revision, Owner: after.Owner}
	if before != nil && before.Owner != after.Owner {
		e.Previous = before.Owner
	}
	switch {
	case before == nil:
		e.Kind = EventRegistered
	case before.OrphanedAt.IsZero() && !after.OrphanedAt.IsZero():
		e.Kind = EventOrphaned
	case before.Owner != after.Owner, !before.OrphanedAt.IsZero() && after.OrphanedAt.IsZero():
		e.Kind = EventAdopted
	case !before.Draining && after.Draining:
		e.Kind = EventDraining
	}
	return e, true
}

// superseding returns the event for the edge that wrote before, when another
// edge's write took the place of what it said. Adoption, orphaning and draining
// keep that, and a delete is told as what it is.
func superseding(self string, before, after *federation.Instance, revision int64) (Event, bool) {
	if before == nil || after == nil || before.Stamp.Origin != self || after.Stamp.Origin == self {
		return Event{}, false
	}
	if sameContent(before, after) && (after.Draining || !before.Draining) {
		return Event{}, false
	}
	e := Event{
		Kind: EventSuperseded, Key: after.Key, Stamp: before.Stamp, By: after.Stamp,
		Revision: revision, Owner: after.Owner,
	}
	if before.Owner != after.Owner {
		e.Previous = before.Owner
	}
	return e, true
}

// sameContent reports whether two states of an instance say the same of it,
// whoever owns it, whenever that was written, draining or not.
func sameContent(a, b *federation.Instance) bool {
	return reflect.DeepEqual(content(a), content(b))
}

func content(i *federation.Instance) federation.Instance {
	c := *i
	c.Owner, c.OrphanedAt, c.Draining = "", time.Time{}, false
	c.Stamp, c.Revision, c.Fingerprint = federation.Stamp{}, 0, federation.Fingerprint{}
	if len(c.Tags) == 0 {
		c.Tags = nil
	}
	if len(c.Unknown) == 0 {
		c.Unknown = nil
	}
	return c
}
