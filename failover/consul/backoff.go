package consul

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a doubling wait with jitter between half and the whole of it, so
// that edges which lost Consul together do not come back together.
type backoff struct {
	min, max, next time.Duration
}

func (b *backoff) reset() { b.next = 0 }

// wait sleeps until its time has come or ctx has ended.
func (b *backoff) wait(ctx context.Context) {
	d := cmp.Or(b.next, b.min)
	b.next = min(2*d, b.max)
	pause(ctx, jitter(d))
}

// jitter returns between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
