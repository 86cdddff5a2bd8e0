package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Every message is
//
//	schema (1 byte) | kind (1 byte) | hash of the federation's name (4 bytes) | fields
//
// and a field is a tag, a length (both unsigned varints) and that many bytes,
// which hold text, an unsigned varint, or fields again. A reader skips tags it
// does not know; what is passed on is passed on as the bytes that came, so
// unknown fields survive an edge of an older version. Only a change that older
// readers must not read at all takes a new schema.

const (
	schema       = 1
	headerLength = 6
)

var (
	errMalformed = errors.New("malformed")
	errSchema    = errors.New("unsupported schema")
	errForeign   = errors.New("message of another federation")
)

type kind byte

const (
	kindMeta kind = iota + 1
	kindBeat
	kindDelta
	kindSet
	kindState
	kindSyncRequest
	kindLoad
	kindHeartbeat
	kindRelay
)

// nameHash is FNV-1a, 32 bits: it only tells federations apart that share a
// network by mistake; the key is what keeps strangers out.
func nameHash(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// newMessage is a message that has only its header yet.
func newMessage(k kind, federation uint32) []byte {
	b := []byte{schema, byte(k)}
	return binary.BigEndian.AppendUint32(b, federation)
}

func readHeader(data []byte, federation uint32) (kind, []byte, error) {
	if len(data) < headerLength {
		return 0, nil, fmt.Errorf("%w: %d bytes", errMalformed, len(data))
	}
	if data[0] != schema {
		return 0, nil, fmt.Errorf("%w %d", errSchema, data[0])
	}
	if binary.BigEndian.Uint32(data[2:]) != federation {
		return 0, nil, errForeign
	}
	return kind(data[1]), data[headerLength:], nil
}

func appendText(b []byte, tag uint64, text string) []byte {
	if text == "" {
		return b
	}
	b = binary.AppendUvarint(b, tag)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendNumber(b []byte, tag, v uint64) []byte {
	if v == 0 {
		return b
	}
	var buf [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(buf[:], v)
	return appendBytes(b, tag, buf[:n])
}

func appendBytes(b []byte, tag uint64, value []byte) []byte {
	b = binary.AppendUvarint(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// field is one decoded field; value aliases the message.
type field struct {
	tag   uint64
	value []byte
}

// eachField calls visit for every field of body, in order.
func eachField(body []byte, visit func(field) error) error {
	for len(body) > 0 {
		tag, n := binary.Uvarint(body)
		if n <= 0 {
			return fmt.Errorf("%w: tag", errMalformed)
		}
		body = body[n:]
		length, n := binary.Uvarint(body)
		if n <= 0 || length > uint64(len(body)-n) {
			return fmt.Errorf("%w: length of field %d", errMalformed, tag)
		}
		end := n + int(length)
		if err := visit(field{tag: tag, value: body[n:end]}); err != nil {
			return err
		}
		body = body[end:]
	}
	return nil
}

func (f field) number() (uint64, error) {
	v, n := binary.Uvarint(f.value)
	if n <= 0 || n != len(f.value) {
		return 0, fmt.Errorf("%w: number in field %d", errMalformed, f.tag)
	}
	return v, nil
}

// text returns printable ASCII of at most limit bytes.
func (f field) text(limit int) (string, error) {
	if len(f.value) > limit {
		return "", fmt.Errorf("%w: field %d has %d bytes, allowed %d", errMalformed, f.tag, len(f.value), limit)
	}
	for _, c := range f.value {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("%w: field %d is not printable", errMalformed, f.tag)
		}
	}
	return string(f.value), nil
}
