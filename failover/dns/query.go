package dns

import (
	"encoding/binary"

	wire "github.com/miekg/dns"
)

const (
	headerSize = 12
	maxName    = 255 // bytes on the wire (RFC 1035, 2.3.4)
	optSize    = 11  // bytes of the OPT record that goes out

	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	maskOpcode = 0xf << 11

	ednsDO = 1 << 15
)

// query is what a stranger asks, as far as it concerns the answer. It is
// parsed in place and by hand: unpacking into records alone costs three times as
// much as the whole answer.
type query struct {
	id, flags uint16
	question  []byte // name, type and class as they came; nil when unreadable
	name      [maxName]byte
	length    int // of name
	qtype     uint16
	class     uint16

	edns    bool
	do      bool
	version uint8
	size    int // bytes that the client takes by UDP
}

// key is the name on the wire in lower case.
func (q *query) key() []byte { return q.name[:q.length] }

// parse reads a message. It says codeNone when there is a question to answer,
// else the code to answer with; a drop when nothing may be answered at all:
// answers to answers would never end.
func (q *query) parse(msg []byte) (code, drop) {
	if len(msg) < headerSize {
		return codeNone, dropShort
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagQR != 0 {
		return codeNone, dropResponse
	}
	if q.flags&maskOpcode != wire.OpcodeQuery {
		return codeNotImplemented, dropNone
	}
	// One question, no more and no less: RFC 9619.
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return codeFormatError, dropNone
	}
	end := q.readName(msg)
	if end == 0 || len(msg) < end+4 {
		return codeFormatError, dropNone
	}
	q.qtype = binary.BigEndian.Uint16(msg[end:])
	q.class = binary.BigEndian.Uint16(msg[end+2:])
	if !q.readRecords(msg, end+4) {
		q.edns = false
		return codeFormatError, dropNone
	}
	q.question = msg[headerSize : end+4]
	return codeNone, dropNone
}

// readName takes the question's name and returns where it ends; 0: it is not
// one. A pointer cannot be in it: there is no name before it to point to.
func (q *query) readName(msg []byte) int {
	at := headerSize
	for {
		if at >= len(msg) {
			return 0
		}
		size := int(msg[at])
		end := at + 1 + size
		if size > 63 || end > len(msg) || end-headerSize > maxName {
			return 0
		}
		at = end
		if size == 0 {
			break
		}
	}
	q.length = at - headerSize
	// Lengths are below 'A' and pass unchanged.
	for i, c := range msg[headerSize:at] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		q.name[i] = c
	}
	return at
}

// readRecords walks what follows the question, takes the OPT record out of it
// and reports whether all of it is readable.
func (q *query) readRecords(msg []byte, at int) bool {
	before := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	for i := range before + int(binary.BigEndian.Uint16(msg[10:])) {
		owner := at
		if at = skipName(msg, at); at == 0 || len(msg) < at+10 {
			return false
		}
		head := msg[at : at+10]
		at += 10
		size := int(binary.BigEndian.Uint16(head[8:]))
		if len(msg) < at+size {
			return false
		}
		data := msg[at : at+size]
		at += size
		if i < before || binary.BigEndian.Uint16(head) != wire.TypeOPT {
			continue
		}
		// One of them, at the root, of well-formed options: RFC 6891, 6.1.
		if q.edns || msg[owner] != 0 || !validOptions(data) {
			return false
		}
		q.edns = true
		q.size = int(binary.BigEndian.Uint16(head[2:]))
		q.version = head[5]
		q.do = binary.BigEndian.Uint16(head[6:])&ednsDO != 0
	}
	return true
}

// skipName returns where a name ends that may end in a pointer; 0: it is not
// one. Nobody wants to know where it points.
func skipName(msg []byte, at int) int {
	for at < len(msg) {
		switch size := int(msg[at]); {
		case size == 0:
			return at + 1
		case size >= 0xc0:
			return at + 2
		case size > 63:
			return 0
		default:
			at += 1 + size
		}
	}
	return 0
}

func validOptions(data []byte) bool {
	for len(data) > 0 {
		if len(data) < 4 {
			return false
		}
		size := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if len(data) < size {
			return false
		}
		data = data[size:]
	}
	return true
}
