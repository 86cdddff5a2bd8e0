package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// maxTries bounds the compare-and-swap of one write.
const maxTries = 16

// write is one write of one key.
type write struct {
	action string // for the audit
	actor  string // who asked; this edge when empty
	// known, when its mod is not 0, spares the first read.
	known record
	// stamp is set for a replay, which keeps the one that it was given.
	stamp federation.Stamp
	// replaces: it takes nothing over from what it overwrites, so a
	// concurrent write of this edge that it overwrites is lost.
	replaces bool
	// decide turns what etcd holds into what it shall hold. It is asked anew
	// after each conflict. errUnchanged ends the write well, any other error
	// ends it.
	decide func(current record, living func(edge string) bool) (decision, error)
}

// decision is what a key shall hold.
type decision struct {
	next record
	// absent names an edge that must not have a lease at that moment: the
	// one whose instance is taken over.
	absent string
}

// perform reads, decides, and writes where nothing changed in between; on a
// conflict it starts again with what etcd holds then. It returns the record
// that etcd holds now.
func (r *Registry) perform(ctx context.Context, key federation.Key, w write) (record, error) {
	name := r.keys.instance(key)
	what := w.action + " " + key.String()
	wait := backoff{max: 100 * time.Millisecond}
	wait.reset(2 * time.Millisecond)
	living := make(map[string]bool) // found alive against the view's word
	current, have := w.known, w.known.mod != 0
	var last, loser federation.Stamp
	failed := ErrConflict
	for range maxTries {
		if !have {
			var err error
			if current, err = r.read(ctx, name, key); err != nil {
				return record{}, unavailable(ctx, what, err)
			}
			have = true
		}
		if stamp := current.stamp(); !last.IsZero() && stamp == last {
			return current, nil // an earlier try came through, its answer did not
		}
		d, err := w.decide(current, func(edge string) bool { return living[edge] })
		if errors.Is(err, errUnchanged) {
			return current, nil
		}
		if err != nil {
			return record{}, err
		}
		if d.next, err = r.stamped(d.next, current, w.stamp); err != nil {
			return record{}, fmt.Errorf("%s: %w", what, err)
		}
		value, err := d.next.encode()
		if err != nil {
			return record{}, fmt.Errorf("%s: %w", what, err)
		}
		after, won, err := r.swap(ctx, key, current.mod, d, value, w, living)
		switch {
		case err == nil && won:
			r.tellLoser(loser, after)
			return after, nil
		case err == nil:
			r.counters.conflicts.Add(1)
			current, failed = after, ErrConflict
			if stamp := after.stamp(); w.replaces && stamp.Origin == r.self {
				loser = stamp
			}
		default:
			// The answer may be lost and the write done.
			last, have, failed = d.next.stamp(), false, err
			if leaseGone(err) {
				r.tombstones.drop()
				r.audits.drop()
			}
			if ctx.Err() != nil {
				return record{}, unavailable(ctx, what, err)
			}
		}
		if !wait.wait(ctx) {
			return record{}, unavailable(ctx, what, ctx.Err())
		}
	}
	if errors.Is(failed, ErrConflict) {
		return record{}, fmt.Errorf("%s: %w", what, ErrConflict)
	}
	return record{}, unavailable(ctx, what, failed)
}

// stamped gives the next state its stamp, which is above the one it replaces.
func (r *Registry) stamped(next, current record, given federation.Stamp) (record, error) {
	r.opts.Clock.Witness(current.stamp().Lamport)
	if given.IsZero() {
		var err error
		if given, err = r.opts.Clock.Tick(); err != nil {
			return record{}, err
		}
	}
	return next.withStamp(given), nil
}

