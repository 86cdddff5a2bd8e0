package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// Frames that carry nothing cost the receiver as much as others. A peer has a
// budget of them, which time, streams and bytes that it takes refill: whoever
// uses the connection for something never runs out of it.
const (
	budgetMost      = 500
	budgetEach      = 10 * time.Millisecond // one more
	budgetStream    = 4                     // for a stream
	budgetData      = 2                     // for each DATA frame sent: the peer may widen both windows
	budgetDataBytes = 512                   // for so many bytes sent, one more
	// budgetResets is how many streams a peer may reset before they are
	// answered, or open beyond the limit, unless it lets at least as many be answered. Envoy's
	// premature_reset_total_stream_count is 500.
	budgetResets = 200
)

type budget struct {
	tokens int
	at     int64 // the engine's time of the last refill
	opened int   // streams
	resets int   // of them, those that were reset before they were answered
}

func (b *budget) earn(n int) { b.tokens = min(b.tokens+n, budgetMost) }

// spend takes n frames that carry nothing off the budget. mu is held.
func (l *link) spend(n int) *fault {
	b := &l.budget
	if b.tokens -= n; b.tokens >= 0 {
		return nil
	}
	now := l.eng.now.Load()
	b.earn(int((now - b.at) / int64(budgetEach)))
	b.at = now
	if b.tokens < 0 {
		return &fault{http2.ErrCodeEnhanceYourCalm, ReasonControlFlood}
	}
	return nil
}

// wasted counts a stream that the peer has reset before it was answered, or
// opened beyond the limit. mu is held.
func (l *link) wasted() *fault {
	if l.opts.resets {
		return nil
	}
	b := &l.budget
	if b.resets++; b.resets > budgetResets && b.resets > b.opened/2 {
		return &fault{http2.ErrCodeEnhanceYourCalm, ReasonResetFlood}
	}
	return nil
}
