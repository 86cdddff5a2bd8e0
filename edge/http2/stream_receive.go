package http2

import (
	"io"
	"time"
)

// store takes what was received. mu is held.
func (st *stream) store(data []byte) {
	if len(data) == 0 {
		return
	}
	eng := st.l.eng
	for len(data) > 0 {
		n := len(st.pieces)
		if n == 0 || st.pieces[n-1].w == len(st.pieces[n-1].b) {
			class := bufferLarge
			if n == 0 && len(data) <= bufferSizes[bufferSmall] && st.left <= int64(bufferSizes[bufferSmall]-len(data)) {
				class = bufferSmall
			}
			st.pieces = append(st.pieces, eng.getBuffer(class))
			n++
		}
		b := st.pieces[n-1]
		copied := copy(b.b[b.w:], data)
		b.w += copied
		data = data[copied:]
	}
	wake(st.readable)
}

// waits reports whether a pull would have to wait.
func (st *stream) waits() bool {
	st.l.mu.Lock()
	defer st.l.mu.Unlock()
	return !st.ready()
}

// ready reports whether a pull returns at once. mu is held.
func (st *stream) ready() bool {
	return st.err != nil || st.stopped || st.peerEnded ||
		len(st.pieces) > 1 || (len(st.pieces) == 1 && st.pieces[0].r < st.pieces[0].w)
}

// pull returns the next piece of what was received, io.EOF at its end. idle
// and deadline bound the wait for it.
func (st *stream) pull(idle time.Duration, deadline int64) ([]byte, error) {
	l := st.l
	l.mu.Lock()
	st.freeFirst()
	st.pulled = true
	for !st.ready() && !st.late {
		if st.readUntil == 0 {
			st.readUntil = sooner(l.eng.until(idle), deadline)
		}
		l.mu.Unlock()
		<-st.readable
		l.mu.Lock()
	}
	late := st.late && !st.ready()
	st.readUntil, st.late = 0, false
	switch {
	case late:
		l.mu.Unlock()
		return nil, errTimeout
	case st.err != nil && !st.peerEnded:
		err := st.err
		l.mu.Unlock()
		return nil, err
	case st.stopped:
		l.mu.Unlock()
		return nil, errInterrupted
	case len(st.pieces) == 0 || st.pieces[0].r == st.pieces[0].w:
		l.mu.Unlock()
		return nil, io.EOF
	}
	b := st.pieces[0]
	piece := b.b[b.r:b.w]
	b.r = b.w
	st.giveBack(int64(len(piece)))
	l.flush()
	return piece, nil
}

// freeFirst lets go of the piece that was pulled last. mu is held.
func (st *stream) freeFirst() {
	if len(st.pieces) == 0 || st.pieces[0].r < st.pieces[0].w {
		return
	}
	b := st.pieces[0]
	if len(st.pieces) == 1 && b.w < len(b.b) {
		b.r, b.w = 0, 0
		return
	}
	st.l.eng.putBuffer(b)
	n := copy(st.pieces, st.pieces[1:])
	st.pieces[n] = nil
	st.pieces = st.pieces[:n]
}

// giveBack lets the peer send n bytes more on this stream and the connection.
// mu is held.
func (st *stream) giveBack(n int64) {
	l := st.l
	l.giveBack(n)
	if st.peerEnded || st.err != nil {
		return
	}
	st.credit += n
	if st.credit >= int64(l.opts.window)/2 {
		l.put(appendWindowUpdate(l.room(), st.id, st.credit))
		st.recvWindow += st.credit
		st.credit = 0
	}
}

// buffered returns everything that was received, if that is all and none of
// it was pulled.
func (st *stream) buffered() ([]byte, bool) {
	st.l.mu.Lock()
	defer st.l.mu.Unlock()
	if st.pulled || !st.peerEnded || st.err != nil || len(st.pieces) > 1 {
		return nil, false
	}
	if len(st.pieces) == 0 {
		return nil, true
	}
	return st.pieces[0].b[st.pieces[0].r:st.pieces[0].w], true
}

// stopReading makes pulls fail from now on.
func (st *stream) stopReading() {
	st.l.mu.Lock()
	defer st.l.mu.Unlock()
	st.stopped = true
	wake(st.readable)
}
