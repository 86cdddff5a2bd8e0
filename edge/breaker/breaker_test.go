package breaker_test

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/federation"
)

func profile(t testing.TB, name string) breaker.Options {
	t.Helper()
	o, ok := breaker.Profile(name)
	if !ok {
		t.Fatalf("no profile %s", name)
	}
	return o
}

// finish has n requests end with one outcome; it counts those let through.
func finish(b *breaker.Breaker, n int, err error) (passed int) {
	for range n {
		if ticket, ok := b.Enter(); ok {
			passed++
			report(b, ticket, err)
		}
	}
	return passed
}

// TestProfiles: each opens at its ratio of its minimum and not one failure
// earlier, stays open as long as it says, and then tries five.
func TestProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		successes, failures int
		open                time.Duration
	}{
		"high-frequency": {4, 16, 30 * time.Second},
		"steady":         {4, 6, time.Minute},
		"low-frequency":  {3, 2, 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker.New(profile(t, name), nil)
			finish(b, c.successes, nil)
			finish(b, c.failures-1, errFailed)
			if state := b.State(); state != breaker.Closed || !b.Admits() {
				t.Fatalf("%s: %v below its ratio", name, state)
			}
			finish(b, 1, errFailed)
			if state := b.State(); state != breaker.Open || b.Admits() {
				t.Fatalf("%s: %v at its ratio", name, state)
			}
			time.Sleep(c.open)
			if _, ok := b.Enter(); ok || b.State() != breaker.Open {
				t.Fatalf("%s: lets through while open", name)
			}
			time.Sleep(time.Nanosecond)
			if !b.Admits() || b.State() != breaker.HalfOpen {
				t.Fatalf("%s: %v when the open time is over", name, b.State())
			}
			if passed := finish(b, 5, nil); passed != 5 || b.State() != breaker.Closed {
				t.Fatalf("%s: %v after %d successes", name, b.State(), passed)
			}
		})
	}
	if _, ok := breaker.Profile("steadyy"); ok {
		t.Error("an unknown profile is known")
	}
	for _, name := range breaker.Profiles() {
		if err := profile(t, name).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBelowTheMinimumNothingOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(profile(t, "steady"), nil)
		finish(b, 9, errFailed)
		// The window ends: these nine are forgotten.
		time.Sleep(time.Minute + time.Nanosecond)
		finish(b, 9, errFailed)
		if state := b.State(); state != breaker.Closed {
			t.Fatalf("%v after 9 failures in each of two windows", state)
		}
		finish(b, 1, errFailed)
		if state := b.State(); state != breaker.Open {
			t.Fatalf("%v after 10 failures in a window", state)
		}
	})
}

// TestClientsFaultsDoNotCount: neither for nor against the endpoint.
func TestClientsFaultsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(profile(t, "steady"), nil)
		finish(b, 1000, errIgnored)
		finish(b, 9, errFailed)
		if state := b.State(); state != breaker.Closed {
			t.Fatalf("%v after 9 failures among 1000 that do not count", state)
		}
		finish(b, 1, errFailed)
		time.Sleep(time.Minute + time.Nanosecond)
		// Half open, a place is given back as often as it takes.
		if passed := finish(b, 100, errIgnored); passed != 100 || b.State() != breaker.HalfOpen {
			t.Fatalf("%v after %d of 100 that do not count", b.State(), passed)
		}
		finish(b, 5, nil)
		if state := b.State(); state != breaker.Closed {
			t.Fatalf("%v after five successes", state)
		}
	})
}

func TestHalfOpenAdmitsFiveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(profile(t, "steady"), nil)
		finish(b, 10, errFailed)
		time.Sleep(time.Minute + time.Nanosecond)
		var tickets []breaker.Ticket
		for range 5 {
			ticket, ok := b.Enter()
			if !ok {
				t.Fatalf("%d of five pass", len(tickets))
			}
			tickets = append(tickets, ticket)
		}
		if _, ok := b.Enter(); ok || b.Admits() {
			t.Fatal("a sixth passes")
		}
		for _, ticket := range tickets[:4] {
			b.Success(ticket, time.Now())
		}
		if _, ok := b.Enter(); ok || b.State() != breaker.HalfOpen {
			t.Fatal("a sixth passes while the fifth is out")
		}
		b.Failure(tickets[4])
		if state := b.State(); state != breaker.Open {
			t.Fatalf("%v after a failure half open", state)
		}
	})
}

// TestOldTicketsDoNotCount: what began before the breaker opened says nothing
// of the endpoint half open, nor of the closed one after that.
func TestOldTicketsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(profile(t, "steady"), nil)
		var old []breaker.Ticket
		for range 20 {
			ticket, _ := b.Enter()
			old = append(old, ticket)
		}
		finish(b, 10, errFailed)
		time.Sleep(time.Minute + time.Nanosecond)
		for _, ticket := range old[:10] {
			b.Success(ticket, time.Now())
		}
		b.Failure(old[10])
		if state := b.State(); state != breaker.HalfOpen {
			t.Fatalf("old outcomes make it %v", state)
		}
		finish(b, 5, nil)
		for _, ticket := range old[10:] {
			b.Failure(ticket)
		}
		b.Failure(0)
		b.Success(0, time.Now())
		if state := b.State(); state != breaker.Closed {
			t.Fatalf("old failures make it %v", state)
		}
	})
}

