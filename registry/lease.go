package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// edgeLease is what this edge knows of its own lease.
type edgeLease struct {
	kick chan struct{} // 1-buffered: look at the key now

	mu      sync.Mutex
	id      clientv3.LeaseID // mu; 0: none
	until   time.Time        // mu; by the last renewal
	changed chan struct{}    // mu; closed when the lease is got
}

func (l *edgeLease) held(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id != 0 && now.Before(l.until)
}

func (l *edgeLease) set(id clientv3.LeaseID, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.until = id, until
	if id != 0 {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// waitHeld blocks until the edge holds its lease: what nobody can see the
// owner of must not be registered.
func (l *edgeLease) waitHeld(ctx context.Context) error {
	for {
		l.mu.Lock()
		id, until, changed := l.id, l.until, l.changed
		l.mu.Unlock()
		if id != 0 && time.Now().Before(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for this edge's lease: %w", ctx.Err())
		case <-changed:
		}
	}
}

// holdEdge keeps edges/{self} on a lease, getting a new one whenever the old
// one was lost, and ends it with ctx.
func (r *Registry) holdEdge(ctx context.Context) error {
	wait := backoff{max: r.timing.BackoffMax}
	wait.reset(50 * time.Millisecond)
	for ctx.Err() == nil {
		id, err := r.claimEdge(ctx)
		switch {
		case errors.Is(err, ErrDuplicateEdge):
			return err
		case err != nil:
			if ctx.Err() == nil && r.state.fail(err) {
				r.log.Warn("edge is not registered", "error", err)
			}
			wait.wait(ctx)
			continue
		}
		wait.reset(50 * time.Millisecond)
		r.log.Info("edge registered", "edge", r.self, "lease", fmt.Sprintf("%x", id))
		r.renewEdge(ctx, id)
		r.lease.set(0, time.Time{})
	}
	return nil
}

// claimEdge puts this edge's key on a new lease. A key that is there already
// belongs to an earlier lease of this process or of one before it that is known
// to have ended, which it replaces; or to a process that died elsewhere and
// whose lease is running out, which it waits for; or to a living edge, which
// shows by renewals.
func (r *Registry) claimEdge(ctx context.Context) (clientv3.LeaseID, error) {
	value, err := encodeEdge(r.opts.Self)
	if err != nil {
		return 0, err
	}
	call, cancel := context.WithTimeout(ctx, r.timing.EdgeLease)
	grant, err := r.client.Grant(call, int64(r.timing.EdgeLease/time.Second))
	cancel()
	if err != nil {
		return 0, fmt.Errorf("grant edge lease: %w", err)
	}
	name := r.keys.edge(r.self)
	seen := rival{}
	for {
		// A full TTL from before the call: the lease runs at least until then.
		start := time.Now()
		call, cancel := context.WithTimeout(ctx, r.timing.EdgeLease)
		if _, err = r.keepAlive(call, grant.ID); err == nil {
			err = r.tryClaim(call, name, string(value), grant.ID, &seen)
		}
		cancel()
		if err == nil {
			r.lease.set(grant.ID, start.Add(r.timing.EdgeLease))
			return grant.ID, nil
		}
		if !errors.Is(err, errClaimed) || !pause(ctx, jitter(r.timing.EdgeLease/10)) {
			r.revoke(grant.ID)
			return 0, err
		}
	}
}

// errClaimed: the key is another's, who may be dead.
var errClaimed = errors.New("edge id is taken")

// rival is what was seen of the lease that another process has on this id.
type rival struct {
	lease    int64
	left     int64     // seconds, rounded down
	ends     time.Time // when the key is gone unless the lease was renewed
	renewals int
}

// rivalSlack is what etcd's rounding of the time left (1 s) and its removal of
// what ran out (every 0.5 s) can add to a lease.
const rivalSlack = 2 * time.Second

// tryClaim makes one try and watches the rival for renewals.
func (r *Registry) tryClaim(ctx context.Context, name, value string, lease clientv3.LeaseID, seen *rival) error {
	put := clientv3.OpPut(name, value, clientv3.WithLease(lease))
	resp, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(name), "=", 0)).
		Then(put).
		Else(clientv3.OpGet(name)).
		Commit()
	if err != nil {
		return fmt.Errorf("claim edge id: %w", err)
	}
	if resp.Succeeded {
		return nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return errClaimed // gone between the two: try again
	}
	held, err := decodeEdge(r.self, kvs[0].Value)
	ours := held.Incarnation == r.opts.Self.Incarnation || slices.Contains(r.opts.Lives, held.Incarnation)
	if err != nil || ours || kvs[0].Lease == 0 {
		// Our own from before an outage or a restart, or a value that no edge
		// can live by.
		resp, err := r.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(name), "=", kvs[0].ModRevision)).
			Then(put).
			Commit()
		if err != nil {
			return fmt.Errorf("claim edge id again: %w", err)
		}
		if !resp.Succeeded {
			return errClaimed
		}
		return nil
	}
	life, err := r.client.TimeToLive(ctx, clientv3.LeaseID(kvs[0].Lease))
	if err != nil {
		return fmt.Errorf("look at the edge's other lease: %w", err)
	}
	return seen.look(time.Now(), held, kvs[0].Lease, life.TTL)
}

