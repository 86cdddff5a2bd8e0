package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// Sink takes the registered instances. Replace and Apply are called by one
// goroutine at a time, in the order of etcd's revisions. A [federation.Catalog]
// is one.
type Sink interface {
	// Replace brings everything that exists at a revision; what is not among
	// it is gone.
	Replace(all []*federation.Instance, revision int64)
	// Apply brings what changed up to a revision. It is also called without
	// changes, when the revision moved for other reasons.
	Apply(changes []federation.Change, revision int64)
	// Anticipate brings whether an instance drains by a write that waits for
	// etcd, from any goroutine. It holds until the instance has another
	// revision than this.
	Anticipate(i *federation.Instance)
}

// EdgeSink takes the registered edges, this one included, from the same
// goroutine as [Sink].
type EdgeSink interface {
	PutEdge(edge federation.Edge)
	RemoveEdge(id string)
}

var (
	_ Sink     = (*federation.Catalog)(nil)
	_ EdgeSink = (*federation.Catalog)(nil)
)

// Options configure a [Registry].
type Options struct {
	Client *clientv3.Client // see Connect; the caller closes it after Run
	// Prefix goes before every key: "/grayfed". Federations that share an
	// etcd differ in it.
	Prefix string
	// Self is this edge: id, locality, incarnation and addresses.
	Self federation.Edge
	// Lives are incarnations of earlier processes of this edge that are known
	// to have ended: their lease is replaced at once, not waited for.
	Lives []uint64
	Clock *federation.Clock
	Sink  Sink
	Edges EdgeSink // optional
	Log   *slog.Logger
	// Probe reports whether this edge reaches the instance. It is asked
	// before an instance whose owner is gone is adopted unasked; without it,
	// adoption waits for a heartbeat or a registration. It must obey ctx.
	Probe func(ctx context.Context, i *federation.Instance) bool
	// OnEvent is told what became of instances, from several goroutines. It
	// must not block.
	OnEvent func(Event)
	// CachePath is the file of the last good snapshot; "": none is kept.
	CachePath string
	// OrphanTTL is how long an instance without an owner stays; 24 h when 0.
	OrphanTTL time.Duration
	// Now is the wall clock, by which all edges know how long an instance has
	// been an orphan; nil: time.Now.
	Now func() time.Time
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
	// Timing is for tests and unusual networks; zero fields get defaults.
	Timing Timing
}

// Timing holds the intervals of a [Registry].
type Timing struct {
	// EdgeLease is the TTL of the edge's lease, in whole seconds: how long a
	// dead edge counts as alive here. 5 s; etcd's own minimum (1.5 election
	// timeouts) applies. It is renewed three times in that time.
	EdgeLease time.Duration
	// Write bounds one registration, heartbeat, drain or delete. 2 s.
	Write time.Duration
	// Progress is how often etcd is asked how far it is; a view that got no
	// answer for three of them is stale. 1 s.
	Progress time.Duration
	// AdoptGrace is how long an edge must be gone before its instances are
	// adopted unasked: a restart is shorter. 1 s.
	AdoptGrace time.Duration
	// AdoptTier is how much longer edges of the region wait while an edge of
	// the instance's zone lives; after twice as long it is marked orphaned. 3 s.
	AdoptTier time.Duration
	// OrphanProbe is how often an orphan is tried again. 10 s.
	OrphanProbe time.Duration
	// ReplayAge is how old a write that was queued while etcd was away may
	// be when it is replayed. 24 h. Tombstones live twice as long.
	ReplayAge time.Duration
	// Audit is how long audit entries stay. 7 days.
	Audit time.Duration
	// CacheAfter is how long etcd may take to begin answering at start
	// before the cached snapshot is used. 1 s.
	CacheAfter time.Duration
	// CacheEvery bounds how often the snapshot is written to disk. 30 s.
	CacheEvery time.Duration
	// BackoffMax bounds the jittered wait between tries to reach etcd. 2 s.
	BackoffMax time.Duration
}

func (t Timing) withDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.EdgeLease, 5 * time.Second},
		{&t.Write, 2 * time.Second},
		{&t.Progress, time.Second},
		{&t.AdoptGrace, time.Second},
		{&t.AdoptTier, 3 * time.Second},
		{&t.OrphanProbe, 10 * time.Second},
		{&t.ReplayAge, 24 * time.Hour},
		{&t.Audit, 7 * 24 * time.Hour},
		{&t.CacheAfter, time.Second},
		{&t.CacheEvery, 30 * time.Second},
		{&t.BackoffMax, 2 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return t
}

func (o Options) withDefaults() Options {
	if o.OrphanTTL == 0 {
		o.OrphanTTL = 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timing = o.Timing.withDefaults()
	return o
}

func (o Options) validate() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if o.Client == nil || o.Clock == nil || o.Sink == nil {
		bad("client, clock and sink are required")
	}
	if strings.Trim(o.Prefix, "/") == "" {
		bad("prefix %q: found no name, allowed a path such as /grayfed", o.Prefix)
	}
	if !federation.ValidName(o.Self.ID) || !federation.ValidName(o.Self.Zone) {
		bad("edge id %s and zone %s must be valid names", federation.Quote(o.Self.ID), federation.Quote(o.Self.Zone))
	}
	if o.Self.Incarnation == 0 {
		bad("edge incarnation must not be 0")
	}
	if lease := o.Timing.EdgeLease; lease < time.Second || lease%time.Second != 0 {
		bad("edge lease %s: allowed whole seconds", lease)
	}
	for name, d := range map[string]time.Duration{
		"write": o.Timing.Write, "progress": o.Timing.Progress, "adopt grace": o.Timing.AdoptGrace, "adopt tier": o.Timing.AdoptTier,
		"orphan probe": o.Timing.OrphanProbe, "replay age": o.Timing.ReplayAge, "audit": o.Timing.Audit,
		"cache after": o.Timing.CacheAfter, "cache every": o.Timing.CacheEvery, "backoff": o.Timing.BackoffMax,
	} {
		if d < 0 {
			bad("%s %s: allowed more than 0", name, d)
		}
	}
	if o.OrphanTTL < 0 {
		bad("orphan TTL %s: allowed more than 0", o.OrphanTTL)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("registry options: %w", errors.Join(wrong...))
	}
	return nil
}
