package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// registerLater queues a registration that etcd could not take, when this edge
// owns the instance. It is a heartbeat all the same.
func (r *Registry) registerLater(i federation.Instance, opts PutOptions, cause error) (federation.Instance, error) {
	i.Revision = 0
	out, err := r.later(i.Key, "register", opts, cause, func(known *federation.Instance) (record, error) {
		next := i
		next.Unknown = keepUnknown(known, i)
		if known != nil && known.Draining == next.Draining && sameContent(known, &next) {
			return record{}, errUnchanged
		}
		return record{instance: &next}, nil
	})
	if err != nil {
		return federation.Instance{}, err
	}
	r.mu.Lock()
	r.view.refresh(i.Key, time.Now())
	r.mu.Unlock()
	return *out.instance, nil
}

// changeLater queues a drain or a delete that etcd could not take, when this
// edge owns the instance.
func (r *Registry) changeLater(key federation.Key, action string, opts PutOptions, edit func(*federation.Instance) (record, error), cause error) (record, error) {
	return r.later(key, action, opts, cause, func(known *federation.Instance) (record, error) {
		if known == nil {
			return record{}, fmt.Errorf("%s %s: %w", action, key, ErrNotFound)
		}
		return edit(known)
	})
}

// later queues what edit makes of what this edge believes of an instance that
// it owns, nil after a queued delete. For any other instance it returns cause.
func (r *Registry) later(key federation.Key, action string, opts PutOptions, cause error, edit func(*federation.Instance) (record, error)) (record, error) {
	for {
		r.mu.Lock()
		known := r.view.instances[key]
		r.mu.Unlock()
		if known == nil || known.Owner != r.self || !known.OrphanedAt.IsZero() {
			return record{}, cause
		}
		seen := r.pending.held(key)
		whole := action != "drain"
		if seen != nil {
			known, whole = seen.next.instance, whole || seen.whole
		}
		next, err := edit(known)
		if errors.Is(err, errUnchanged) {
			return record{instance: known}, nil
		}
		if err != nil {
			return record{}, err
		}
		stamp, err := r.opts.Clock.Tick()
		if err != nil {
			return record{}, fmt.Errorf("%s %s: %w", action, key, err)
		}
		next = next.withStamp(stamp)
		if next.instance != nil {
			next.instance.Revision, next.instance.Fingerprint = 0, federation.Fingerprint{}
		}
		added, err := r.pending.add(seen, &queuedWrite{
			key: key, stamp: stamp, taken: time.Now().Round(0), action: action, actor: opts.Actor,
			next: next, whole: whole,
		})
		if added {
			r.anticipate(key)
		}
		if added || err != nil {
			return next, err
		}
	}
}

// anticipate shows at once, at this edge, whether an instance drains or ends by
// a queued write: nobody who asks for that wants it sent requests until etcd is
// back. Without a queued write it shows what etcd said last.
func (r *Registry) anticipate(key federation.Key) {
	w := r.pending.held(key)
	r.mu.Lock()
	known := r.view.instances[key]
	r.mu.Unlock()
	if known == nil {
		return
	}
	shown := *known
	if w != nil {
		shown.Draining = w.next.instance == nil || w.next.instance.Draining
	}
	r.opts.Sink.Anticipate(&shown)
}

// replayPending writes what was queued, in its order, when etcd is back.
func (r *Registry) replayPending(ctx context.Context) {
	wait := backoff{max: r.timing.BackoffMax}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.pending.kick:
		}
		wait.reset(50 * time.Millisecond)
		for ctx.Err() == nil {
			if r.lease.waitHeld(ctx) != nil || r.replayAll(ctx) || !wait.wait(ctx) {
				break
			}
		}
	}
}

// replayAll writes what is queued until etcd does not answer, and reports
// whether nothing is left of it.
func (r *Registry) replayAll(ctx context.Context) bool {
	for _, w := range r.pending.inOrder() {
		err := r.replay(ctx, w)
		if err != nil && !errors.Is(err, errNotReplayed) {
			r.log.Debug("queued write waits on", "instance", w.key.String(), "error", err)
			return false
		}
		r.pending.done(w)
		if err != nil {
			r.anticipate(w.key)
		}
	}
	return true
}

// errNotReplayed ends a replay for good.
var errNotReplayed = errors.New("queued write is not replayed")

// replay makes one queued write, with its own stamp. It is refused when what
// etcd holds is newer, or another edge's by now.
func (r *Registry) replay(ctx context.Context, w *queuedWrite) error {
	var stored record
	refused := func(reason error) error { return fmt.Errorf("%w: %w", errNotReplayed, reason) }
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	_, err := r.perform(call, w.key, write{
		action: w.action, actor: w.actor, stamp: w.stamp, replaces: w.whole,
		decide: func(current record, living func(string) bool) (decision, error) {
			stored = current
			switch {
			case time.Since(w.taken) > r.timing.ReplayAge:
				return decision{}, refused(errReplayAge)
			case r.jumps(w.stamp):
				return decision{}, refused(federation.ErrClockJump)
			}
			switch order := w.stamp.Compare(current.stamp()); {
			case order == 0: // an earlier try came through, its answer did not
				return decision{}, errUnchanged
			case order < 0, errors.Is(current.broken, federation.ErrSchema):
				return decision{}, refused(ErrConflict)
			}
			d, err := r.decideReplay(w, current.instance, living)
			var owned *OwnedError
			if errors.Is(err, ErrNotFound) || errors.As(err, &owned) {
				return decision{}, refused(err)
			}
			return d, err
		},
	})
	if !errors.Is(err, errNotReplayed) {
		return err
	}
	e := Event{Kind: EventReplayRefused, Key: w.key, Stamp: w.stamp, By: stored.stamp(), Revision: stored.mod}
	if errors.Is(err, errReplayAge) {
		e.Kind = EventReplayExpired
	}
	if stored.instance != nil {
		e.Owner = stored.instance.Owner
	}
	r.counters.refusedPlays.Add(1)
	r.log.Warn("queued write was dropped", "instance", w.key.String(), "action", w.action, "error", err)
	r.emit(e)
	return err
}

var errReplayAge = errors.New("it is too old")

// maxReplayJump is how far ahead of all that etcd holds the stamp of a replay
// may be, as for gossip: a clock that went wrong meanwhile must not take
// everybody's with it.
const maxReplayJump = 1 << 32

func (r *Registry) jumps(stamp federation.Stamp) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return stamp.Lamport > r.view.lamport && stamp.Lamport-r.view.lamport > maxReplayJump
}

// decideReplay applies a queued write to what etcd holds, which is older.
func (r *Registry) decideReplay(w *queuedWrite, current *federation.Instance, living func(string) bool) (decision, error) {
	switch {
	case w.next.tomb != nil:
		if current == nil {
			return decision{}, errUnchanged
		}
		return decision{next: w.next}, nil
	case !w.whole: // a drain
		if current == nil {
			return decision{}, ErrNotFound
		}
		next := *current
		next.Draining = true
		return decision{next: record{instance: &next}}, nil
	}
	absent, err := r.takenOver(current, living)
	if err != nil {
		return decision{}, err
	}
	next := *w.next.instance
	next.Unknown = keepUnknown(current, next)
	return decision{next: record{instance: &next}, absent: absent}, nil
}
