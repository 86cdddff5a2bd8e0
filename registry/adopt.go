package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// sweepWorkers bounds how many instances are probed and adopted at a time.
const sweepWorkers = 32

// sweep looks after instances without an owner: it adopts those that this edge
// is placed to look after and can probe, marks as orphaned those that nobody
// adopted, and removes those that were orphaned for the orphan TTL.
func (r *Registry) sweep(ctx context.Context) {
	s := sweeper{Registry: r, found: make(map[federation.Key]*stray)}
	due := time.NewTimer(jitter(r.timing.AdoptGrace))
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sweepKick:
			s.look(time.Now())
		case <-due.C:
			s.round(ctx)
			due.Reset(jitter(r.timing.AdoptGrace))
		}
	}
}

// sweeper is what the sweep's goroutine keeps to itself.
type sweeper struct {
	*Registry
	found map[federation.Key]*stray
}

// stray is an instance without an owner.
type stray struct {
	instance *federation.Instance
	since    time.Time // when this edge noticed
	probeAt  time.Time // not before
	rank     int
	zoneEdge bool // an edge of its zone lives
	seen     bool // in this look
}

// The ranks of an edge for an instance without owner: its zone's edges come
// first, then its region's; others only mark it.
const (
	rankZone = iota
	rankRegion
	rankFar
)

// look notes which instances have no owner.
func (s *sweeper) look(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.view.live || !s.view.ownerless() {
		clear(s.found)
		return
	}
	zones := make(map[string]bool)
	for _, e := range s.view.edges {
		zones[e.Zone] = true
	}
	for key, i := range s.view.instances {
		_, leased := s.view.edges[i.Owner]
		if i.OrphanedAt.IsZero() && (leased || i.Owner == s.self) {
			continue
		}
		st := s.found[key]
		if st == nil {
			st = &stray{since: now}
			s.found[key] = st
		}
		st.instance, st.rank, st.zoneEdge, st.seen = i, s.rank(i), zones[i.Zone], true
	}
	for key, st := range s.found {
		if !st.seen {
			delete(s.found, key)
		}
		st.seen = false
	}
}

func (s *sweeper) rank(i *federation.Instance) int {
	self := s.opts.Self
	switch {
	case self.Zone == i.Zone:
		return rankZone
	case self.Region != "" && self.Region == i.Region:
		return rankRegion
	}
	return rankFar
}

// round does what is due for each stray.
func (s *sweeper) round(ctx context.Context) {
	now := time.Now()
	s.look(now)
	due := make([]*stray, 0, len(s.found))
	for _, st := range s.found {
		if now.Sub(st.since) >= s.timing.AdoptGrace || !st.instance.OrphanedAt.IsZero() {
			due = append(due, st)
		}
	}
	// Siblings work on the same list: in another order each, they share it.
	rand.Shuffle(len(due), func(a, b int) { due[a], due[b] = due[b], due[a] })
	eachOf(ctx, due, sweepWorkers, func(st *stray) { s.tend(ctx, st, time.Now()) })
}

// tend does what is due for one stray. Each is tended by one goroutine.
func (s *sweeper) tend(ctx context.Context, st *stray, now time.Time) {
	i, age := st.instance, now.Sub(st.since)
	orphan := !i.OrphanedAt.IsZero()
	var err error
	switch {
	case orphan && s.opts.Now().Sub(i.OrphanedAt) > s.opts.OrphanTTL:
		err = s.bury(ctx, i)
	case s.eligible(st, age, orphan) && !now.Before(st.probeAt):
		st.probeAt = now.Add(jitter(s.timing.OrphanProbe))
		if s.probe(ctx, i) {
			err = s.adoptWithin(ctx, i)
		}
	case !orphan && age >= 2*s.timing.AdoptTier:
		err = s.markOrphaned(ctx, i)
	}
	var owned *OwnedError
	if err != nil && !errors.As(err, &owned) && ctx.Err() == nil {
		s.log.Debug("instance without owner is tried again", "instance", i.String(), "error", err)
	}
}

