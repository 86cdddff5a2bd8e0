package http1

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
)

// maxNamed is how many field names a message's Connection fields may list.
const maxNamed = 16

// head is what the fields of a message say about its framing and its
// connection: everything that is not passed on.
type head struct {
	hosts, lengths, codings int
	host                    string
	length                  int64
	badLength, badCoding    bool

	closes, keepAlive, upgrades bool   // options of Connection
	upgrade                     string // the only protocol of Upgrade, if there is one
	upgradeFields               int
	expects, badExpect          bool
	teTrailers                  bool

	named   []string // fields that Connection names
	badConn bool
}

// reset empties h and keeps its memory.
func (h *head) reset() { *h = head{named: h.named[:0]} }

// needMore is returned by the parsers for a message that goes on beyond the
// bytes at hand.
const needMore = 0

// parseFields reads field lines from b[i:] up to and including the empty line.
// It returns the index behind it, or needMore. Fields that frame the message
// or belong to the connection go to h, the rest to f, as views into b.
func parseFields(b []byte, i int, f *exchange.Fields, h *head, maxFields int) (int, Reason) {
	count := 0
	for {
		if i >= len(b) {
			return needMore, ReasonNone
		}
		start := i
		for i < len(b) && is(b[i], classToken) {
			i++
		}
		if i == len(b) {
			return needMore, ReasonNone
		}
		if b[i] != ':' || i == start {
			return endOfFields(b, i, start)
		}
		name := view(b[start:i])
		for i++; i < len(b) && (b[i] == ' ' || b[i] == '\t'); i++ {
		}
		from := i
		i = skipText(b, i)
		if i+1 >= len(b) {
			return needMore, lineSoFar(b, i)
		}
		if b[i] != '\r' || b[i+1] != '\n' {
			return needMore, badLineEnd(b[i])
		}
		to := i
		for to > from && (b[to-1] == ' ' || b[to-1] == '\t') {
			to--
		}
		i += 2
		if count++; count > maxFields {
			return needMore, ReasonTooManyFields
		}
		field := exchange.Field{Name: name, Value: view(b[from:to]), ID: exchange.LookupField(name)}
		if isFraming(field.ID) {
			h.take(field)
		} else {
			f.Append(field)
		}
	}
}

// endOfFields judges what is not a name and a colon: the empty line that ends
// the fields, or an error.
func endOfFields(b []byte, i, start int) (int, Reason) {
	if i > start {
		return needMore, ReasonFieldName
	}
	switch b[i] {
	case '\r':
		if i+1 == len(b) {
			return needMore, ReasonNone
		}
		if b[i+1] != '\n' {
			return needMore, ReasonBareCR
		}
		return i + 2, ReasonNone
	case '\n':
		return needMore, ReasonBareLF
	case ' ', '\t':
		return needMore, ReasonFolded
	default:
		return needMore, ReasonFieldName
	}
}

func badLineEnd(c byte) Reason {
	switch c {
	case '\r':
		return ReasonBareCR
	case '\n':
		return ReasonBareLF
	default:
		return ReasonFieldValue
	}
}

// lineSoFar judges the last byte at hand, if there is one.
func lineSoFar(b []byte, i int) Reason {
	if i < len(b) && b[i] != '\r' {
		return badLineEnd(b[i])
	}
	return ReasonNone
}

// skipText returns the index of the first byte from i on that may not stand
// in a field value: a control character other than a tab. It looks at eight
// bytes at a time.
func skipText(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		// The high bit of each byte below 0x20, and of each that is 0x7f.
		// A borrow can only mark bytes above the first true one.
		del := word ^ 0x7f*ones
		marks := ((word-0x20*ones) & ^word | (del-ones) & ^del) & highs
		if marks == 0 {
			continue
		}
		at := i + bits.TrailingZeros64(marks)/8
		if b[at] != '\t' {
			return at
		}
		i = at + 1 - 8
	}
	for ; i < len(b); i++ {
		if c := b[i]; (c < ' ' && c != '\t') || c == 0x7f {
			return i
		}
	}
	return i
}

// isFraming reports whether a field ends at this hop. Their ids are
// neighbours, except for Expect.
func isFraming(id exchange.FieldID) bool {
	return id-exchange.FieldHost <= exchange.FieldContentLength-exchange.FieldHost || id == exchange.FieldExpect
}

// take notes a field that ends here. Faults are noted too and judged once all
// fields are known, because what a fault is depends on the kind of message.
func (h *head) take(field exchange.Field) {
	value := field.Value
	switch field.ID {
	case exchange.FieldHost:
		h.hosts++
		h.host = value
	case exchange.FieldContentLength:
		h.lengths++
		n, ok := parseLength(value)
		h.length = n
		h.badLength = h.badLength || !ok
	case exchange.FieldTransferEncoding:
		h.codings++
		h.badCoding = h.badCoding || !exchange.EqualFold(value, "chunked")
	case exchange.FieldConnection:
		h.takeConnection(value)
	case exchange.FieldUpgrade:
		h.upgradeFields++
		h.upgrade = value
	case exchange.FieldExpect:
		if exchange.EqualFold(value, "100-continue") {
			h.expects = true
		} else {
			h.badExpect = true
		}
	case exchange.FieldTE:
		for rest := value; rest != ""; {
			var coding string
			coding, rest, _ = strings.Cut(rest, ",")
			h.teTrailers = h.teTrailers || exchange.EqualFold(trim(coding), "trailers")
		}
	default: // Keep-Alive, Trailer and Proxy-* end here
	}
}

func (h *head) takeConnection(value string) {
	for rest := value; rest != ""; {
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		option = trim(option)
		switch {
		case option == "":
		case exchange.EqualFold(option, "keep-alive"):
			h.keepAlive = true
		case exchange.EqualFold(option, "close"):
			h.closes = true
		case exchange.EqualFold(option, "upgrade"):
			h.upgrades = true
		case !isToken(option) || len(h.named) == maxNamed:
			h.badConn = true
		default:
			h.named = append(h.named, option)
		}
	}
}

// dropNamed removes the fields that the sender's Connection names. Framing
// fields are not among f and cannot be removed so.
func (h *head) dropNamed(f *exchange.Fields) {
	for _, name := range h.named {
		f.DelName(name)
	}
}

// framing checks what Content-Length and Transfer-Encoding say together; the
// strictest reading of RFC 9112, section 6.3.
func (h *head) framing(proto exchange.Proto) Reason {
	switch {
	case h.codings > 0 && h.lengths > 0:
		return ReasonLengthAndEncoding
	case h.codings > 1 || h.badCoding || (h.codings > 0 && proto != exchange.HTTP11):
		return ReasonTransferEncoding
	case h.lengths > 1 || h.badLength:
		return ReasonContentLength
	case h.badConn:
		return ReasonConnection
	}
	return ReasonNone
}

// persistent reports whether the sender lets the connection be used again.
func (h *head) persistent(proto exchange.Proto) bool {
	if h.closes {
		return false
	}
	return proto == exchange.HTTP11 || h.keepAlive
}

// switchTo is the protocol that a message asks for or agrees to; empty for
// none. Only a single protocol name counts, and neither HTTP/2, whose frames
// would pass unseen, nor TLS, whose ends would not be the intended ones.
func (h *head) switchTo() string {
	if !h.upgrades || h.upgradeFields != 1 {
		return ""
	}
	name, _, _ := strings.Cut(h.upgrade, "/")
	if !isToken(name) || exchange.EqualFold(name, "h2c") || exchange.EqualFold(name, "HTTP") || exchange.EqualFold(name, "TLS") {
		return ""
	}
	return h.upgrade
}