// TestStateChangesAreTold, in order, and the hook may ask the breaker.
func TestStateChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		var b *breaker.Breaker
		b = breaker.New(profile(t, "low-frequency"), func(from, to breaker.State) {
			if got := b.State(); got != to {
				t.Errorf("told of %v while %v", to, got)
			}
			told = append(told, from.String()+" to "+to.String())
		})
		finish(b, 5, errFailed)
		time.Sleep(2*time.Minute + time.Nanosecond)
		b.Admits() // no request is needed to notice the time
		finish(b, 1, errFailed)
		time.Sleep(2*time.Minute + time.Nanosecond)
		b.State()
		finish(b, 5, nil)
		want := []string{
			"closed to open", "open to half-open", "half-open to open", "open to half-open", "half-open to closed",
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestManyAtOnce: half open no more than five are under way, whoever asks, and
// a breaker of an endpoint that works again closes.
func TestManyAtOnce(t *testing.T) {
	o := breaker.Options{FailureRatio: 0.5, MinRequests: 10, OpenFor: breaker.MinDuration}
	b := breaker.New(o, nil)
	var broken atomic.Bool
	var trying atomic.Int64
	broken.Store(true)
	stop := make(chan struct{})
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ticket, ok := b.Enter()
				if !ok {
					continue
				}
				if ticket.Trial() {
					if n := trying.Add(1); n > breaker.DefaultTrials {
						t.Errorf("%d trials at once", n)
					}
					trying.Add(-1)
				}
				if broken.Load() {
					b.Failure(ticket)
				} else {
					b.Success(ticket, time.Now())
				}
			}
		})
	}
	until(t, b, breaker.Open)
	broken.Store(false)
	until(t, b, breaker.Closed)
	close(stop)
	done.Wait()
}

func until(t *testing.T, b *breaker.Breaker, state breaker.State) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); b.State() != state; {
		if time.Now().After(deadline) {
			t.Fatalf("still %v, not %v", b.State(), state)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestValidate(t *testing.T) {
	valid := breaker.Options{FailureRatio: 0.5, MinRequests: 1, OpenFor: time.Second}
	if err := valid.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*breaker.Options){
		"failure_ratio": func(o *breaker.Options) { o.FailureRatio = 0 },
		"min_requests":  func(o *breaker.Options) { o.MinRequests = 0 },
		"open_for":      func(o *breaker.Options) { o.OpenFor = 0 },
		"window":        func(o *breaker.Options) { o.Window = breaker.MaxDuration + 1 },
		"trials":        func(o *breaker.Options) { o.Trials = breaker.MaxTrials + 1 },
	} {
		o := valid
		spoil(&o)
		var wrong federation.FieldErrors
		if errors.As(o.Validate(), &wrong); len(wrong) != 1 || wrong[0].Field != field {
			t.Errorf("%s: %v", field, wrong)
		}
	}
	for _, ratio := range []float64{math.NaN(), math.Inf(1), -1, 1.01} {
		o := valid
		if o.FailureRatio = ratio; o.Validate() == nil {
			t.Errorf("a failure ratio of %v is accepted", ratio)
		}
	}
}

func TestRequestsDoNotAllocate(t *testing.T) {
	b := breaker.New(breaker.Options{FailureRatio: 1, MinRequests: breaker.MaxMinRequests, OpenFor: time.Minute}, nil)
	now := time.Now()
	for _, name := range []string{"success", "failure", "ignored"} {
		if n := testing.AllocsPerRun(100, func() {
			b.Admits()
			if ticket, ok := b.Enter(); ok {
				switch name {
				case "success":
					b.Success(ticket, now)
				case "failure":
					b.Failure(ticket)
				default:
					b.Ignore(ticket)
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, err := range map[string]error{"success": nil, "failure": errFailed} {
		b.Run(name, func(b *testing.B) {
			br := breaker.New(breaker.Options{FailureRatio: 1, MinRequests: breaker.MaxMinRequests, OpenFor: time.Hour}, nil)
			finish(br, 1, nil)
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				br.Admits()
				ticket, _ := br.Enter()
				if err == nil {
					br.Success(ticket, now)
				} else {
					br.Failure(ticket)
				}
			}
		})
	}
	b.Run("open", func(b *testing.B) {
		br := breaker.New(breaker.Options{FailureRatio: 1, MinRequests: 1, OpenFor: time.Hour}, nil)
		finish(br, 1, errFailed)
		b.ReportAllocs()
		for b.Loop() {
			if br.Admits() {
				b.Fatal("admits while open")
			}
		}
	})
}
