package admission

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Why a request does not wait, or no longer.
var (
	// ErrFull: as many wait as may.
	ErrFull = errors.New("queue for a place is full")
	// ErrTimeout: no place came in time.
	ErrTimeout = errors.New("no place in time")
	// ErrInterrupted: see [Waiter.Interrupt].
	ErrInterrupted = errors.New("wait for a place was interrupted")
)

// unknown stands for a number of free places that nobody counted: more than
// there can be, and so little that adding it never overflows.
const unknown = int64(1) << 32

// Queue is where requests wait for places that are all the same to them,
// strictly first come, first served: only the first of them tries to take a
// place, and tells the next one. It does not know the places: whoever gives one
// back calls [Queue.Freed], which costs one atomic load while nobody waits.
//
// No place is missed: a request joins before it tries, and a place is free
// before Freed looks whether somebody waits, so that one of the two sees the
// other.
type Queue struct {
	waiting  atomic.Int64 // waiters in the list; written under mu
	refused  atomic.Uint64
	timeouts atomic.Uint64

	mu          sync.Mutex
	opts        Options // mu
	first, last *Waiter // mu
	// free is how many places may be free of which the first does not yet know
	// that others have them; while there are any it is its turn. 0 when nobody
	// waits.
	free int64 // mu
}

// NewQueue returns an empty queue. The options must be valid.
func NewQueue(o Options) *Queue { return &Queue{opts: o} }

// SetOptions changes the options for those who come from now on. They must be
// valid.
func (q *Queue) SetOptions(o Options) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opts = o
}

// Waiting is how many requests wait. Who comes while any does joins them
// instead of trying first: it would take the place of one that waits.
func (q *Queue) Waiting() int64 { return q.waiting.Load() }

// Refused counts those that found the queue full.
func (q *Queue) Refused() uint64 { return q.refused.Load() }

// Timeouts counts those that waited in vain.
func (q *Queue) Timeouts() uint64 { return q.timeouts.Load() }

// Freed says that a place was given back.
func (q *Queue) Freed() {
	if q.waiting.Load() > 0 {
		q.news(1)
	}
}

// Changed says that any number of places may have come: a limit was raised, an
// endpoint became usable.
func (q *Queue) Changed() {
	if q.waiting.Load() > 0 {
		q.news(unknown)
	}
}

func (q *Queue) news(places int64) {
	q.mu.Lock()
	var turn *Waiter
	if q.first != nil {
		if q.free == 0 {
			turn = q.first
		}
		q.free += places
	}
	q.mu.Unlock()
	turn.signal()
}

// Join lines up, if there is room; else the error is [ErrFull]. The waiter
// has to leave again: by Turn's error, or by Took or Leave.
func (q *Queue) Join() (*Waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Load() >= int64(q.opts.Size) {
		q.refused.Add(1)
		return nil, ErrFull
	}
	w := &Waiter{q: q, until: time.Now().Add(q.opts.Wait), wake: make(chan struct{}, 1), before: q.last}
	if q.last == nil {
		q.first = w
		// What came free before it was here, nobody has told.
		q.free = unknown
	} else {
		q.last.behind = w
	}
	q.last = w
	q.waiting.Add(1)
	return w, nil
}

// Waiter is a request in a queue. Its methods but Interrupt are for one
// goroutine.
type Waiter struct {
	q           *Queue
	until       time.Time
	wake        chan struct{}
	interrupted atomic.Bool
	timer       *time.Timer // nil until it sleeps

	before, behind *Waiter // q.mu
	left           bool    // q.mu
	trying         bool    // q.mu; since its last Turn
	told           int64   // q.mu; what q.free was then
}

// Turn blocks until it is the waiter's turn to try to take a place. If it gets
// one it calls Took, if not, it calls Turn again. It ends with [ErrTimeout]
// after the queue's Wait or at the deadline, whichever is first (a zero
// deadline is none), or with [ErrInterrupted]; the waiter has then left.
func (w *Waiter) Turn(deadline time.Time) error {
	if deadline.IsZero() || w.until.Before(deadline) {
		deadline = w.until
	}
	for {
		if w.interrupted.Load() {
			w.Leave()
			return ErrInterrupted
		}
		if w.turn() {
			return nil
		}
		if !w.sleep(deadline) {
			w.q.timeouts.Add(1)
			w.Leave()
			return ErrTimeout
		}
	}
}

// turn reports whether it is the waiter's, after a try that failed too.
func (w *Waiter) turn() bool {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	w.missed()
	w.trying = q.first == w && q.free > 0
	w.told = q.free
	return w.trying
}

// missed notes that a try found nothing: what had been told before it is void.
// Held under q.mu.
func (w *Waiter) missed() {
	if w.trying {
		w.trying = false
		w.q.free = max(0, w.q.free-w.told)
	}
}

// sleep reports whether something happened before the deadline.
func (w *Waiter) sleep(deadline time.Time) bool {
	if w.timer == nil {
		w.timer = time.NewTimer(time.Until(deadline))
	} else {
		w.timer.Reset(time.Until(deadline))
	}
	select {
	case <-w.wake:
		return true
	case <-w.timer.C:
		return false
	}
}

// Took leaves the queue with a place.
func (w *Waiter) Took() {
	w.q.mu.Lock()
	w.trying = false
	w.q.free = max(0, w.q.free-1)
	turn := w.remove()
	w.q.mu.Unlock()
	turn.signal()
}

// Leave leaves the queue without a place, if the waiter has not left yet. Like
// another Turn, it says that the try after the last one found no place.
func (w *Waiter) Leave() {
	w.q.mu.Lock()
	var turn *Waiter
	if !w.left {
		w.missed()
		turn = w.remove()
	}
	w.q.mu.Unlock()
	turn.signal()
}

// remove takes the waiter out, and returns whose turn it is because of that.
// Held under q.mu.
func (w *Waiter) remove() (turn *Waiter) {
	q := w.q
	w.left = true
	if w.before == nil {
		q.first, turn = w.behind, w.behind
	} else {
		w.before.behind = w.behind
	}
	if w.behind == nil {
		q.last = w.before
	} else {
		w.behind.before = w.before
	}
	w.before, w.behind = nil, nil
	q.waiting.Add(-1)
	if w.timer != nil {
		w.timer.Stop()
	}
	if q.first == nil {
		q.free = 0
	}
	if q.free == 0 {
		return nil
	}
	return turn
}

// Interrupt ends the wait, from any goroutine and without blocking.
func (w *Waiter) Interrupt() {
	w.interrupted.Store(true)
	w.signal()
}

// signal has the waiter, if there is one, look what has changed.
func (w *Waiter) signal() {
	if w == nil {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}
