package chaos

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
)

// maxOutstanding bounds the requests under way to one edge, or by DNS: a silent
// edge holds each for as long as a request may take. Those beyond fail at once.
const maxOutstanding = 4096

// asker sends one request and notes what came of it.
type asker interface {
	ask(ctx context.Context, j job, o *outcome)
}

// generator sends requests at a constant rate, whatever the answers take.
// Latency counts from the moment at which a request was meant to be sent, so
// that a stall costs all the requests that it kept from being sent.
type generator struct {
	rate  int // requests/s
	count int
	plan  *planner
	to    asker
	// over is told each outcome when it is complete, by many goroutines. It must
	// not panic.
	over func(*outcome)
}

// run returns when every request was answered or has failed. When ctx ends, the
// rest is not sent and not returned. Moments count from start.
func (g *generator) run(ctx context.Context, start time.Time) []outcome {
	outcomes := make([]outcome, g.count)
	outstanding := make([]atomic.Int64, g.plan.places())
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked sync.WaitGroup
	defer asked.Wait()
	for n := range outcomes {
		o := &outcomes[n]
		o.intended = time.Duration(n) * time.Second / time.Duration(g.rate)
		if !waitUntil(ctx, timer, start.Add(o.intended)) {
			asked.Wait()
			return outcomes[:n]
		}
		o.late = time.Since(start) - o.intended
		j := g.plan.next()
		o.job, o.entry, o.zone = j, j.edge, -1
		places := &outstanding[1+j.edge]
		if places.Add(1) > maxOutstanding {
			places.Add(-1)
			o.fail("not sent: too many requests are under way")
			o.done = time.Since(start)
			g.over(o)
			continue
		}
		asked.Go(func() {
			defer places.Add(-1)
			if err := guard.Do(func() error { g.to.ask(ctx, j, o); return nil }); err != nil {
				o.fail("the load generator failed: " + err.Error())
			}
			o.done = time.Since(start)
			g.over(o)
		})
	}
	asked.Wait()
	return outcomes
}

// waitUntil is false when ctx ended first.
func waitUntil(ctx context.Context, timer *time.Timer, at time.Time) bool {
	left := time.Until(at)
	if left <= 0 {
		return ctx.Err() == nil
	}
	timer.Reset(left)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