// eligible reports whether it is this edge's turn to adopt.
func (s *sweeper) eligible(st *stray, age time.Duration, orphan bool) bool {
	if s.opts.Probe == nil {
		return false
	}
	switch st.rank {
	case rankZone:
		return true
	case rankRegion:
		return orphan || !st.zoneEdge || age >= s.timing.AdoptTier
	}
	return false
}

func (s *sweeper) probe(ctx context.Context, i *federation.Instance) bool {
	ctx, cancel := context.WithTimeout(ctx, s.timing.Write)
	defer cancel()
	return s.opts.Probe(ctx, i)
}

func (s *sweeper) adoptWithin(ctx context.Context, i *federation.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, s.timing.Write)
	defer cancel()
	return s.adopt(ctx, i, "probe")
}

// adopt makes this edge the owner of an instance whose owner is gone; it is
// well when it is this edge's already. *OwnedError when somebody else was
// faster or the owner is back. By heartbeat, an owner that is dead by gossip
// is gone enough; by probe, only one without a lease is.
func (r *Registry) adopt(ctx context.Context, i *federation.Instance, reason string) error {
	if err := r.lease.waitHeld(ctx); err != nil {
		return unavailable(ctx, "adopt "+i.String(), err)
	}
	adopted := false
	stored, err := r.perform(ctx, i.Key, write{
		action: "adopt", actor: "edge " + r.self + " by " + reason,
		known: record{instance: i, mod: i.Revision},
		decide: func(current record, living func(string) bool) (decision, error) {
			adopted = false
			if current.instance == nil {
				return decision{}, fmt.Errorf("adopt %s: %w", i.Key, ErrNotFound)
			}
			if current.instance.Owner == r.self && current.instance.OrphanedAt.IsZero() {
				return decision{}, errUnchanged
			}
			absent, err := r.takenOver(current.instance, living)
			if err != nil {
				return decision{}, fmt.Errorf("adopt %s: %w", i.Key, err)
			}
			next := *current.instance
			next.Owner, next.OrphanedAt = r.self, time.Time{}
			adopted = true
			return decision{next: record{instance: &next}, absent: absent}, nil
		},
	})
	if err != nil {
		return err
	}
	if adopted {
		r.counters.adopted.Add(1)
		r.granted(stored.instance)
	}
	return nil
}

// markOrphaned says for all edges that an instance has no owner, and since
// when.
func (s *sweeper) markOrphaned(ctx context.Context, i *federation.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, s.timing.Write)
	defer cancel()
	_, err := s.perform(ctx, i.Key, write{
		action: "orphan",
		known:  record{instance: i, mod: i.Revision},
		decide: func(current record, living func(string) bool) (decision, error) {
			c := current.instance
			if c == nil || !c.OrphanedAt.IsZero() || living(c.Owner) || s.ownerState(c.Owner) != ownerGone {
				return decision{}, errUnchanged
			}
			next := *c
			next.OrphanedAt = s.opts.Now().UTC().Truncate(time.Second)
			return decision{next: record{instance: &next}, absent: c.Owner}, nil
		},
	})
	return err
}

// bury removes an instance that was orphaned for the orphan TTL.
func (s *sweeper) bury(ctx context.Context, i *federation.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, s.timing.Write)
	defer cancel()
	_, err := s.perform(ctx, i.Key, write{
		action: "expire-orphan",
		known:  record{instance: i, mod: i.Revision},
		decide: func(current record, _ func(string) bool) (decision, error) {
			c := current.instance
			if c == nil || c.OrphanedAt.IsZero() || s.opts.Now().Sub(c.OrphanedAt) <= s.opts.OrphanTTL {
				return decision{}, errUnchanged
			}
			return decision{next: record{tomb: s.tombstoneOf(c, EventExpiredOrphan)}}, nil
		},
	})
	return err
}
