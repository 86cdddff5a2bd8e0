package http1

import (
	"github.com/grayfed/grayfed/edge/exchange"
)

// session is what a connection needs while it works on a request.
type session struct {
	x    exchange.Exchange
	in   inbound
	base []byte // in.buf, unless a large head needed more
	// out is what is about to be written, in outBuffer, which the session has
	// only while it writes: a buffer that was just used is still in the cache.
	out       []byte
	outBuffer *buffer
	head      head
	body      requestBody
}

func newSession() *session {
	s := &session{base: make([]byte, bufferSize)}
	s.in.buf = s.base
	return s
}

func (s *session) takeOut(eng *Engine) []byte {
	if s.outBuffer == nil {
		s.outBuffer = eng.getBuffer()
	}
	return s.outBuffer.b[:0]
}

func (s *session) dropOut(eng *Engine) {
	if s.outBuffer != nil {
		eng.putBuffer(s.outBuffer)
		s.outBuffer, s.out = nil, nil
	}
}

// settle makes the session ready for the next request, whose beginning may be
// there already.
func (s *session) settle(poison bool) {
	in := &s.in
	if poison {
		for i := range in.buf[:in.r] {
			in.buf[i] = 0xdb
		}
	}
	if len(in.buf) != len(s.base) && in.w-in.r <= len(s.base) {
		in.w = copy(s.base, in.buf[in.r:in.w])
		in.r = 0
		in.buf = s.base
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
}
