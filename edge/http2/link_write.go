package http2

import (
	"fmt"
	"runtime"

	"golang.org/x/net/http2"
)

const (
	// outLimit is how much may be queued before bodies have to wait, so that
	// a frame more still fits the buffer.
	outLimit = 64<<10 - maxFrame - 2*frameHeaderLen - 1<<10
	// controlLimit bounds the answers to control frames that are queued: the
	// peer does not read them. Envoy's max_outbound_control_frames.
	controlLimit = 1000
)

// room is the queue, to be appended to and given back to put. mu is held.
func (l *link) room() []byte {
	if l.out == nil {
		l.outHome = l.eng.getBuffer(bufferIO)
		l.out = l.outHome.b[:0]
	}
	return l.out
}

// put takes the queue after something was appended to it. mu is held.
func (l *link) put(out []byte) {
	l.queued += int64(len(out) - len(l.out))
	l.out = out
}

// appendHeader is the queue with a header section behind it. Where the peer
// has made its table smaller, the section begins with the word that ours is
// empty: RFC 7541, section 4.2. mu is held.
func (l *link) appendHeader(encoded []byte, id uint32, end bool) []byte {
	if l.peer.shrunk {
		l.peer.shrunk = false
		encoded = append([]byte{0x20}, encoded...)
	}
	return appendHeaderBlock(l.room(), encoded, id, end, maxFrame)
}

// answer queues a frame that the peer has caused; flood says that it does not
// read them. mu is held.
func (l *link) answer(out []byte) *fault {
	l.put(out)
	if l.control++; l.control > controlLimit {
		return &fault{http2.ErrCodeEnhanceYourCalm, ReasonQueue}
	}
	return nil
}

// flush writes what is queued, unless somebody else is about to. mu is held,
// and is not when it returns.
//
// Before it writes it lets others run, who may have something to write too.
func (l *link) flush() {
	if l.flushing || len(l.out) == 0 || l.broken {
		l.mu.Unlock()
		return
	}
	l.flushing = true
	l.mu.Unlock()
	runtime.Gosched()
	l.mu.Lock()
	l.write()
	if len(l.out) > 0 && !l.broken {
		// Whoever flushes has other things to do than to write for others.
		l.mu.Unlock()
		l.eng.workers.do(&l.flusher)
		return
	}
	l.stopFlushing()
}

// flushElsewhere is flush for those who may not block.
func (l *link) flushElsewhere() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.flushing && len(l.out) > 0 && !l.broken {
		l.flushing = true
		l.eng.workers.do(&l.flusher)
	}
}

// flusher writes until nothing is queued.
type flusher struct{ l *link }

var _ job = (*flusher)(nil)

func (f *flusher) run() {
	l := f.l
	l.mu.Lock()
	for len(l.out) > 0 && !l.broken {
		l.write()
	}
	l.stopFlushing()
}

// stopFlushing ends the flusher's part. mu is held, and is not when it returns.
func (l *link) stopFlushing() {
	l.flushing = false
	if l.broken {
		l.dropOut()
	}
	l.flushed.Broadcast()
	broken := l.broken
	l.mu.Unlock()
	if broken {
		l.sever()
	}
}

func (l *link) dropOut() {
	l.freeOut(l.out, l.outHome)
	l.out, l.outHome = nil, nil
}

// freeOut gives a queue's buffer back; one that had to grow is left to the
// garbage collector.
func (l *link) freeOut(out []byte, home *buffer) {
	if home != nil && cap(out) == len(home.b) {
		l.eng.putBuffer(home)
	}
}

// write writes what is queued now. mu is held, but not while it writes.
func (l *link) write() {
	out, home := l.out, l.outHome
	l.out, l.outHome, l.control = nil, nil, 0
	l.taken += int64(len(out))
	timeout := l.opts.writeTimeout
	if l.err != nil {
		timeout = lingerAtMost
	}
	l.mu.Unlock()
	l.writeUntil.Store(l.eng.until(timeout))
	_, err := l.nc.Write(out)
	l.writeUntil.Store(0)
	l.freeOut(out, home)
	l.mu.Lock()
	if err != nil {
		l.broken = true
		l.fail(fmt.Errorf("write: %w", err))
	}
	l.wakeBlocked()
}

// wakeBlocked wakes those that wait for the connection's window or for room.
// mu is held.
func (l *link) wakeBlocked() {
	for i, st := range l.blocked {
		st.blocked = false
		wake(st.writable)
		l.blocked[i] = nil
	}
	l.blocked = l.blocked[:0]
}

// giveBack lets the peer send n bytes more, sooner or later. mu is held.
func (l *link) giveBack(n int64) {
	l.credit += n
	if l.credit >= int64(l.opts.connWindow)/2 && l.err == nil {
		l.put(appendWindowUpdate(l.room(), 0, l.credit))
		l.recvWindow += l.credit
		l.credit = 0
	}
}
