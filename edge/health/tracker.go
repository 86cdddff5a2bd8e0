package health

import (
	"sync/atomic"

	"github.com/grayfed/grayfed/federation"
)

// maxStreak bounds a count of failures in a row.
const maxStreak = 1 << 20

// A streak packs gateway failures in a row (upper half) and connection
// failures in a row (lower half).
const (
	oneGateway = 1 << 32
	lowHalf    = 1<<32 - 1
)

// cause is why an endpoint is out.
type cause uint8

const (
	causeNone cause = iota
	causeConnect
	causeGateway
	causeWindow
	causeProbe
)

// reason is what records say.
func (c cause) reason() string {
	switch c {
	case causeConnect:
		return "ejected: connection failures in a row"
	case causeGateway:
		return "ejected: gateway failures in a row"
	case causeWindow:
		return "ejected: share of failures in a minute"
	case causeProbe:
		return "probe: failures in a row"
	case causeNone:
	}
	return ""
}

// Tracker takes what requests experience of one endpoint. The reporting methods
// never block and are safe for concurrent use; now is Unix nanoseconds, which
// the caller has at hand. Errors that the client caused are not reported at
// all.
//
// There may be 100,000 of them, most of which are neither probed nor sent a
// request: what only the others need lies elsewhere.
type Tracker struct {
	monitor  *Monitor
	instance atomic.Pointer[federation.Instance]
	window   atomic.Pointer[window] // nil until the first report; then it stays
	state    *state                 // of the monitor's loop; nil: not watched yet

	// out is the cause of an ejection, set by whoever reports the failure
	// that completes it, so that it counts before anybody is scheduled.
	out    atomic.Uint32
	streak atomic.Uint64
	urgent atomic.Bool // a probe is wanted at once
	queued atomic.Bool // is in the monitor's queue
	closed atomic.Bool
	listed atomic.Bool // is watched by the monitor's loop
}

// outcomes returns the window to count in, made by the first report.
func (t *Tracker) outcomes() *window {
	if w := t.window.Load(); w != nil {
		return w
	}
	t.window.CompareAndSwap(nil, new(window)) // else another's is the first
	return t.window.Load()
}

// Success reports a request that the endpoint answered, whatever a client did
// about it: answers below 500, and 500 and 501, which say that it works. It
// costs a load and an addition.
func (t *Tracker) Success(now int64) {
	if t.streak.Load() != 0 {
		t.streak.Store(0)
	}
	if t.outcomes().succeed(now) {
		t.opened()
	}
}

// ConnectFailure reports that no connection could be made. It also asks for a
// probe at once. It returns true to the one whose report made the row of them
// that ejects: nobody can reach the endpoint any more.
func (t *Tracker) ConnectFailure(now int64) (unreachable bool) {
	opened := t.outcomes().fail(now)
	streak := t.streak.Add(1) & lowHalf
	if t.out.Load() == uint32(causeNone) {
		if streak >= uint64(t.monitor.opts.Ejection.ConnectFailures) {
			unreachable = t.eject(causeConnect)
		} else {
			t.judgeWindow(now)
		}
	}
	if t.urgent.CompareAndSwap(false, true) || opened {
		t.monitor.enqueue(t)
	}
	return unreachable
}

// GatewayFailure reports an answer of 502, 503 or 504, or an exchange that the
// endpoint broke off. The connection stood, so a row of connection failures
// ends.
func (t *Tracker) GatewayFailure(now int64) {
	opened := t.outcomes().fail(now)
	for {
		old := t.streak.Load()
		next := old&^lowHalf + oneGateway
		if !t.streak.CompareAndSwap(old, next) {
			continue
		}
		if t.out.Load() == uint32(causeNone) {
			if next>>32 >= uint64(t.monitor.opts.Ejection.GatewayFailures) {
				t.eject(causeGateway)
			} else {
				t.judgeWindow(now)
			}
		}
		break
	}
	if opened {
		t.opened()
	}
}

// Ejected reports whether observed failures have taken the endpoint out. It is
// true from the very failure on that completes the case; the snapshot follows.
func (t *Tracker) Ejected() bool { return t.out.Load() != uint32(causeNone) }

// Close ends the watch over the endpoint.
func (t *Tracker) Close() {
	if t.closed.CompareAndSwap(false, true) {
		t.monitor.tracked.Add(-1)
		t.monitor.enqueue(t)
	}
}

func (t *Tracker) judgeWindow(now int64) {
	e := &t.monitor.opts.Ejection
	failures, total := t.outcomes().sums(now)
	if total >= uint64(e.MinRequests) && failures*100 >= total*uint64(e.WindowPercent) {
		t.eject(causeWindow)
	}
}

func (t *Tracker) eject(c cause) bool {
	if !t.out.CompareAndSwap(uint32(causeNone), uint32(c)) {
		return false
	}
	t.monitor.enqueue(t)
	return true
}

// opened is called when a bucket of the window begins: at most once in ten
// seconds. An endpoint of another zone gets into the monitor's care by it.
func (t *Tracker) opened() {
	if !t.listed.Load() {
		t.monitor.enqueue(t)
	}
}

// used reports whether requests went there in the last minute.
func (t *Tracker) used(now int64) bool {
	w := t.window.Load()
	if w == nil {
		return false
	}
	_, total := w.sums(now)
	return total > 0
}