// look counts renewals, which show in time gained or in a key that outlives
// its lease. One could be etcd's own, which grants every lease its full time
// anew when its leader changes.
func (s *rival) look(now time.Time, held federation.Edge, lease, left int64) error {
	ends := now.Add(time.Duration(left)*time.Second + rivalSlack)
	switch {
	case s.lease != lease:
		*s = rival{lease: lease, ends: ends}
	case left > s.left, now.After(s.ends):
		s.renewals++
		s.ends = ends
	}
	s.left = left
	if s.renewals >= 2 {
		return fmt.Errorf("edge %s: %w, incarnation %d, admin address %q", held.ID, ErrDuplicateEdge, held.Incarnation, held.Admin)
	}
	return errClaimed
}

// renewEdge renews the lease until it is lost or ctx ends; then it ends it.
func (r *Registry) renewEdge(ctx context.Context, id clientv3.LeaseID) {
	interval := r.timing.EdgeLease / 3
	for {
		t := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			t.Stop()
			r.revoke(id)
			return
		case <-r.lease.kick: // the watch saw the key go
			t.Stop()
		case <-t.C:
		}
		start := time.Now()
		call, cancel := context.WithTimeout(ctx, interval)
		err := r.renew(call, id)
		cancel()
		switch {
		case err == nil:
			r.lease.set(id, start.Add(r.timing.EdgeLease))
		case leaseGone(err), errors.Is(err, errClaimed):
			r.log.Warn("edge lease is lost", "edge", r.self)
			return
		case ctx.Err() == nil && r.state.fail(err):
			r.log.Warn("edge lease is not renewed", "error", err)
		}
	}
}

// renew renews the lease and sees to it that the key still hangs on it.
func (r *Registry) renew(ctx context.Context, id clientv3.LeaseID) error {
	got, err := r.keepAlive(ctx, id)
	if err != nil {
		return err
	}
	if len(got.Kvs) == 0 || got.Kvs[0].Lease != int64(id) {
		return errClaimed
	}
	return nil
}

// keepAlive renews a lease once and returns the key of this edge. The key is
// read first, because KeepAliveOnce tries again without any pause while etcd is
// away, and a read waits. It is read whole, because a read of keys only does not
// bring the lease (etcd 3.7).
func (r *Registry) keepAlive(ctx context.Context, id clientv3.LeaseID) (*clientv3.GetResponse, error) {
	got, err := r.client.Get(ctx, r.keys.edge(r.self))
	if err != nil {
		return nil, fmt.Errorf("look at edge key: %w", err)
	}
	if _, err := r.client.KeepAliveOnce(ctx, id); err != nil {
		return nil, fmt.Errorf("renew edge lease: %w", err)
	}
	return got, nil
}

// revoke ends a lease at once, so that nobody has to wait for it. It is best
// effort: a lease that is not ended runs out.
func (r *Registry) revoke(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := r.client.Revoke(ctx, id); err != nil && !leaseGone(err) {
		r.log.Info("edge lease was left to run out", "error", err)
	}
}

// sharedLease gives many keys that shall live for about the same time a lease
// in common, since a lease each would cost as much as a write. A key put on it
// lives for life at least, and a tenth longer at most.
type sharedLease struct {
	client *clientv3.Client
	life   time.Duration

	mu      sync.Mutex
	id      clientv3.LeaseID // mu; 0: none
	granted time.Time        // mu
}

// get returns the lease, granting a new one when the time has come.
func (l *sharedLease) get(ctx context.Context) (clientv3.LeaseID, error) {
	l.mu.Lock()
	id, granted := l.id, l.granted
	l.mu.Unlock()
	spare := max(l.life/10, time.Second)
	if id != 0 && time.Since(granted) < spare {
		return id, nil
	}
	now := time.Now()
	grant, err := l.client.Grant(ctx, int64((l.life+spare+time.Second-1)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.granted = grant.ID, now
	return grant.ID, nil
}

// drop forgets a lease that etcd no longer has.
func (l *sharedLease) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = 0
}
