package breaker

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// State is what a breaker lets through.
type State uint8

// The states.
const (
	StateUnknown State = iota
	// Closed: everything passes.
	Closed
	// HalfOpen: a few requests are tried.
	HalfOpen
	// Open: nothing passes.
	Open
)

var stateNames = [...]string{"unknown", "closed", "half-open", "open"}

// String is the name in logs, metrics and the API.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// Ticket is the permission for one request. The outcome of a request is
// reported with its ticket, once; what was permitted before the breaker last
// changed its state no longer counts. The zero Ticket never counts.
type Ticket uint64

// Trial reports whether the ticket is one of the few given half open. Whether
// the endpoint is used again waits for the outcome, which is therefore to be
// reported as soon as it shows: at the head of an answer that may last.
func (t Ticket) Trial() bool { return stateOf(uint64(t)) == HalfOpen }

// Breaker is the circuit breaker of one endpoint, safe for concurrent use.
//
// Its rules are gobreaker's, of a breaker whose Interval is Options.Window and
// whose requests are, while it is closed, counted when they end. The library is
// told of what can change the state: failures, and everything half open.
// Successes of a closed breaker are only counted, here; the library's question
// whether it is to open is answered with both counts.
type Breaker struct {
	opts     Options
	onChange func(from, to State)
	base     time.Time // what times here are counted from

	// mode is an epoch, a new one with every change of the state, above the
	// state in the lowest two bits. A ticket is the mode it was given in.
	mode atomic.Uint64
	// end is when the window or the open time is over, in nanoseconds since
	// base. It is never before the library's own end.
	end       atomic.Int64
	successes atomic.Uint64 // of the window
	trials    atomic.Int64  // tickets given half open, without those ignored; written under mu

	mu       sync.Mutex // orders what the library is told
	library  *gobreaker.CircuitBreaker[struct{}]
	failures uint32 // mu; of the window
	changed  change // mu; not yet told
}

// change is a change of the state; without one, to is StateUnknown.
type change struct{ from, to State }

const stateBits = 2

func stateOf(mode uint64) State { return State(mode & (1<<stateBits - 1)) }

var errFailed = errors.New("request failed")

func succeeded() (struct{}, error) { return struct{}{}, nil }
func failed() (struct{}, error)    { return struct{}{}, errFailed }

// New returns a closed breaker. The options must be valid. onChange, which may
// be nil, is told of each change of the state by the goroutine that brought it
// about, outside of any lock.
func New(o Options, onChange func(from, to State)) *Breaker {
	o = o.withDefaults()
	b := &Breaker{opts: o, onChange: onChange, base: time.Now()}
	b.library = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(o.Trials),
		Interval:      o.Window,
		Timeout:       o.OpenFor,
		ReadyToTrip:   b.readyToTrip,
		OnStateChange: b.follow,
	})
	b.mode.Store(1<<stateBits | uint64(Closed))
	b.newWindow()
	return b
}

// State is the present state; it notices that the open time is over.
func (b *Breaker) State() State {
	now := time.Now()
	if !b.over(now) {
		return stateOf(b.mode.Load())
	}
	b.mu.Lock()
	b.catchUp(now)
	state, told := stateOf(b.mode.Load()), b.take()
	b.mu.Unlock()
	b.tell(told)
	return state
}

// Admits reports whether a request would get a ticket now. It is cheap: one
// atomic load while the breaker is closed.
func (b *Breaker) Admits() bool {
	if stateOf(b.mode.Load()) == Closed {
		return true
	}
	switch b.State() {
	case Closed:
		return true
	case HalfOpen:
		return b.trials.Load() < int64(b.opts.Trials)
	default:
		return false
	}
}

