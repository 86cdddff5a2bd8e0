package gateway

import (
	"runtime"
	"sync"
	"weak"
)

// waiting finds the requests that wait for an endpoint's answer, so that those
// in a lost zone, or at an endpoint that nobody reaches, can be moved on.
// Requests take no lock for it: each state of an exchange is listed once, when
// it is made, by a weak pointer, and says with an atomic of its own what it
// waits for. Whoever moves it claims it there, and the request, which takes it
// back there, waits for a claim under way: a cancellation can never hit the next
// exchange.
type waiting struct {
	mu    sync.Mutex
	calls []weak.Pointer[call] // mu
	sweep int                  // mu; the length at which the dead are dropped
	// claimed stands in call.awaits or call.lasts while the call is being moved
	// or ended.
	claimed endpoint
}

func (w *waiting) add(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) >= max(w.sweep, 1024) {
		kept := w.calls[:0]
		for _, p := range w.calls {
			if p.Value() != nil {
				kept = append(kept, p)
			}
		}
		clear(w.calls[len(kept):])
		w.calls = kept
		w.sweep = 2 * len(kept)
	}
	w.calls = append(w.calls, weak.Make(c))
}

// move cancels, with the given cause, every request that can be tried again and
// waits for an endpoint of which lost says so, unless may says no; nil: it never
// does. It returns how many these are.
func (w *waiting) move(cause error, lost func(*endpoint) bool, may func(*call) bool) int {
	moved := 0
	for _, c := range w.list() {
		if c.move(cause, lost, may) {
			moved++
		}
	}
	return moved
}

func (c *call) move(cause error, lost func(*endpoint) bool, may func(*call) bool) bool {
	for {
		e := c.awaits.Load()
		switch {
		case e == &c.g.waiting.claimed:
			runtime.Gosched() // whoever has it may give it back
		case e == nil || !lost(e):
			return false
		case c.awaits.CompareAndSwap(e, &c.g.waiting.claimed):
			// While it is claimed it stays as it was when it began to wait.
			if may != nil && !may(c) {
				c.awaits.Store(e)
				return false
			}
			c.x.Cancel(cause)
			c.awaits.Store(nil)
			return true
		}
	}
}

// list is all calls there are.
func (w *waiting) list() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := make([]*call, 0, len(w.calls))
	for _, p := range w.calls {
		if c := p.Value(); c != nil {
			calls = append(calls, c)
		}
	}
	return calls
}

// await says what the call waits for from now on. It reports whether the zone
// or the endpoint is known to be lost already: whoever looked for waiting calls
// may have missed this one. It waits for nothing then.
func (c *call) await(e *endpoint) (lost bool) {
	c.awaits.Store(e)
	if !e.zone.Load().demoted.Load() && !e.tracker.Ejected() {
		return false
	}
	c.arrive(e)
	return true
}

// arrive ends the waiting and reports whether the call was moved meanwhile.
func (c *call) arrive(e *endpoint) (moved bool) {
	for !c.awaits.CompareAndSwap(e, nil) {
		switch c.awaits.Load() {
		case nil:
			return true
		case &c.g.waiting.claimed:
			runtime.Gosched() // for as long as an interruption takes
		default:
			// It was claimed for an instant, and given back.
		}
	}
	return false
}
