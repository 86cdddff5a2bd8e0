package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// errRelist ends a watch that cannot go on without a new list.
var errRelist = errors.New("watch cannot go on from its revision")

// follow keeps the view and the sink what etcd holds: a list at revision R,
// then a watch from R+1, gapless; when what the watch needs was compacted, or
// etcd is another than before, a new list brings what was missed.
func (r *Registry) follow(ctx context.Context) {
	var reading sync.WaitGroup
	defer reading.Wait()
	if !r.firstList(ctx, &reading) {
		return
	}
	wait := backoff{max: r.timing.BackoffMax}
	wait.reset(50 * time.Millisecond)
	// The first silence ends before the view counts as stale; an etcd that
	// needs longer to catch the watch up is given it.
	silence := 2 * r.timing.Progress
	for ctx.Err() == nil {
		progressed, err := r.watch(ctx, silence)
		if ctx.Err() != nil {
			return
		}
		silence = min(2*silence, 20*r.timing.Progress)
		if progressed {
			wait.reset(50 * time.Millisecond)
			silence = 2 * r.timing.Progress
		}
		if r.state.fail(err) {
			r.log.Warn("watch of the registry ended", "error", err)
		}
		if !wait.wait(ctx) {
			return
		}
		if !errors.Is(err, errRelist) {
			continue
		}
		r.counters.relists.Add(1)
		l, err := r.list(ctx, nil)
		if err != nil {
			if ctx.Err() == nil && r.state.fail(err) {
				r.log.Warn("registry cannot be listed", "error", err)
			}
			continue // the watch will say again that a list is needed
		}
		r.accept(l)
	}
}

// accept takes a listing as the view.
func (r *Registry) accept(l *listing) {
	r.replace(l)
	r.state.confirm(time.Now())
	r.readyOnce.Do(func() { close(r.ready) })
	r.kickSweep()
	r.log.Info("registry listed", "instances", len(l.instances), "edges", len(l.edges), "revision", l.revision)
}

