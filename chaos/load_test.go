package chaos

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stall answers after a fixed time, and all that is asked within a stall when
// that ends.
type stall struct {
	start    time.Time
	takes    time.Duration
	from, to time.Duration
	mu       sync.Mutex
	asked    int
}

func (s *stall) ask(_ context.Context, _ job, o *outcome) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	at := time.Since(s.start)
	if at >= s.from && at < s.to {
		time.Sleep(s.to - at)
	}
	time.Sleep(s.takes)
	o.zone = 0
}

func oneLane() *planner {
	return newPlanner(&Load{Streams: []Stream{{Via: ViaEdges, Share: 1}}, Mix: Mix{Untagged: 1}}, testTarget("az1"))
}

// TestLoadIsOpen: requests are sent at their moments whatever the answers take,
// and one that waited for a stall has all of it in its latency.
func TestLoadIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &stall{start: start, takes: 5 * time.Millisecond, from: 100 * time.Millisecond, to: 600 * time.Millisecond}
		over := 0
		var mu sync.Mutex
		g := &generator{rate: 1000, count: 1000, plan: oneLane(), to: s, over: func(*outcome) { mu.Lock(); over++; mu.Unlock() }}
		outcomes := g.run(t.Context(), start)
		if len(outcomes) != 1000 || s.asked != 1000 || over != 1000 {
			t.Fatalf("%d outcomes, %d asked, %d told, want 1000 each", len(outcomes), s.asked, over)
		}
		for n := range outcomes {
			o := &outcomes[n]
			at := time.Duration(n) * time.Millisecond
			want := s.takes
			if at >= s.from && at < s.to {
				want += s.to - at
			}
			if o.intended != at || o.late != 0 || o.latency() != want || o.failure != "" {
				t.Fatalf("request %d: intended %s late %s took %s failed %q, want at %s and %s", n, o.intended, o.late, o.latency(), o.failure, at, want)
			}
		}
		if took := time.Since(start); took != 999*time.Millisecond+s.takes {
			t.Errorf("took %s", took)
		}
	})
}

// TestOutstandingIsBounded: what a silent edge holds up is bounded, and what is
// not sent for it counts as failed.
func TestOutstandingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &stall{start: start, to: time.Hour}
		g := &generator{rate: 1000, count: 2 * maxOutstanding, plan: oneLane(), to: s, over: func(*outcome) {}}
		outcomes := g.run(t.Context(), start)
		failed := 0
		for n := range outcomes {
			if outcomes[n].failure != "" {
				failed++
			}
		}
		if s.asked != maxOutstanding || failed != maxOutstanding {
			t.Errorf("%d asked and %d failed, want %d and %d", s.asked, failed, maxOutstanding, maxOutstanding)
		}
	})
}

// TestLoadEnds: nothing is sent after ctx ended, and what was sent is complete.
func TestLoadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &stall{start: start, takes: 50 * time.Millisecond}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond+time.Microsecond)
		defer cancel()
		g := &generator{rate: 100, count: 1000, plan: oneLane(), to: s, over: func(*outcome) {}}
		outcomes := g.run(ctx, start)
		if len(outcomes) != 11 || s.asked != 11 {
			t.Fatalf("%d outcomes and %d asked, want 11", len(outcomes), s.asked)
		}
		for n := range outcomes {
			if outcomes[n].latency() != s.takes {
				t.Errorf("request %d took %s", n, outcomes[n].latency())
			}
		}
	})
}

// TestLateGeneratorIsTold: what this machine delays is told apart, and counts.
func TestLateGeneratorIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(300 * time.Millisecond) // it begins too late
		g := &generator{rate: 100, count: 50, plan: oneLane(), to: &stall{start: start}, over: func(*outcome) {}}
		outcomes := g.run(t.Context(), start)
		if o := outcomes[0]; o.late != 300*time.Millisecond || o.latency() != 300*time.Millisecond {
			t.Errorf("the first is late by %s and took %s", o.late, o.latency())
		}
		if o := outcomes[49]; o.late != 0 || o.latency() != 0 {
			t.Errorf("the last is late by %s and took %s", o.late, o.latency())
		}
		m := measured{target: testTarget("az1"), slow: time.Second, outcomes: outcomes}
		if s := m.sum(); s.late != 300*time.Millisecond || s.tooLate() == "" {
			t.Errorf("late %s: %q", s.late, s.tooLate())
		}
	})
}
