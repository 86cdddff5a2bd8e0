package gateway

import "sync/atomic"

const (
	// budgetPercent of a service's requests may be retries, yet always
	// budgetFloor (Envoy's retry_budget: budget_percent 20,
	// min_retry_concurrency 3; here over a window instead of at once).
	budgetPercent = 20
	budgetFloor   = 3
	// budgetTicks is how many ticks, of a second each, the window has.
	budgetTicks = 10
)

// budget bounds the retries of one service, so that a service in trouble does
// not get more requests for it. The zero value is ready. Counts only grow; the
// window is what they were ten ticks ago, so that a request costs one addition.
type budget struct {
	requests, retries         atomic.Int64
	oldRequests, oldRetries   atomic.Int64 // where the window begins
	pastRequests, pastRetries [budgetTicks]int64
	ticks                     int
}

// request counts one request.
func (b *budget) request() { b.requests.Add(1) }

// take asks for one retry.
func (b *budget) take() bool {
	allowed := max(budgetFloor, (b.requests.Load()-b.oldRequests.Load())*budgetPercent/100)
	for {
		retries := b.retries.Load()
		if retries-b.oldRetries.Load() >= allowed {
			return false
		}
		if b.retries.CompareAndSwap(retries, retries+1) {
			return true
		}
	}
}

// tick moves the window; one goroutine calls it once a second.
func (b *budget) tick() {
	n := b.ticks % budgetTicks
	if b.ticks >= budgetTicks {
		b.oldRequests.Store(b.pastRequests[n])
		b.oldRetries.Store(b.pastRetries[n])
	}
	b.pastRequests[n], b.pastRetries[n] = b.requests.Load(), b.retries.Load()
	b.ticks++
}