// Enter asks for a ticket.
func (b *Breaker) Enter() (Ticket, bool) {
	if mode := b.mode.Load(); stateOf(mode) == Closed {
		return Ticket(mode), true
	}
	b.mu.Lock()
	b.catchUp(time.Now())
	mode := b.mode.Load()
	admitted := stateOf(mode) == Closed
	if stateOf(mode) == HalfOpen && b.trials.Load() < int64(b.opts.Trials) {
		b.trials.Add(1)
		admitted = true
	}
	told := b.take()
	b.mu.Unlock()
	b.tell(told)
	if !admitted {
		return 0, false
	}
	return Ticket(mode), true
}

// Success reports that the endpoint did what it was asked, at now, which is to
// come from time.Now.
func (b *Breaker) Success(t Ticket, now time.Time) {
	if mode := b.mode.Load(); uint64(t) == mode && stateOf(mode) == Closed && !b.over(now) {
		b.successes.Add(1)
		return
	}
	b.report(t, false)
}

// Failure reports that the endpoint failed. Failures of the client's are
// ignored instead: see [Breaker.Ignore].
func (b *Breaker) Failure(t Ticket) { b.report(t, true) }

// Ignore gives a ticket back without saying anything about the endpoint: the
// client went away, or nothing was sent.
func (b *Breaker) Ignore(t Ticket) {
	if !t.Trial() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if uint64(t) == b.mode.Load() {
		b.trials.Add(-1)
	}
}

// report counts an outcome.
func (b *Breaker) report(t Ticket, failure bool) {
	b.mu.Lock()
	b.catchUp(time.Now())
	switch mode := b.mode.Load(); {
	case uint64(t) != mode:
	case stateOf(mode) == Closed && !failure:
		b.successes.Add(1)
	case failure:
		_, _ = b.library.Execute(failed) // the error is the outcome itself
	default:
		_, _ = b.library.Execute(succeeded)
	}
	told := b.take()
	b.mu.Unlock()
	b.tell(told)
}

// catchUp lets the library notice what time alone has changed. Held under mu.
func (b *Breaker) catchUp(now time.Time) {
	if !b.over(now) {
		return
	}
	// The library's end was before ours: it opens halfway, or forgets what it
	// counted in the window.
	b.library.State()
	if stateOf(b.mode.Load()) == Closed {
		b.newWindow()
	}
}

// over reports whether the window or the open time is.
func (b *Breaker) over(now time.Time) bool { return int64(now.Sub(b.base)) > b.end.Load() }

// newWindow begins to count anew, just after the library did. Held under mu.
func (b *Breaker) newWindow() {
	b.failures = 0
	b.successes.Store(0)
	b.end.Store(int64(time.Since(b.base) + b.opts.Window))
}

// readyToTrip answers the library whether a closed breaker is to open, at a
// failure. It is called under mu.
func (b *Breaker) readyToTrip(counts gobreaker.Counts) bool {
	if counts.TotalFailures != b.failures+1 {
		// Its window ended in the moment by which its clock is ahead of ours.
		b.newWindow()
	}
	b.failures = counts.TotalFailures
	failures, finished := float64(b.failures), float64(b.failures)+float64(b.successes.Load())
	return finished >= float64(b.opts.MinRequests) && failures/finished >= b.opts.FailureRatio
}

// follow takes over a change of the library's state. It is called under mu.
func (b *Breaker) follow(_ string, _, to gobreaker.State) {
	mode := b.mode.Load()
	b.changed.from = stateOf(mode)
	b.trials.Store(0)
	switch to {
	case gobreaker.StateClosed:
		b.changed.to = Closed
		b.newWindow()
	case gobreaker.StateHalfOpen:
		b.changed.to = HalfOpen
		b.end.Store(math.MaxInt64)
	case gobreaker.StateOpen:
		b.changed.to = Open
		b.end.Store(int64(time.Since(b.base) + b.opts.OpenFor))
	}
	b.mode.Store((mode>>stateBits+1)<<stateBits | uint64(b.changed.to))
}

// take returns the change that is still to be told. Held under mu.
func (b *Breaker) take() change {
	told := b.changed
	b.changed = change{}
	return told
}

func (b *Breaker) tell(c change) {
	if c.to != StateUnknown && b.onChange != nil {
		b.onChange(c.from, c.to)
	}
}
