// Package registry keeps the facts that must not be lost in etcd: which
// instances exist and which edges. Only an edge's own key hangs on a lease, so
// the death of an edge deletes no instance: another edge adopts what it owned.
// The owner keeps heartbeats in memory and removes what lapsed.
//
// Writes are compare-and-swap on etcd's ModRevision, so the writes of one key
// have one order, and each edge follows them with a list and a watch that
// leave no gap. While etcd is away an edge goes on with the last view, says how
// stale that is, takes heartbeats, and queues writes to what it owns.
package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// Registry is this edge's part in the registry. Its methods are safe for
// concurrent use; writes need Run to be running.
type Registry struct {
	opts   Options
	timing Timing
	client *clientv3.Client
	keys   keyspace
	self   string
	log    *slog.Logger

	forward   atomic.Pointer[func(ctx context.Context, owner string, key federation.Key) error]
	relay     atomic.Pointer[func(ctx context.Context, key federation.Key) error]
	edgeAlive atomic.Pointer[func(id string) bool]

	lease      edgeLease
	tombstones sharedLease
	audits     sharedLease
	auditSlot  atomic.Uint64
	reads      chan struct{} // bounds reads on behalf of heartbeats
	relayed    chan federation.Key

	ready     chan struct{} // closed when the sink has a first snapshot
	readyOnce sync.Once
	sweepKick chan struct{} // 1-buffered
	pending   replayQueue
	state     freshness
	counters  counters

	names intern // of the last list and what the watch brought since; follow's

	mu   sync.Mutex
	view view // mu
}

// New checks the options and returns a registry that does nothing before Run.
func New(opts Options) (*Registry, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	r := &Registry{
		opts:      opts,
		timing:    opts.Timing,
		client:    opts.Client,
		keys:      newKeyspace(opts.Prefix),
		self:      opts.Self.ID,
		log:       opts.Log,
		reads:     make(chan struct{}, 16),
		relayed:   make(chan federation.Key, relayedQueue),
		ready:     make(chan struct{}),
		sweepKick: make(chan struct{}, 1),
		names:     make(intern),
		view:      newView(opts.Self.ID),
	}
	r.lease.kick = make(chan struct{}, 1)
	r.lease.changed = make(chan struct{})
	r.pending.init()
	// A tombstone outlives any replay twice over: the clock that ages a
	// queued write and etcd's need not agree.
	r.tombstones = sharedLease{client: r.client, life: 2 * r.timing.ReplayAge}
	r.audits = sharedLease{client: r.client, life: r.timing.Audit}
	r.auditSlot.Store(opts.Clock.Now())
	if err := newMetrics(opts.Registerer, r); err != nil {
		return nil, err
	}
	return r, nil
}

// Ready is closed when the sink has its first full snapshot, from etcd or from
// the cache.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

// SetForward says how a heartbeat reaches the living owner of an instance.
func (r *Registry) SetForward(forward func(ctx context.Context, owner string, key federation.Key) error) {
	r.forward.Store(&forward)
}

// SetEdgeAlive adds gossip's view of who is alive to that of the leases: with
// it, an instance whose owner is dead by gossip can be registered or send its
// heartbeat elsewhere before the owner's lease has ended.
func (r *Registry) SetEdgeAlive(alive func(id string) bool) { r.edgeAlive.Store(&alive) }

// Run holds the edge's lease, follows etcd into the sink, removes what lapsed
// and adopts what lost its owner, until ctx ends or another living edge has
// this one's id (ErrDuplicateEdge). It ends the lease on its way out, so that
// siblings take over at once. An etcd that is away is not an error.
func (r *Registry) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.holdEdge(ctx); err != nil {
			cancel(err)
		}
	})
	for _, part := range []func(context.Context){
		r.follow, r.expireLapsed, r.sweep, r.replayPending, r.keepCache, r.takeRelayed,
	} {
		running.Go(func() { part(ctx) })
	}
	running.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrDuplicateEdge) {
		return cause
	}
	return nil
}

// Status says how far and how fresh this edge's view is.
type Status struct {
	// Synced: the sink had a full snapshot from etcd.
	Synced bool
	// FromCache: what the sink has is the snapshot of an earlier run.
	FromCache bool
	Revision  int64
	// StaleSince is when etcd last confirmed the view, zero while it is
	// fresh.
	StaleSince time.Time
	// Lag is how long ago etcd confirmed the view.
	Lag time.Duration
	// Err is what last went wrong in following etcd, "" while all is well.
	Err string
	// Registered: this edge holds its lease.
	Registered bool
	Instances  int
	Owned      int
	Orphans    int
	Queued     int // writes waiting for etcd
	// What only grows since the start.
	Malformed, Conflicts, Relists, Adopted, Expired uint64
	Forwarded, StrayHeartbeats, Relayed             uint64
	ReplaysRefused, QueueOverflows                  uint64
}

// Status returns the registry's state at this moment.
func (r *Registry) Status() Status {
	s := r.state.status(time.Now(), 3*r.timing.Progress)
	s.Registered = r.lease.held(time.Now())
	s.Queued, s.QueueOverflows = r.pending.len()
	r.mu.Lock()
	s.Revision = r.view.revision
	s.Instances = len(r.view.instances)
	s.Owned = len(r.view.beats)
	s.Orphans = r.view.orphans
	r.mu.Unlock()
	c := &r.counters
	s.Malformed, s.Conflicts, s.Relists = c.malformed.Load(), c.conflicts.Load(), c.relists.Load()
	s.Adopted, s.Expired, s.Forwarded = c.adopted.Load(), c.expired.Load(), c.forwarded.Load()
	s.StrayHeartbeats, s.ReplaysRefused = c.strayBeats.Load(), c.refusedPlays.Load()
	s.Relayed = c.relayedBeats.Load()
	return s
}

// freshness is when the view was last confirmed and what is wrong.
type freshness struct {
	mu        sync.Mutex
	synced    bool      // mu
	fromCache bool      // mu
	confirmed time.Time // mu; by etcd, or when the cache was written
	err       string    // mu
}

func (f *freshness) status(now time.Time, limit time.Duration) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Synced: f.synced, FromCache: f.fromCache, Err: f.err}
	if f.confirmed.IsZero() {
		return s
	}
	s.Lag = max(0, now.Sub(f.confirmed))
	if s.Lag > limit || f.fromCache {
		s.StaleSince = f.confirmed
	}
	return s
}

// confirm notes that etcd said now that the view is complete.
func (f *freshness) confirm(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced, f.fromCache, f.confirmed, f.err = true, false, now, ""
}

func (f *freshness) cached(savedAt time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fromCache, f.confirmed = true, savedAt
}

// fail notes what is wrong and reports whether that is news.
func (f *freshness) fail(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := f.err == ""
	f.err = err.Error()
	return news
}
