package gossip

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// deviations are what one edge says of endpoints that are not well. The edge
// numbers all changes of its deviations, so that any two versions of one
// record, and a record and a whole set, have an order whatever way they came.
// Merging is idempotent and commutative: see the property test.
type deviations struct {
	origin
	version uint64 // the highest seen
	floor   uint64 // changes up to here are in, by a whole set
	held    map[federation.Key]heldRecord
	count   uint64 // of held that are not withdrawn
	hash    uint64 // sum over them
	fresh   time.Time
}

// heldRecord is a record and when this edge got it. Withdrawn ones are kept for
// a while, so that an older record that comes late does not revive.
type heldRecord struct {
	record
	received time.Time
}

func (r *record) withdrawn() bool { return r.status == federation.HealthUnknown }

// reset empties the deviations and binds them to another life of their edge.
func (d *deviations) reset(o origin) {
	*d = deviations{origin: o, held: make(map[federation.Key]heldRecord)}
}

// put merges one change and reports whether it was news. full says that it was
// refused because the observer has too many.
func (d *deviations) put(r record, now time.Time) (news, full bool) {
	held, known := d.held[r.key]
	if r.version <= d.floor || known && r.version <= held.version {
		return false, false
	}
	if !known && len(d.held) >= 2*maxRecords || !r.withdrawn() && d.count >= maxRecords && (!known || held.withdrawn()) {
		return false, true
	}
	d.store(r, now)
	d.version = max(d.version, r.version)
	return true, false
}

func (d *deviations) store(r record, now time.Time) {
	if held, known := d.held[r.key]; known && !held.withdrawn() {
		d.count--
		d.hash -= held.sum()
	}
	if !r.withdrawn() {
		d.count++
		d.hash += r.sum()
	}
	d.held[r.key] = heldRecord{record: r, received: now}
}

// replace merges a whole set, received now but as old as it says, and returns
// what changed: records put, and withdrawn with the sequence number they had.
func (d *deviations) replace(s *set, now time.Time) []record {
	if s.version < d.floor {
		return nil
	}
	received := now.Add(-s.age)
	if received.After(d.fresh) {
		d.fresh = received
	}
	var changed []record
	in := make(map[federation.Key]struct{}, len(s.records))
	for _, r := range s.records {
		in[r.key] = struct{}{}
		if held, known := d.held[r.key]; r.withdrawn() || known && r.version <= held.version {
			continue
		}
		d.store(r, received)
		changed = append(changed, r)
	}
	for key, held := range d.held {
		if _, still := in[key]; still || held.version > s.version || held.withdrawn() {
			continue
		}
		gone := record{key: key, version: s.version, seq: held.seq}
		d.store(gone, now)
		changed = append(changed, gone)
	}
	d.floor = max(d.floor, s.version)
	d.version = max(d.version, s.version)
	return changed
}

// standing returns the whole set, as old as it is now.
func (d *deviations) standing(now time.Time) set {
	s := set{origin: d.origin, version: d.version, records: make([]record, 0, d.count)}
	if !d.fresh.IsZero() {
		s.age = max(now.Sub(d.fresh), 0)
	}
	for _, held := range d.held {
		if !held.withdrawn() {
			s.records = append(s.records, held.record)
		}
	}
	return s
}

// matches reports whether this is the set that a beat summarises.
func (d *deviations) matches(b *beat) bool {
	return d.count == b.count && d.hash == b.hash
}

// expire drops what was not repeated since the deadline, and returns what was
// dropped as withdrawals: it is unknown now.
func (d *deviations) expire(deadline time.Time) []record {
	if d.fresh.After(deadline) && len(d.held) == int(d.count) {
		return nil
	}
	var gone []record
	for key, held := range d.held {
		received := held.received
		if !held.withdrawn() && d.fresh.After(received) {
			received = d.fresh
		}
		if received.After(deadline) {
			continue
		}
		if !held.withdrawn() {
			gone = append(gone, record{key: key, version: held.version, seq: held.seq})
			d.count--
			d.hash -= held.sum()
		}
		delete(d.held, key)
	}
	if len(gone) > 0 {
		// What was dropped may come again in the same versions, once its
		// edge is heard again.
		d.floor, d.version = 0, 0
	}
	return gone
}

// health is the record as the catalog takes it.
func (r *record) health(o origin, received time.Time) federation.HealthRecord {
	return federation.HealthRecord{
		Subject:     r.key,
		Observer:    o.edge,
		Incarnation: o.incarnation,
		Seq:         r.seq,
		Status:      r.status,
		Percent:     r.percent,
		Reason:      r.reason,
		Received:    received,
	}
}
