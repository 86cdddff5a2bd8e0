package ratelimit_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/ratelimit"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestBurstThenRate(t *testing.T) {
	l := ratelimit.NewLimiter(ratelimit.Options{RPM: 60, Burst: 3})
	at := func(offset time.Duration, remaining int, retryAfter time.Duration, ok bool) {
		t.Helper()
		gotRemaining, gotRetry, gotOK := l.Allow(start.Add(offset))
		if gotRemaining != remaining || gotRetry != retryAfter || gotOK != ok {
			t.Errorf("at %v: got %d %v %v, want %d %v %v", offset, gotRemaining, gotRetry, gotOK, remaining, retryAfter, ok)
		}
	}
	at(0, 2, 0, true)
	at(0, 1, 0, true)
	at(0, 0, 0, true)
	at(0, 0, time.Second, false)
	at(250*time.Millisecond, 0, 750*time.Millisecond, false)
	at(time.Second-1, 0, 1, false)
	at(time.Second, 0, 0, true)
	at(time.Second, 0, time.Second, false)
	// An earlier time counts as the latest seen.
	at(0, 0, time.Second, false)
	at(3500*time.Millisecond, 1, 0, true)
	// Never more than the burst, however long the pause.
	at(365*24*time.Hour, 2, 0, true)
	at(100*365*24*time.Hour, 2, 0, true)
	at(100*365*24*time.Hour+2500*time.Millisecond, 2, 0, true)
}

func TestDefaultBurstIsOneSecond(t *testing.T) {
	for rpm, burst := range map[int]int{1: 1, 60: 1, 61: 2, 1000: 17, 6000: 100} {
		l := ratelimit.NewLimiter(ratelimit.Options{RPM: rpm})
		if remaining, _, ok := l.Allow(start); !ok || remaining != burst-1 {
			t.Errorf("%d rpm: %d remain of a burst of %d", rpm, remaining, burst)
		}
	}
}

// TestRetryAfterIsExact waits as told, and one nanosecond less, for rates that
// no whole number of nanoseconds is the period of.
func TestRetryAfterIsExact(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		o := ratelimit.Options{RPM: 1 + random.IntN(ratelimit.MaxRPM), Burst: 1 + random.IntN(5)}
		if random.IntN(2) == 0 {
			o.RPM = 1 + random.IntN(1000)
		}
		early, punctual := ratelimit.NewLimiter(o), ratelimit.NewLimiter(o)
		now := start
		for range o.Burst {
			now = now.Add(time.Duration(random.IntN(3)))
			early.Allow(now)
			punctual.Allow(now)
		}
		_, wait, ok := early.Allow(now)
		if ok { // so fast a rate that a nanosecond brought a token
			continue
		}
		if wait <= 0 {
			t.Fatalf("seed %d: %+v: refused without a wait", seed, o)
		}
		if _, _, ok := early.Allow(now.Add(wait - 1)); ok {
			t.Fatalf("seed %d: %+v: passes a nanosecond before %v", seed, o, wait)
		}
		if _, _, ok := punctual.Allow(now.Add(wait)); !ok {
			t.Fatalf("seed %d: %+v: does not pass after %v", seed, o, wait)
		}
	}
}

// TestNoDrift asks far more often than tokens come: as many pass in an hour
// as the rate says, to the request.
func TestNoDrift(t *testing.T) {
	for _, rpm := range []int{1, 7, 59, 1000, 4999} {
		l := ratelimit.NewLimiter(ratelimit.Options{RPM: rpm, Burst: 1})
		passed := 0
		const step = 1_234_567 * time.Nanosecond
		end := start.Add(time.Hour)
		for now := start; !now.After(end); now = now.Add(step) {
			if _, _, ok := l.Allow(now); ok {
				passed++
			}
		}
		// The bucket holds one token at most, so up to a step is lost each
		// time it is full; what the rate gives is the upper bound.
		most := rpm*60 + 1
		least := int(float64(time.Hour) / (float64(time.Minute)/float64(rpm) + float64(step)))
		if passed > most || passed < least {
			t.Errorf("%d rpm: %d passed in an hour, want %d to %d", rpm, passed, least, most)
		}
	}
}

func TestExtremes(t *testing.T) {
	l := ratelimit.NewLimiter(ratelimit.Options{RPM: ratelimit.MaxRPM, Burst: ratelimit.MaxBurst})
	for i := range ratelimit.MaxBurst {
		if remaining, _, ok := l.Allow(start); !ok || remaining != ratelimit.MaxBurst-1-i {
			t.Fatalf("request %d: %d remain, %v", i, remaining, ok)
		}
	}
	if _, wait, ok := l.Allow(start); ok || wait != 600*time.Nanosecond {
		t.Errorf("an empty bucket: %v after %v", ok, wait)
	}
	if remaining, _, ok := l.Allow(start.Add(6 * time.Second)); !ok || remaining != ratelimit.MaxBurst-1 {
		t.Errorf("after the time it takes to fill: %d remain, %v", remaining, ok)
	}
	slow := ratelimit.NewLimiter(ratelimit.Options{RPM: 1, Burst: ratelimit.MaxBurst})
	slow.Allow(start)
	if remaining, _, ok := slow.Allow(start.Add(290 * 365 * 24 * time.Hour)); !ok || remaining != ratelimit.MaxBurst-1 {
		t.Errorf("after centuries: %d remain, %v", remaining, ok)
	}
}

func TestConcurrentRequestsShareOneBucket(t *testing.T) {
	const burst, workers, each = 1000, 8, 500
	l := ratelimit.NewLimiter(ratelimit.Options{RPM: 1, Burst: burst})
	var passed atomic.Int64
	var seen [burst]atomic.Int32
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for range each {
				if remaining, _, ok := l.Allow(start); ok {
					passed.Add(1)
					seen[remaining].Add(1)
				}
			}
		})
	}
	done.Wait()
	if passed.Load() != burst {
		t.Errorf("%d passed of a burst of %d", passed.Load(), burst)
	}
	for remaining := range seen {
		if n := seen[remaining].Load(); n != 1 {
			t.Fatalf("%d requests were told that %d remain", n, remaining)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	for _, o := range []ratelimit.Options{{RPM: 1}, {RPM: 1000, Burst: 200}, {RPM: ratelimit.MaxRPM, Burst: ratelimit.MaxBurst}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []ratelimit.Options{{}, {RPM: -1}, {RPM: ratelimit.MaxRPM + 1}, {RPM: 1, Burst: -1}, {RPM: 1, Burst: ratelimit.MaxBurst + 1}} {
		if o.Validate() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestAllowDoesNotAllocate(t *testing.T) {
	l := ratelimit.NewLimiter(ratelimit.Options{RPM: 60, Burst: 10})
	if n := testing.AllocsPerRun(100, func() { l.Allow(start) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	l := ratelimit.NewLimiter(ratelimit.Options{RPM: ratelimit.MaxRPM, Burst: ratelimit.MaxBurst})
	b.ReportAllocs()
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%v", parallel), func(b *testing.B) {
			if !parallel {
				for i := 0; b.Loop(); i++ {
					l.Allow(start.Add(time.Duration(i)))
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					l.Allow(start)
				}
			})
		})
	}
}
