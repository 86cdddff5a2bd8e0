package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

// tick is how often progress is told of and the budget looked at.
const tick = 200 * time.Millisecond

// errBudget ends a run whose error budget is burned.
var errBudget = errors.New("the error budget is burned")

// live counts while a run goes on.
type live struct {
	mu          sync.Mutex
	lost, wrong int // of requests that entered surviving edges
	latencies   []time.Duration
}

// add counts a request that is complete.
func (c *live) add(o *outcome, lost [][]span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latencies = append(c.latencies, o.latency())
	switch {
	case o.wrong != "":
		c.wrong++
	case o.failure != "" && !inDead(o, lost):
		c.lost++
	}
}

// take returns the counts, and the latencies since the last call.
func (c *live) take() (lost, wrong int, latencies []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	latencies = c.latencies
	c.latencies = make([]time.Duration, 0, len(latencies))
	return c.lost, c.wrong, latencies
}

// burned is errBudget when more than percent of the planned requests are lost or
// answered wrongly.
func (c *live) burned(percent float64, planned int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.lost + c.wrong; float64(n) > percent/100*float64(planned) {
		return fmt.Errorf("%w: %d of %d requests lost or answered wrongly, allowed %g%%", errBudget, n, planned, percent)
	}
	return nil
}

// follow tells of progress and ends the run when its budget is burned.
func (c *live) follow(ctx context.Context, r *runner, line *timeline, tell *teller, planned int, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		lost, wrong, latencies := c.take()
		slices.Sort(latencies)
		now := report.Live{
			Elapsed: line.now(), Of: r.drill.Load.Duration, Rate: float64(len(latencies)) / tick.Seconds(),
			P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99), Lost: lost, Wrong: wrong, Broken: line.brokenNow(),
		}
		tell.show(func() { r.options.Progress.Update(now) })
		if err := c.burned(r.drill.Budget, planned); err != nil {
			stop(err)
			return
		}
	}
}
