package http1

import "io"

// chunkState is what a chunked body goes on with.
type chunkState uint8

const (
	chunkSize    chunkState = iota // a chunk's size line
	chunkData                      // left bytes of data
	chunkDataEnd                   // the line end behind the data
	chunkTrailer                   // fields and an empty line
)

// nextChunked returns the next piece of a chunked body.
func (in *inbound) nextChunked() ([]byte, error) {
	for {
		piece, more, reason := in.decode()
		switch {
		case reason != ReasonNone:
			return nil, reason
		case len(piece) > 0:
			return piece, nil
		case in.done:
			return nil, io.EOF
		case more:
			if err := in.fill(); err != nil {
				return nil, unexpected(err)
			}
		}
	}
}

// decodeAhead decodes what has arrived already, moving the data of its chunks
// together, so that a small chunked body is known to be well formed, and can
// be sent twice, before anything is done about the message.
func (in *inbound) decodeAhead() Reason {
	to := in.r
	for !in.done {
		piece, more, reason := in.decode()
		if reason != ReasonNone {
			return reason
		}
		if more {
			break
		}
		copy(in.buf[to:], piece)
		to += len(piece)
	}
	in.ready = in.buf[in.floor:to]
	return ReasonNone
}

// decode takes one step through buf[r:w]: it returns data, or that more bytes
// are needed, or neither when a line was taken.
func (in *inbound) decode() (piece []byte, more bool, reason Reason) {
	b := in.buf[in.r:in.w]
	switch in.state {
	case chunkSize:
		return in.decodeSize(b)
	case chunkData:
		if len(b) == 0 {
			return nil, true, ReasonNone
		}
		if int64(len(b)) > in.left {
			b = b[:in.left]
		}
		in.r += len(b)
		if in.left -= int64(len(b)); in.left == 0 {
			in.state = chunkDataEnd
		}
		return b, false, ReasonNone
	case chunkDataEnd:
		if len(b) > 0 && b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
			return nil, false, ReasonChunk
		}
		if len(b) < 2 {
			return nil, true, ReasonNone
		}
		in.r += 2
		in.state = chunkSize
		return nil, false, ReasonNone
	default:
		return in.decodeTrailer(b)
	}
}

// decodeSize reads "size [extensions] CRLF". Extensions are checked for
// control characters and dropped: RFC 9112, section 7.1.1.
func (in *inbound) decodeSize(b []byte) (piece []byte, more bool, reason Reason) {
	var size int64
	i := 0
	for ; i < len(b); i++ {
		digit := hexValue(b[i])
		if digit < 0 {
			break
		}
		if size > (1<<63-1)>>4 || i == 16 {
			return nil, false, ReasonChunk
		}
		size = size<<4 | digit
	}
	if i == len(b) {
		return nil, true, ReasonNone
	}
	if i == 0 || (b[i] != '\r' && b[i] != ';') {
		return nil, false, ReasonChunk
	}
	i = skipText(b, i)
	if i > maxChunkLine || (i < len(b) && b[i] != '\r') || (i+1 < len(b) && b[i+1] != '\n') {
		return nil, false, ReasonChunk
	}
	if i+1 >= len(b) {
		return nil, true, ReasonNone
	}
	in.r += i + 2
	in.left = size
	in.state = chunkData
	if size == 0 {
		in.state = chunkTrailer
	}
	return nil, false, ReasonNone
}

func (in *inbound) decodeTrailer(b []byte) (piece []byte, more bool, reason Reason) {
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' { // the usual case: none
		in.r += 2
		in.done = true
		return nil, false, ReasonNone
	}
	in.trailer.Reset()
	in.trailers.reset()
	n, reason := parseFields(b, 0, &in.trailer, &in.trailers, maxTrailerFields)
	if reason == ReasonTooManyFields || n > maxTrailer || (n == needMore && len(b) > maxTrailer) {
		return nil, false, ReasonTrailer
	}
	if reason != ReasonNone {
		return nil, false, reason
	}
	if n == needMore {
		return nil, true, ReasonNone
	}
	in.r += n
	in.done = true
	in.trailer.KeepTrailers() // framing fields were not among them in the first place
	return nil, false, ReasonNone
}