// swap makes one transaction: the write and its audit entry, if the key is
// still what it was. When it is not, swap returns what it is instead.
func (r *Registry) swap(ctx context.Context, key federation.Key, mod int64, d decision, value []byte, w write, living map[string]bool) (after record, won bool, err error) {
	name := r.keys.instance(key)
	var opts []clientv3.OpOption
	if d.next.tomb != nil {
		lease, err := r.tombstones.get(ctx)
		if err != nil {
			return record{}, false, err
		}
		opts = append(opts, clientv3.WithLease(lease))
	}
	auditPut, err := r.audit(ctx, key, d.next.stamp(), w)
	if err != nil {
		return record{}, false, err
	}
	compares := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(name), "=", mod)}
	otherwise := []clientv3.Op{clientv3.OpGet(name)}
	if d.absent != "" {
		owner := r.keys.edge(d.absent)
		compares = append(compares, clientv3.Compare(clientv3.CreateRevision(owner), "=", 0))
		otherwise = append(otherwise, clientv3.OpGet(owner, clientv3.WithKeysOnly()))
	}
	resp, err := r.client.Txn(clientv3.WithRequireLeader(ctx)).If(compares...).
		Then(clientv3.OpPut(name, string(value), opts...), auditPut).
		Else(otherwise...).
		Commit()
	if err != nil {
		return record{}, false, fmt.Errorf("write to etcd: %w", err)
	}
	if resp.Succeeded {
		return confirmed(name, d.next, value, resp.Header.Revision), true, nil
	}
	if d.absent != "" && len(resp.Responses[1].GetResponseRange().Kvs) > 0 {
		living[d.absent] = true
	}
	return recordOf(name, key, resp.Responses[0].GetResponseRange().Kvs), false, nil
}

// confirmed is a record as etcd holds it since the write at a revision.
func confirmed(name string, next record, value []byte, revision int64) record {
	next.mod = revision
	if next.instance != nil {
		i := *next.instance
		i.Revision = revision
		i.Fingerprint = federation.FingerprintOf(name, revision, value)
		next.instance = &i
	}
	return next
}

func (r *Registry) read(ctx context.Context, name string, key federation.Key) (record, error) {
	resp, err := r.client.Get(clientv3.WithRequireLeader(ctx), name)
	if err != nil {
		return record{}, fmt.Errorf("read from etcd: %w", err)
	}
	return recordOf(name, key, resp.Kvs), nil
}

func recordOf(name string, key federation.Key, kvs []*mvccpb.KeyValue) record {
	if len(kvs) == 0 {
		return record{}
	}
	return decodeRecord(name, key, kvs[0].Value, kvs[0].ModRevision)
}

// tellLoser tells of a write of this edge that came in while another of this
// edge was on its way, and was overwritten by it. Writes of other edges that
// are overwritten are told there, by the watch.
func (r *Registry) tellLoser(loser federation.Stamp, winner record) {
	if loser.IsZero() {
		return
	}
	e := Event{Kind: EventSuperseded, Stamp: loser, By: winner.stamp(), Revision: winner.mod}
	switch {
	case winner.instance != nil:
		e.Key, e.Owner = winner.instance.Key, winner.instance.Owner
	case winner.tomb != nil:
		e.Key = winner.tomb.Key
	}
	r.emit(e)
}

// takenOver decides whether this edge may write an instance as its own: it is
// its own, or nobody's, or its owner is gone. absent is the edge that has to
// be without a lease for that to hold.
func (r *Registry) takenOver(i *federation.Instance, living func(edge string) bool) (absent string, err error) {
	switch {
	case i == nil, i.Owner == r.self, !i.OrphanedAt.IsZero():
		return "", nil
	case living(i.Owner):
		return "", &OwnedError{Owner: i.Owner}
	}
	switch r.ownerState(i.Owner) {
	case ownerGone:
		return i.Owner, nil
	case ownerDead:
		return "", nil
	default:
		return "", &OwnedError{Owner: i.Owner}
	}
}

type ownerState int

const (
	ownerAlive ownerState = iota + 1
	ownerDead             // by gossip; its lease has yet to run out
	ownerGone             // its lease is gone
)

// ownerState judges an owner by its lease and by gossip.
func (r *Registry) ownerState(id string) ownerState {
	r.mu.Lock()
	e, leased := r.view.edges[id]
	r.mu.Unlock()
	alive := r.edgeAlive.Load()
	switch {
	case id == r.self:
		return ownerAlive
	case !leased:
		return ownerGone // by this view; the transaction checks it
	// Gossip may need a moment to meet an edge that has just come.
	case alive != nil && !(*alive)(id) && time.Since(e.seen) > r.timing.EdgeLease:
		return ownerDead
	}
	return ownerAlive
}
