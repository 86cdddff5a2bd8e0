package exchange

import "sync"

// Interrupter ends a wait that is under way, from another goroutine: a
// transport's connection on which a response is awaited. Interrupt may be
// called more than once, must not block and must not call the exchange back:
// it runs under the exchange's lock.
type Interrupter interface {
	Interrupt()
}

// cancellation carries the word that nobody wants the exchange's result any
// more, without a context and its allocations.
type cancellation struct {
	mu          sync.Mutex
	cause       error       // mu
	interrupter Interrupter // mu; what waits now
}

// Cancel ends the exchange from another goroutine: the client went away, or
// its edge declared the endpoint's zone dead. The first cause stays. It may be
// called at any time between Serve and Done.
func (c *cancellation) Cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	// Under the lock, unlike other calls out: once Await(nil) has returned,
	// no interruption may still be on its way, because the connection then
	// serves another exchange.
	if c.interrupter != nil {
		c.interrupter.Interrupt()
	}
}

// Cause is why the exchange was cancelled; nil when it was not.
func (c *cancellation) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Await registers what a cancellation interrupts from now on; nil
// unregisters, after which nothing is interrupted any more. When the exchange
// is cancelled already it registers nothing and returns the cause.
func (c *cancellation) Await(w Interrupter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w != nil && c.cause != nil {
		return c.cause
	}
	c.interrupter = w
	return nil
}

// ClearCancel forgets the cause, for another attempt by the handler or for
// the next request of the connection.
func (c *cancellation) ClearCancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause, c.interrupter = nil, nil
}
