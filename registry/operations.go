package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// PutOptions go with a write.
type PutOptions struct {
	// IfMatch, when not 0, is the revision that the instance must have:
	// ErrPreconditionFailed when it has another or is not registered.
	IfMatch int64
	// Actor says who asked, for the audit: at most 256 bytes are kept.
	Actor string
}

// Register makes this edge the owner of an instance and stores it as a whole,
// last in etcd's order for its key. It counts as a heartbeat. The result is
// what was stored, with its stamp and revision.
//
// An id that is live under another living edge is refused with *OwnedError.
// The instance may move when its owner is gone: without a lease, dead by
// gossip, or the instance orphaned. Fields that this version does not know are
// kept from what was stored before.
//
// While etcd is away: what this edge owns already is queued with the stamp of
// now and returned with revision 0 (as is, when it says nothing new); anything
// else is ErrUnavailable within Timing.Write.
func (r *Registry) Register(ctx context.Context, i federation.Instance, opts PutOptions) (federation.Instance, error) {
	i.Owner, i.OrphanedAt = r.self, time.Time{}
	i.Revision, i.Stamp, i.Fingerprint = 0, federation.Stamp{}, federation.Fingerprint{}
	if err := i.Validate(); err != nil {
		return federation.Instance{}, err
	}
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	err := r.lease.waitHeld(call)
	var stored record
	if err != nil {
		err = unavailable(ctx, "register "+i.String(), err)
	} else {
		stored, err = r.perform(call, i.Key, write{
			action: "register", actor: opts.Actor, replaces: true,
			decide: func(current record, living func(string) bool) (decision, error) {
				return r.decideRegister(i, opts, current, living)
			},
		})
	}
	switch {
	case err == nil:
		r.pending.drop(i.Key, stored.stamp())
		r.granted(stored.instance)
		return *stored.instance, nil
	case errors.Is(err, ErrUnavailable) && ctx.Err() == nil && opts.IfMatch == 0:
		return r.registerLater(i, opts, err)
	}
	return federation.Instance{}, err
}

func (r *Registry) decideRegister(i federation.Instance, opts PutOptions, current record, living func(string) bool) (decision, error) {
	if err := precondition(current, opts); err != nil {
		return decision{}, err
	}
	if errors.Is(current.broken, federation.ErrSchema) {
		return decision{}, fmt.Errorf("register %s: stored %w", i.Key, current.broken)
	}
	absent, err := r.takenOver(current.instance, living)
	if err != nil {
		return decision{}, fmt.Errorf("register %s: %w", i.Key, err)
	}
	next := i
	next.Unknown = keepUnknown(current.instance, i)
	return decision{next: record{instance: &next}, absent: absent}, nil
}

// keepUnknown joins the unknown fields stored with those that came.
func keepUnknown(stored *federation.Instance, i federation.Instance) map[string]json.RawMessage {
	if stored == nil || len(stored.Unknown) == 0 {
		return i.Unknown
	}
	all := maps.Clone(stored.Unknown)
	maps.Copy(all, i.Unknown)
	return all
}

func precondition(current record, opts PutOptions) error {
	if opts.IfMatch == 0 || current.instance != nil && current.mod == opts.IfMatch {
		return nil
	}
	found := "no instance"
	if current.instance != nil {
		found = fmt.Sprintf("revision %d", current.mod)
	}
	return fmt.Errorf("%w: found %s, wanted %d", ErrPreconditionFailed, found, opts.IfMatch)
}

// granted starts the TTL of an instance that this edge has just written.
func (r *Registry) granted(i *federation.Instance) {
	b := beat{mod: i.Revision}
	if i.TTL != 0 {
		b.until = time.Now().Add(time.Duration(i.TTL))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The watch may already have brought a later write by somebody else.
	if known := r.view.instances[i.Key]; known != nil && known.Revision > i.Revision || known == nil && r.view.revision >= i.Revision {
		return
	}
	r.view.beats[i.Key] = b
}

// Deregister puts a tombstone in the instance's place. Any edge may: it is told
// a key, not a claim to be it. ErrNotFound when nothing is registered. While
// etcd is away, what this edge owns is queued, and drains at this edge until
// then.
func (r *Registry) Deregister(ctx context.Context, key federation.Key, opts PutOptions) error {
	_, err := r.change(ctx, key, "deregister", opts, func(current *federation.Instance) (record, error) {
		return record{tomb: r.tombstoneOf(current, EventDeregistered)}, nil
	})
	return err
}

// Drain marks the instance as draining, whoever owns it, and returns it as
// stored; again is no change. ErrNotFound when nothing is registered. While
// etcd is away, what this edge owns is queued, and drains at this edge at once.
func (r *Registry) Drain(ctx context.Context, key federation.Key, opts PutOptions) (federation.Instance, error) {
	stored, err := r.change(ctx, key, "drain", opts, func(current *federation.Instance) (record, error) {
		if current.Draining {
			return record{}, errUnchanged
		}
		next := *current
		next.Draining = true
		return record{instance: &next}, nil
	})
	if err != nil {
		return federation.Instance{}, err
	}
	return *stored.instance, nil
}

// change writes what edit makes of the registered instance.
func (r *Registry) change(ctx context.Context, key federation.Key, action string, opts PutOptions, edit func(*federation.Instance) (record, error)) (record, error) {
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	stored, err := r.perform(call, key, write{
		action: action, actor: opts.Actor,
		decide: func(current record, _ func(string) bool) (decision, error) {
			if err := precondition(current, opts); err != nil {
				return decision{}, err
			}
			if current.instance == nil {
				return decision{}, fmt.Errorf("%s %s: %w", action, key, ErrNotFound)
			}
			next, err := edit(current.instance)
			return decision{next: next}, err
		},
	})
	switch {
	case err == nil:
		r.pending.drop(key, stored.stamp())
		if stored.tomb != nil {
			r.disown(key, stored.mod)
		}
		return stored, nil
	case errors.Is(err, ErrUnavailable) && ctx.Err() == nil && opts.IfMatch == 0:
		return r.changeLater(key, action, opts, edit, err)
	}
	return record{}, err
}

// disown forgets the heartbeat of an instance that ended at a revision.
func (r *Registry) disown(key federation.Key, revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view.beats[key].mod <= revision {
		delete(r.view.beats, key)
	}
}

func (r *Registry) tombstoneOf(i *federation.Instance, reason EventKind) *tombstone {
	return &tombstone{Key: i.Key, Reason: reason, Owner: i.Owner, At: time.Now().UTC().Truncate(time.Millisecond)}
}
