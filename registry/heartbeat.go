package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Heartbeat takes an instance's sign of life at any edge: it refreshes what
// this edge owns, passes it on to a living owner, and adopts what has none.
// ErrNotFound when nothing is registered, so that the instance registers anew.
//
// Without its lease this edge may have lost what it owns to another that does
// not hear the heartbeats, so they are relayed as well.
func (r *Registry) Heartbeat(ctx context.Context, key federation.Key) error {
	own, err := r.heartbeat(ctx, key)
	if own && !r.lease.held(time.Now()) {
		r.relayOn(ctx, key)
	}
	return err
}

// heartbeat also reports whether this edge believes to own the instance.
func (r *Registry) heartbeat(ctx context.Context, key federation.Key) (own bool, err error) {
	now := time.Now()
	r.mu.Lock()
	own = r.view.refresh(key, now)
	i := r.view.instances[key]
	r.mu.Unlock()
	if own {
		return true, nil
	}
	return false, r.beatOfAnother(ctx, key, i)
}

// beatOfAnother takes the heartbeat of an instance that this edge does not own,
// nil for one that it does not know.
func (r *Registry) beatOfAnother(ctx context.Context, key federation.Key, i *federation.Instance) error {
	if i == nil {
		// Registered a moment ago at another edge, or not at all.
		var err error
		if i, err = r.lookUp(ctx, key); err != nil {
			return err
		}
	}
	switch {
	case i.Owner == r.self && i.OrphanedAt.IsZero():
		return nil // the watch is about to bring it, with a full TTL
	case i.OrphanedAt.IsZero() && r.ownerState(i.Owner) == ownerAlive:
		return r.passOn(ctx, i.Owner, key)
	}
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	err := r.adopt(call, i, "heartbeat")
	var owned *OwnedError
	if errors.As(err, &owned) { // somebody was faster
		return r.passOn(ctx, owned.Owner, key)
	}
	return err
}

// lookUp reads an instance that the view does not have from etcd. It is
// bounded, because who sends heartbeats for unknown ids may send many.
func (r *Registry) lookUp(ctx context.Context, key federation.Key) (*federation.Instance, error) {
	if !federation.ValidName(key.Service) || !federation.ValidName(key.ID) {
		return nil, fmt.Errorf("heartbeat: %w", ErrNotFound)
	}
	what := "heartbeat of " + key.String()
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	select {
	case r.reads <- struct{}{}:
		defer func() { <-r.reads }()
	case <-call.Done():
		return nil, unavailable(ctx, what, call.Err())
	}
	got, err := r.read(call, r.keys.instance(key), key)
	if err != nil {
		return nil, unavailable(ctx, what, err)
	}
	if got.instance == nil {
		return nil, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return got.instance, nil
}

func (r *Registry) passOn(ctx context.Context, owner string, key federation.Key) error {
	forward := r.forward.Load()
	if forward == nil {
		return fmt.Errorf("heartbeat of %s: %w: no way to edge %s, which owns it", key, ErrUnavailable, owner)
	}
	if err := (*forward)(ctx, owner, key); err != nil {
		return unavailable(ctx, "heartbeat of "+key.String()+" to edge "+owner, err)
	}
	r.counters.forwarded.Add(1)
	return nil
}

// HeartbeatFromPeer takes a heartbeat that another edge passed on. One for an
// instance that is not owned here any more is counted and dropped: the other
// edge is about to see who owns it.
func (r *Registry) HeartbeatFromPeer(key federation.Key) {
	r.mu.Lock()
	own := r.view.refresh(key, time.Now())
	r.mu.Unlock()
	if !own {
		r.counters.strayBeats.Add(1)
	}
}

// expireWorkers bounds how many lapsed instances are removed at a time.
const expireWorkers = 8

// expireLapsed removes what this edge owns and has not heard of for its TTL.
func (r *Registry) expireLapsed(ctx context.Context) {
	const longest = time.Second // the shortest TTL
	wait, last := longest, time.Now()
	for {
		if !pause(ctx, wait) {
			return
		}
		now := time.Now()
		if slept := now.Sub(last) - wait; slept > longest {
			// This process stood still: it did not hear what was said.
			r.log.Warn("process was paused, heartbeats get their full time again", "pause", slept)
			r.mu.Lock()
			r.view.regrant(now)
			r.mu.Unlock()
		}
		lapsed, next := r.lapsed(now)
		eachOf(ctx, lapsed, expireWorkers, func(i *federation.Instance) { r.expire(ctx, i) })
		last = time.Now()
		wait = min(max(next.Sub(last), 10*time.Millisecond), longest)
	}
}

// lapsed returns the instances whose time is over, and when the next one's is.
func (r *Registry) lapsed(now time.Time) (over []*federation.Instance, next time.Time) {
	next = now.Add(time.Minute)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.view.live {
		return nil, next
	}
	for key, held := range r.view.beats {
		switch {
		case held.until.IsZero():
		case held.until.After(now):
			if held.until.Before(next) {
				next = held.until
			}
		default:
			if i := r.view.instances[key]; i != nil {
				over = append(over, i)
			}
		}
	}
	return over, next
}

// expire removes one instance unless a heartbeat, another write or another
// owner came in between.
func (r *Registry) expire(ctx context.Context, i *federation.Instance) {
	ctx, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	after, err := r.perform(ctx, i.Key, write{
		action: "expire",
		known:  record{instance: i, mod: i.Revision},
		decide: func(current record, _ func(string) bool) (decision, error) {
			if current.instance == nil || current.instance.Owner != r.self || !r.isLapsed(i.Key) {
				return decision{}, errUnchanged
			}
			return decision{next: record{tomb: r.tombstoneOf(current.instance, EventExpired)}}, nil
		},
	})
	switch {
	case err != nil:
		// It stays due and is tried again.
		r.log.Debug("lapsed instance is not removed yet", "instance", i.String(), "error", err)
	case after.tomb != nil:
		r.counters.expired.Add(1)
		r.disown(i.Key, after.mod)
	}
}

func (r *Registry) isLapsed(key federation.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, ok := r.view.beats[key]
	return ok && !held.until.IsZero() && !held.until.After(time.Now())
}
