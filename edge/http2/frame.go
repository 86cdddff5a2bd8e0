package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9
	// maxFrame is the largest payload that is accepted and sent: the value
	// that every peer may use (RFC 9113, section 4.2). Larger frames save
	// nothing here and would make each connection's buffer larger.
	maxFrame = 16 << 10
	// defaultWindow is the flow control window before any SETTINGS.
	defaultWindow = 65535
	maxWindow     = 1<<31 - 1
	// tableSize is that of HPACK's dynamic table before any SETTINGS.
	tableSize   = 4096
	maxStreamID = 1<<31 - 1
)

const preface = http2.ClientPreface

// frameHeader is what every frame begins with: RFC 9113, section 4.1.
type frameHeader struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
}

func parseFrameHeader(b []byte) frameHeader {
	_ = b[frameHeaderLen-1]
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func appendFrameHeader(out []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// appendHeaderBlock writes an encoded header block as HEADERS and, if it is
// larger than a frame may be, CONTINUATION.
func appendHeaderBlock(out, block []byte, stream uint32, end bool, largest int) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		fragment := block[:min(len(block), largest)]
		block = block[len(fragment):]
		if len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}
		out = appendFrameHeader(out, len(fragment), kind, flags, stream)
		out = append(out, fragment...)
		if len(block) == 0 {
			return out
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

func appendReset(out []byte, stream uint32, code http2.ErrCode) []byte {
	out = appendFrameHeader(out, 4, http2.FrameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(out, uint32(code))
}

func appendWindowUpdate(out []byte, stream uint32, n int64) []byte {
	out = appendFrameHeader(out, 4, http2.FrameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(out, uint32(n))
}

func appendPing(out []byte, flags http2.Flags, data [8]byte) []byte {
	out = appendFrameHeader(out, len(data), http2.FramePing, flags, 0)
	return append(out, data[:]...)
}

func appendGoAway(out []byte, last uint32, code http2.ErrCode) []byte {
	out = appendFrameHeader(out, 8, http2.FrameGoAway, 0, 0)
	out = binary.BigEndian.AppendUint32(out, last)
	return binary.BigEndian.AppendUint32(out, uint32(code))
}

func appendSettings(out []byte, settings ...http2.Setting) []byte {
	out = appendFrameHeader(out, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		out = binary.BigEndian.AppendUint16(out, uint16(s.ID))
		out = binary.BigEndian.AppendUint32(out, s.Val)
	}
	return out
}

// fault is what ends a connection: the code of the GOAWAY and the reason that
// is counted.
type fault struct {
	code   http2.ErrCode
	reason Reason
}

// Error says what was wrong.
func (f *fault) Error() string { return f.reason.Error() + " (" + f.code.String() + ")" }
