package health

import (
	"sync/atomic"
	"time"
)

const (
	bucketSpan  = 10 * time.Second
	bucketCount = 8 // six make the window; the others are being left and entered
	windowSpan  = 60 * time.Second
)

// A bucket packs the epoch it counts in (16 bits), failures (20 bits) and all
// outcomes (28 bits), so that counting is one addition. 28 bits hold 26 million
// outcomes a second for the ten seconds that a bucket lasts.
const (
	totalBits   = 28
	failureBits = 20
	totalMask   = 1<<totalBits - 1
	failureMask = 1<<failureBits - 1
	epochShift  = totalBits + failureBits
	oneFailure  = 1 << totalBits
)

// window counts outcomes of the last minute without a lock. Around a change of
// bucket a few may be counted in the wrong one, which no decision notices.
type window struct {
	buckets [bucketCount]atomic.Uint64
}

// epochOf numbers the buckets of all time; a slot's epoch wraps after 60 days.
func epochOf(now int64) (slot int, epoch uint64) {
	n := uint64(now) / uint64(bucketSpan)
	return int(n % bucketCount), (n / bucketCount) & 0xffff
}

// succeed counts one success and reports whether it opened a bucket.
func (w *window) succeed(now int64) (opened bool) {
	slot, epoch := epochOf(now)
	b := &w.buckets[slot]
	if v := b.Load(); v>>epochShift != epoch || v == 0 {
		return w.open(b, v, epoch, 1)
	}
	b.Add(1)
	return false
}

// fail counts one failure and reports whether it opened a bucket.
func (w *window) fail(now int64) (opened bool) {
	slot, epoch := epochOf(now)
	b := &w.buckets[slot]
	for {
		v := b.Load()
		switch {
		case v>>epochShift != epoch || v == 0:
			return w.open(b, v, epoch, oneFailure+1)
		case v>>totalBits&failureMask == failureMask:
			return false // more failures do not change the judgement
		case b.CompareAndSwap(v, v+oneFailure+1):
			return false
		}
	}
}

// open begins the slot's next bucket with a first outcome.
func (w *window) open(b *atomic.Uint64, old, epoch, first uint64) bool {
	if b.CompareAndSwap(old, epoch<<epochShift|first) {
		return true
	}
	b.Add(first) // somebody else has opened it
	return false
}

// sums adds the last minute up, the bucket of now included.
func (w *window) sums(now int64) (failures, total uint64) {
	for back := range int64(windowSpan / bucketSpan) {
		at := now - back*int64(bucketSpan)
		if at < 0 {
			break
		}
		slot, epoch := epochOf(at)
		if v := w.buckets[slot].Load(); v>>epochShift == epoch {
			total += v & totalMask
			failures += v >> totalBits & failureMask
		}
	}
	return failures, total
}

// reset forgets everything.
func (w *window) reset() {
	for i := range w.buckets {
		w.buckets[i].Store(0)
	}
}
