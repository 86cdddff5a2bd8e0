package http1

import (
	"errors"
	"io"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// bodyKind is how a message's body is delimited.
type bodyKind uint8

const (
	bodyNone       bodyKind = iota
	bodyLength              // Content-Length
	bodyChunked             // Transfer-Encoding: chunked
	bodyUntilClose          // a response that the end of the connection ends
)

const (
	// maxChunkLine bounds a chunk's size and extensions.
	maxChunkLine = 256
	// maxTrailer bounds a trailer section in bytes, maxTrailerFields in fields.
	maxTrailer       = headRoom
	maxTrailerFields = 64
)

// inbound reads the body of one message from a socket, through the buffer
// that holds the message's head: what is before floor are views in use.
type inbound struct {
	s    *sock
	buf  []byte
	r, w int // bytes received and not yet used: buf[r:w]
	// ready is what was decoded ahead of its pull; it lies in buf before r.
	ready []byte

	floor int
	kind  bodyKind
	state chunkState
	done  bool  // the body has ended; buf[r:w] is the next message
	taken bool  // a piece was given out
	left  int64 // of the body, or of the chunk
	// idle and deadline bound each wait for bytes.
	idle     time.Duration
	deadline int64
	trailer  exchange.Fields
	trailers head // framing fields in the trailer section, which are ignored
}

// start makes the reader ready for a body that follows a head in buf[:r].
func (in *inbound) start(kind bodyKind, length int64) {
	in.floor, in.kind, in.left = in.r, kind, length
	in.state, in.taken, in.ready = chunkSize, false, nil
	in.done = kind == bodyNone || (kind == bodyLength && length == 0)
	if in.trailer.Len() > 0 {
		in.trailer.Reset()
	}
}

// next returns the next piece of the body, good until the next call, or
// io.EOF at its end. Other errors are those of [sock.read], a [Reason], and
// io.ErrUnexpectedEOF.
func (in *inbound) next() ([]byte, error) {
	in.taken = true
	if len(in.ready) > 0 {
		piece := in.ready
		in.ready = nil
		return piece, nil
	}
	if in.done {
		return nil, io.EOF
	}
	if in.kind == bodyChunked {
		return in.nextChunked()
	}
	if in.r == in.w {
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) && in.kind == bodyUntilClose {
				in.done = true
				return nil, io.EOF
			}
			return nil, unexpected(err)
		}
	}
	piece := in.buf[in.r:in.w]
	if in.kind == bodyLength {
		if int64(len(piece)) > in.left {
			piece = piece[:in.left]
		}
		in.left -= int64(len(piece))
		in.done = in.left == 0
	}
	in.r += len(piece)
	return piece, nil
}

// waits reports whether next has nothing at hand to return. A chunked body
// has been decoded ahead: what is left over is no piece yet.
func (in *inbound) waits() bool {
	return len(in.ready) == 0 && !in.done && (in.r == in.w || in.kind == bodyChunked)
}

// unexpected marks the end of the connection within a body.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fill reads more bytes behind buf[r:w]. It moves them to the floor when
// there is no room behind them.
func (in *inbound) fill() error {
	if in.r == in.w {
		in.r, in.w = in.floor, in.floor
	} else if in.w == len(in.buf) {
		in.w = in.floor + copy(in.buf[in.floor:], in.buf[in.r:in.w])
		in.r = in.floor
	}
	if in.w == len(in.buf) {
		// Room is kept for the largest chunk line and trailer section, so that
		// the verdict is the same wherever the sender's pieces end.
		return ReasonTrailer
	}
	n, err := in.s.read(in.buf[in.w:], sooner(in.s.eng.until(in.idle), in.deadline))
	in.w += n
	return err
}

// buffered returns the whole body if it has been received and nothing of it
// was pulled.
func (in *inbound) buffered() ([]byte, bool) {
	switch {
	case in.taken:
		return nil, false
	case in.kind == bodyNone:
		return nil, true
	case in.kind == bodyLength:
		if int64(in.w-in.r) < in.left {
			return nil, false
		}
		return in.buf[in.r : in.r+int(in.left)], true
	default:
		return in.ready, in.done
	}
}

// drop takes a buffered body as read.
func (in *inbound) drop() {
	if in.kind == bodyLength && !in.done {
		in.r += int(in.left)
		in.left = 0
	}
	in.taken, in.done, in.ready = true, true, nil
}
