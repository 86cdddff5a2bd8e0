package http2

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// resetError: the peer has reset the stream.
type resetError struct{ code http2.ErrCode }

// Error says with what code.
func (e resetError) Error() string { return "stream was reset: " + e.code.String() }

// stream is one stream of a connection. It is used again for others: nobody
// but the exchange it carries has it once it is off the connection's list.
// Everything is guarded by the link's mu, except for what is said otherwise.
type stream struct {
	l  *link
	id uint32
	// readable and writable wake the one that reads and the one that writes.
	readable, writable chan struct{}

	x     *exchange.Exchange // a server's: what a reset cancels; nil while nobody works on it
	holds int                // the reader is cancelling x
	call  *call              // a transport's

	pieces     []*buffer // what was received and not pulled
	pulled     bool      // the first piece has begun to be pulled
	stopped    bool      // pulls fail
	recvWindow int64     // what the peer may send
	credit     int64     // to be given back
	left       int64     // of an announced length; -1: none was announced
	peerEnded  bool
	trailer    exchange.Fields
	readUntil  int64 // the engine's time at which a pull under way fails
	late       bool  // it has failed

	sendWindow int64
	ended      bool  // everything was sent
	blocked    bool  // it is in the link's list
	counted    bool  // it counts against the limit of streams
	writeUntil int64 // the engine's time at which a write under way fails

	err   error // why nothing more is received or sent
	reset closedHow
}

func (st *stream) init() {
	st.readable, st.writable = make(chan struct{}, 1), make(chan struct{}, 1)
}

// start makes the stream ready for its use on l. mu is held.
func (st *stream) start(l *link, id uint32) {
	if st.l != l { // a call's is read by those who cancel it, and set by then
		st.l = l
	}
	st.id = id
	drain(st.readable)
	drain(st.writable)
	st.pulled, st.stopped, st.credit, st.left, st.peerEnded = false, false, 0, -1, false
	st.recvWindow, st.sendWindow = int64(l.opts.window), l.peer.window
	st.readUntil, st.writeUntil, st.late = 0, 0, false
	st.ended, st.blocked, st.reset = false, false, closedLong
	st.counted = true
	if st.trailer.Len() > 0 {
		st.trailer.Reset()
	}
	l.streams[id] = st
	l.active++
	l.quietSince = 0
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// uncount lets the peer open another stream. mu is held.
func (st *stream) uncount() {
	if st.counted {
		st.counted = false
		st.l.active--
	}
}

// fail ends both directions; the first error stays. mu is held.
func (st *stream) fail(err error) {
	if st.err == nil {
		st.err = err
		wake(st.readable)
		wake(st.writable)
	}
}

// cancel ends the exchange that a server's stream carries. mu is held, but not
// while it cancels: nobody uses the exchange for another meanwhile.
func (st *stream) cancel(cause error) {
	x := st.x
	if x == nil {
		return
	}
	st.holds++
	st.l.mu.Unlock()
	x.Cancel(cause)
	st.l.mu.Lock()
	st.holds--
	wake(st.writable)
}

// dead reports whether what comes for the stream is not wanted any more. mu is
// held.
func (st *stream) dead() bool { return st.err != nil }

// abort resets the stream, unless it is over. mu is held.
func (st *stream) abort(code http2.ErrCode, err error) {
	st.fail(err)
	if st.reset != closedLong || (st.ended && st.peerEnded) || st.l.err != nil {
		return
	}
	st.reset = closedByUs
	st.l.put(appendReset(st.l.room(), st.id, code))
}

// remove takes the stream off the connection's list and frees what it holds.
// mu is held.
func (st *stream) remove() {
	l := st.l
	st.uncount()
	delete(l.streams, st.id)
	if len(l.streams) == 0 {
		l.quietSince = l.eng.now.Load()
	}
	how := st.reset
	if how == closedLong {
		how = closedBoth
	}
	l.closed.add(st.id, how)
	if st.blocked {
		for i, other := range l.blocked {
			if other == st {
				l.blocked = append(l.blocked[:i], l.blocked[i+1:]...)
				break
			}
		}
		st.blocked = false
	}
	for i, b := range st.pieces {
		l.giveBack(int64(b.w - b.r))
		l.eng.putBuffer(b)
		st.pieces[i] = nil
	}
	st.pieces = st.pieces[:0]
}

// sweep ends waits that have lasted too long. mu is held.
func (st *stream) sweep(now int64) {
	if over(st.readUntil, now) {
		st.readUntil, st.late = 0, true
		wake(st.readable)
	}
	if over(st.writeUntil, now) {
		st.writeUntil = 0
		st.l.opts.counts[ReasonWindowTimeout].Add(1)
		st.fail(fmt.Errorf("window: %w", errTimeout))
	}
}

// progress is how much of a body must be sent within the time for writes: a
// peer that opens its window by single bytes does not hold a stream for ever.
const progress = 4 << 10

// send queues DATA as the windows allow it, waits for them if need be, and
// sees that it is written if write says so. idle bounds the wait for the next
// bytes' turn.
func (st *stream) send(p []byte, end, write bool, idle time.Duration) error {
	l := st.l
	l.mu.Lock()
	for sent := 0; len(p) > 0 || end; {
		if err := st.sendable(); err != nil {
			l.mu.Unlock()
			return err
		}
		n := int(min(int64(len(p)), maxFrame, st.sendWindow, l.sendWindow))
		if len(p) > 0 && (n <= 0 || len(l.out) >= outLimit) {
			st.wait(idle, sent)
			sent %= progress
			continue
		}
		st.queue(p[:n], end && n == len(p))
		p, sent = p[n:], sent+n
		end = end && !st.ended
	}
	st.writeUntil = 0
	if !write {
		l.mu.Unlock()
		return nil
	}
	l.flush()
	return nil
}

// sendable returns why nothing can be sent. mu is held.
func (st *stream) sendable() error {
	switch {
	case st.err != nil:
		return st.err
	case st.ended:
		return errEnded
	}
	return nil
}

// wait waits for a window or for room in the queue, which is written first if
// nobody else does; sent is how much was sent since the time began to run. mu
// is held, but not while it waits.
func (st *stream) wait(idle time.Duration, sent int) {
	l := st.l
	if len(l.out) > 0 && !l.flushing {
		l.flush()
		l.mu.Lock()
		return
	}
	if st.writeUntil == 0 || sent >= progress {
		st.writeUntil = l.eng.until(idle)
	}
	if (st.sendWindow > 0 || len(l.out) >= outLimit) && !st.blocked {
		st.blocked = true
		l.blocked = append(l.blocked, st)
	}
	l.mu.Unlock()
	<-st.writable
	l.mu.Lock()
}

// queue queues one DATA frame. mu is held.
func (st *stream) queue(p []byte, end bool) {
	l := st.l
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	out := appendFrameHeader(l.room(), len(p), http2.FrameData, flags, st.id)
	l.put(append(out, p...))
	st.sendWindow -= int64(len(p))
	l.sendWindow -= int64(len(p))
	l.budget.earn(budgetData + len(p)/budgetDataBytes)
	if end {
		st.endSent()
	}
}

// queueHeader queues a header section. mu is held.
func (st *stream) queueHeader(encoded []byte, end bool) {
	l := st.l
	l.put(l.appendHeader(encoded, st.id, end))
	if end {
		st.endSent()
	}
}

// endSent notes that everything was sent. mu is held.
func (st *stream) endSent() {
	st.ended = true
	if st.peerEnded {
		st.uncount()
	}
}
