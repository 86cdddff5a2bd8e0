// Package ratelimit is the local token bucket behind a route's rate_limit.
package ratelimit

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of [Options]. They keep the bucket's integer arithmetic exact.
const (
	MaxRPM   = 100_000_000
	MaxBurst = 10_000_000
)

// Options describe a token bucket.
type Options struct {
	// RPM is how many requests a minute pass in the long run, 1 to MaxRPM.
	RPM int
	// Burst is how many pass at once after a pause, 1 to MaxBurst; 0 stands
	// for what RPM lets through in a second, rounded up.
	Burst int
}

// Validate returns nil or a [federation.FieldErrors].
func (o Options) Validate() error {
	var wrong federation.FieldErrors
	if o.RPM < 1 || o.RPM > MaxRPM {
		wrong = append(wrong, federation.FieldError{
			Field: "rpm", Found: strconv.Itoa(o.RPM), Allowed: fmt.Sprintf("1 to %d requests a minute", MaxRPM),
		})
	}
	if o.Burst < 0 || o.Burst > MaxBurst {
		wrong = append(wrong, federation.FieldError{
			Field: "burst", Found: strconv.Itoa(o.Burst), Allowed: fmt.Sprintf("1 to %d requests", MaxBurst),
		})
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// unitsPerToken is the price of one request. Each nanosecond brings RPM units,
// so that a token is one RPM-th of a minute exactly, whatever RPM is.
const unitsPerToken = int64(time.Minute)

// Limiter is a token bucket: full at first, it loses a token per request
// admitted and gains RPM tokens a minute up to Burst. It is safe for
// concurrent use and never allocates.
type Limiter struct {
	rpm      int64
	capacity int64         // units
	fill     time.Duration // from empty to full, rounded up

	mu    sync.Mutex
	units int64     // guarded by mu
	last  time.Time // guarded by mu; the zero time before the first request
}

// NewLimiter returns a full bucket. The options must be valid.
func NewLimiter(o Options) *Limiter {
	burst := int64(o.Burst)
	if burst == 0 {
		burst = (int64(o.RPM) + 59) / 60
	}
	l := &Limiter{rpm: int64(o.RPM), capacity: burst * unitsPerToken}
	l.fill = l.timeFor(l.capacity)
	l.units = l.capacity
	return l
}

// timeFor is how long units take to come, rounded up to a nanosecond.
func (l *Limiter) timeFor(units int64) time.Duration {
	if l.rpm <= 0 {
		return math.MaxInt64
	}
	return time.Duration((units + l.rpm - 1) / l.rpm)
}

// Allow takes a token for one request at now. remaining is how many more would
// pass at this very moment. When the request is not to pass, retryAfter is the
// shortest wait after which, without other requests, it will. A now earlier
// than one seen before counts as that one.
func (l *Limiter) Allow(now time.Time) (remaining int, retryAfter time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.IsZero() {
		l.last = now
	}
	if elapsed := now.Sub(l.last); elapsed > 0 {
		l.last = now
		if elapsed >= l.fill {
			l.units = l.capacity
		} else {
			l.units = min(l.capacity, l.units+int64(elapsed)*l.rpm)
		}
	}
	if l.units < unitsPerToken {
		return 0, l.timeFor(unitsPerToken - l.units), false
	}
	l.units -= unitsPerToken
	return int(l.units / unitsPerToken), 0, true
}
