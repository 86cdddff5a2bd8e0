package registry

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a doubling wait with full jitter between half and the whole of
// it, so that edges which lost etcd together do not come back together.
type backoff struct {
	next time.Duration
	max  time.Duration
}

func (b *backoff) reset(first time.Duration) { b.next = first }

// wait sleeps and reports whether ctx is still going on.
func (b *backoff) wait(ctx context.Context) bool {
	d := min(b.next, b.max)
	b.next = min(2*b.next, b.max)
	return pause(ctx, jitter(d))
}

// jitter returns between half of d and d.
func jitter(d time.Duration) time.Duration {
	if d < 2 {
		return d
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