// firstList lists until it succeeds, and puts the cached snapshot in place
// when etcd does not begin to answer in time. It reports false when ctx ended.
// The cache is read while etcd is waited for, by a goroutine in the group, but
// not before an etcd that is well would have begun to answer: reading it would
// slow the list down.
func (r *Registry) firstList(ctx context.Context, reading *sync.WaitGroup) bool {
	type outcome struct {
		listing *listing
		err     error
	}
	wait := backoff{max: r.timing.BackoffMax}
	wait.reset(50 * time.Millisecond)
	patience := time.NewTimer(r.timing.CacheAfter)
	defer patience.Stop()
	doubt := time.NewTimer(r.timing.CacheAfter / 4)
	defer doubt.Stop()
	var cached, wanted chan func()
	read := func() {
		if cached == nil {
			cached = make(chan func(), 1)
			reading.Go(func() { cached <- r.readCache() })
		}
	}
	for {
		began := make(chan struct{})
		done := make(chan outcome, 1)
		go func() { // ends before this loop goes on: done is always received
			l, err := r.list(ctx, began)
			done <- outcome{l, err}
		}()
		var o outcome
		for waiting := true; waiting; {
			select {
			case o = <-done:
				waiting = false
			case <-began:
				o = <-done
				waiting = false
			case <-doubt.C:
				read()
			case <-patience.C:
				read()
				wanted = cached
			case use := <-wanted:
				use()
			}
		}
		if o.err == nil {
			r.accept(o.listing)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if r.state.fail(o.err) {
			r.log.Warn("registry cannot be listed", "error", o.err)
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// watch follows etcd from the view's revision until the watch breaks or is
// silent for too long. It reports whether anything came. etcd's client takes up a broken stream by
// itself where it was, so most outages end here without a word.
func (r *Registry) watch(ctx context.Context, silence time.Duration) (progressed bool, err error) {
	r.mu.Lock()
	revision, cluster := r.view.revision, r.view.cluster
	r.mu.Unlock()

	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	// From the revision itself, which brings its event again: of a watch from
	// a revision that etcd has not reached, etcd says no progress.
	responses := r.client.Watch(ctx, r.keys.edges, clientv3.WithRange(r.keys.end),
		clientv3.WithRev(revision), clientv3.WithFragment())
	asking.Go(func() { r.askProgress(ctx) })

	// Silence in spite of the questions: a stream that is dead without
	// having been closed, an etcd that is away, or one that is not as far as
	// the watch, be it that it was set back or that the client took up the
	// watch from the next revision.
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for {
		select {
		case resp, open := <-responses:
			if !open {
				return progressed, errors.New("watch was closed")
			}
			if err := watchError(resp, cluster); err != nil {
				return progressed, err
			}
			upTo := reaches(resp)
			if upTo < revision {
				continue // says nothing; etcd is asked when it stays at that
			}
			quiet.Reset(silence)
			progressed = true
			r.applyEvents(after(resp.Events, revision), upTo)
			revision = upTo
			if revision >= resp.Header.Revision {
				r.state.confirm(time.Now())
			}
		case <-quiet.C:
			return progressed, r.silent(ctx, revision, cluster)
		}
	}
}

// reaches returns the revision up to which a response brings everything. Its
// header tells etcd's own, which is ahead of the events while etcd catches the
// watch up in batches.
func reaches(resp clientv3.WatchResponse) int64 {
	if n := len(resp.Events); n > 0 {
		return resp.Events[n-1].Kv.ModRevision
	}
	return resp.Header.Revision
}

// after returns the events after a revision; they come in its order.
func after(events []*clientv3.Event, revision int64) []*clientv3.Event {
	for len(events) > 0 && events[0].Kv.ModRevision <= revision {
		events = events[1:]
	}
	return events
}

func watchError(resp clientv3.WatchResponse, cluster uint64) error {
	switch err := resp.Err(); {
	case resp.CompactRevision != 0, errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("%w: compacted up to %d", errRelist, resp.CompactRevision)
	case err != nil:
		return fmt.Errorf("watch registry: %w", err)
	case resp.Header.ClusterId != cluster:
		return fmt.Errorf("%w: etcd is another cluster than before", errRelist)
	}
	return nil
}

// silent says why a watch from after a revision is not answered: an etcd that
// was set back to an older backup, or is another, needs a new list.
func (r *Registry) silent(ctx context.Context, revision int64, cluster uint64) error {
	call, cancel := context.WithTimeout(ctx, r.timing.Write)
	defer cancel()
	resp, err := r.client.Get(call, r.keys.edges, clientv3.WithCountOnly())
	switch {
	case err != nil:
		return fmt.Errorf("etcd does not answer the watch: %w", err)
	case resp.Header.ClusterId != cluster, resp.Header.Revision < revision:
		return fmt.Errorf("%w: etcd is at %d, this edge at %d", errRelist, resp.Header.Revision, revision)
	}
	return errors.New("etcd does not answer the watch")
}

// askProgress asks etcd how far it is, so that silence can be told from
// nothing having happened.
func (r *Registry) askProgress(ctx context.Context) {
	for pause(ctx, r.timing.Progress) {
		call, cancel := context.WithTimeout(ctx, r.timing.Progress)
		// An error here shows as silence.
		_ = r.client.RequestProgress(call)
		cancel()
	}
}

// applyEvents folds the events of one response into the view and the sink.
func (r *Registry) applyEvents(received []*clientv3.Event, revision int64) {
	var b batch
	for _, ev := range received {
		if ev.Type == mvccpb.DELETE {
			b.deletes(r, ev.Kv)
		} else {
			b.puts(r, ev.Kv)
		}
	}
	r.mu.Lock()
	moved := revision > r.view.revision
	now := time.Now()
	for _, s := range b.steps {
		s(now)
	}
	r.view.revision = max(r.view.revision, revision)
	r.view.lamport = max(r.view.lamport, b.lamport)
	r.mu.Unlock()

	r.opts.Clock.Witness(b.lamport)
	for _, tell := range b.edges {
		tell()
	}
	if moved || len(b.changes) > 0 {
		r.opts.Sink.Apply(b.changes, revision)
	}
	r.emit(b.events...)
	if b.edgeGone {
		r.kickSweep()
	}
}

// batch is what the events of one response come to. Values are decoded before
// the lock is taken; steps run under it; edges are told after it.
type batch struct {
	steps    []func(now time.Time)
	changes  []federation.Change
	events   []Event
	edges    []func()
	lamport  uint64
	edgeGone bool
}

func (b *batch) puts(r *Registry, kv *mvccpb.KeyValue) {
	d := r.decode(kv)
	switch {
	case d.nameless != nil:
		r.broken(string(kv.Key), d.nameless)
	case d.edgeID != "":
		b.putEdge(r, d, kv)
	case d.record.broken != nil:
		r.broken(d.key.String(), d.record.broken)
	case d.record.tomb != nil:
		b.lamport = max(b.lamport, d.record.tomb.Stamp.Lamport)
		b.remove(r, d.key, d.record.tomb, kv.ModRevision)
	default:
		i := d.record.instance
		r.names.instance(i)
		b.lamport = max(b.lamport, i.Stamp.Lamport)
		b.steps = append(b.steps, func(now time.Time) {
			if known := r.view.instances[i.Key]; known != nil && known.Revision >= i.Revision {
				return
			}
			before := r.view.put(i, now)
			b.changes = append(b.changes, federation.Change{Put: i, Key: i.Key, Revision: i.Revision})
			b.events = r.tell(b.events, before, i, nil, i.Revision)
		})
	}
}

func (b *batch) deletes(r *Registry, kv *mvccpb.KeyValue) {
	name := string(kv.Key)
	if id, ok := r.keys.edgeID(name); ok {
		b.removeEdge(r, id)
		return
	}
	key, err := r.keys.instanceKey(name)
	if err != nil {
		return // it was not readable when it came either
	}
	b.remove(r, key, nil, kv.ModRevision)
}

func (b *batch) remove(r *Registry, key federation.Key, t *tombstone, revision int64) {
	b.steps = append(b.steps, func(time.Time) {
		before := r.view.remove(key, revision)
		if before == nil {
			return // a tombstone that ran out, most of the time
		}
		b.changes = append(b.changes, federation.Change{Key: key, Revision: revision})
		b.events = r.tell(b.events, before, nil, t, revision)
	})
}

func (b *batch) putEdge(r *Registry, d decoded, kv *mvccpb.KeyValue) {
	e := knownEdge{Edge: federation.Edge{ID: d.edgeID}, mod: kv.ModRevision}
	if d.edge != nil {
		e = *d.edge
	} else {
		r.broken(string(kv.Key), d.record.broken)
	}
	b.steps = append(b.steps, func(now time.Time) {
		e.seen = now
		r.view.edges[e.ID] = e
		r.view.changes++
	})
	if r.opts.Edges != nil && e.Zone != "" {
		b.edges = append(b.edges, func() { r.opts.Edges.PutEdge(e.Edge) })
	}
}

func (b *batch) removeEdge(r *Registry, id string) {
	b.edgeGone = true
	b.steps = append(b.steps, func(time.Time) {
		delete(r.view.edges, id)
		r.view.changes++
	})
	if r.opts.Edges != nil {
		b.edges = append(b.edges, func() { r.opts.Edges.RemoveEdge(id) })
	}
	if id == r.self {
		select {
		case r.lease.kick <- struct{}{}:
		default:
		}
	}
}

// broken counts a value that cannot be read. What was last read of its key
// stands.
func (r *Registry) broken(name string, err error) {
	r.counters.malformed.Add(1)
	r.log.Warn("registry value cannot be read", "key", name, "error", err)
}

func (r *Registry) kickSweep() {
	select {
	case r.sweepKick <- struct{}{}:
	default:
	}
}
