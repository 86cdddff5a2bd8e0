package registry

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// maxQueued bounds how many instances have a write that waits for etcd. One
// more is refused and counted; who asked tries again.
const maxQueued = 10_000

// queuedWrite is a write that was taken while etcd was away.
type queuedWrite struct {
	key    federation.Key
	stamp  federation.Stamp // of when it was taken
	taken  time.Time        // wall clock: the other stands still while the machine sleeps
	action string
	actor  string
	// next is what the key shall hold. Unless whole, it is what the writer
	// saw with the drain mark set, and only the mark is written.
	next  record
	whole bool
}

// replayQueue holds at most one write of each key, the last: what it replaced
// was never in etcd's order.
type replayQueue struct {
	kick chan struct{} // 1-buffered: something was queued

	mu       sync.Mutex
	writes   map[federation.Key]*queuedWrite // mu
	overflow uint64                          // mu
}

func (q *replayQueue) init() {
	q.kick = make(chan struct{}, 1)
	q.writes = make(map[federation.Key]*queuedWrite)
}

func (q *replayQueue) len() (queued int, overflow uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.writes), q.overflow
}

// held returns what waits for a key, nil when nothing does.
func (q *replayQueue) held(key federation.Key) *queuedWrite {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.writes[key]
}

// add puts a write in the place of the one that its writer saw, nil for none.
// It reports false when another one came in between.
func (q *replayQueue) add(seen, w *queuedWrite) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writes[w.key] != seen {
		return false, nil
	}
	if seen == nil && len(q.writes) >= maxQueued {
		q.overflow++
		return false, fmt.Errorf("%s %s: %w: %d writes wait for etcd already", w.action, w.key, ErrUnavailable, maxQueued)
	}
	q.writes[w.key] = w
	select {
	case q.kick <- struct{}{}:
	default:
	}
	return true, nil
}

// drop forgets what waits for a key, unless it is newer than a write that etcd
// has confirmed.
func (q *replayQueue) drop(key federation.Key, confirmed federation.Stamp) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.writes[key]; w != nil && w.stamp.Compare(confirmed) <= 0 {
		delete(q.writes, key)
	}
}

// done takes a write out, unless another one has taken its place.
func (q *replayQueue) done(w *queuedWrite) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writes[w.key] == w {
		delete(q.writes, w.key)
	}
}

// inOrder returns what waits, in the order of its stamps.
func (q *replayQueue) inOrder() []*queuedWrite {
	q.mu.Lock()
	all := make([]*queuedWrite, 0, len(q.writes))
	for _, w := range q.writes {
		all = append(all, w)
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b *queuedWrite) int { return a.stamp.Compare(b.stamp) })
	return all
}
