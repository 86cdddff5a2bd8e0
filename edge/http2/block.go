package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Pseudo-header fields that were seen.
const (
	sawMethod uint8 = 1 << iota
	sawScheme
	sawAuthority
	sawPath
	sawProtocol
	sawStatus
)

// maxCookies bounds the pieces a Cookie field may come in.
const maxCookies = 64

// block is one header section while it is decoded: what is passed on in
// fields, everything else taken apart.
type block struct {
	fields exchange.Fields

	method, scheme, authority, path, protocol, status string

	seen     uint8
	regular  bool // a field that is no pseudo-header field has come
	size     int  // RFC 9113, section 6.5.2
	count    int
	maxSize  int
	maxCount int
	trims    bool // whitespace at the ends of a value is forgiven: Go's servers send it
	// malformed is the first thing that was wrong; tooMuch that a limit was
	// passed, after which fields are not looked at any more.
	malformed, tooMuch Reason

	host       string
	hosts      int
	length     int64 // -1: not announced
	expects    bool
	badExpect  bool
	trailers   bool // announced
	teTrailers bool
	cookies    []string // its pieces
	cookieAt   int      // where in fields
}

// reset makes b ready for another block and keeps its memory.
func (b *block) reset() {
	b.fields.Reset()
	clear(b.cookies)
	*b = block{fields: b.fields, cookies: b.cookies[:0], maxSize: b.maxSize, maxCount: b.maxCount, trims: b.trims, length: -1}
}

func (b *block) bad(reason Reason) {
	if b.malformed == ReasonNone {
		b.malformed = reason
	}
}

// emit takes one field. It is called by the decoder.
func (b *block) emit(f hpack.HeaderField) {
	b.size += len(f.Name) + len(f.Value) + 32
	b.count++
	switch {
	case b.size > b.maxSize:
		b.tooMuch = ReasonFieldsTooLarge
	case b.count > b.maxCount:
		b.tooMuch = ReasonTooManyFields
	}
	if b.tooMuch != ReasonNone {
		return
	}
	if f.Name != "" && f.Name[0] == ':' {
		b.pseudo(f)
		return
	}
	b.regular = true
	if b.trims {
		f.Value = strings.Trim(f.Value, " \t")
	}
	switch {
	case !consists(f.Name, classLower):
		b.bad(ReasonFieldName)
		return
	case !isText(f.Value):
		b.bad(ReasonFieldValue)
		return
	}
	field := exchange.Field{Name: f.Name, Value: f.Value, ID: exchange.LookupField(f.Name)}
	switch {
	case endsHere(field.ID):
		b.take(field)
	case field.ID == exchange.FieldCookie:
		b.cookie(field)
	default:
		b.fields.Append(field)
	}
}

// pseudo takes a pseudo-header field: RFC 9113, section 8.3.
func (b *block) pseudo(f hpack.HeaderField) {
	var bit uint8
	var to *string
	switch f.Name {
	case ":method":
		bit, to = sawMethod, &b.method
	case ":scheme":
		bit, to = sawScheme, &b.scheme
	case ":authority":
		bit, to = sawAuthority, &b.authority
	case ":path":
		bit, to = sawPath, &b.path
	case ":protocol":
		bit, to = sawProtocol, &b.protocol
	case ":status":
		bit, to = sawStatus, &b.status
	default:
		b.bad(ReasonPseudo)
		return
	}
	if b.regular || b.seen&bit != 0 {
		b.bad(ReasonPseudo)
	}
	b.seen |= bit
	*to = f.Value
}

// take notes a field that ends at this hop.
func (b *block) take(field exchange.Field) {
	switch field.ID {
	case exchange.FieldHost:
		b.hosts++
		b.host = field.Value
	case exchange.FieldContentLength:
		n, ok := parseLength(field.Value)
		if !ok || b.length >= 0 {
			b.bad(ReasonContentLength)
		}
		b.length = n
	case exchange.FieldExpect:
		if exchange.EqualFold(field.Value, "100-continue") {
			b.expects = true
		} else {
			b.badExpect = true
		}
	case exchange.FieldTE:
		if !exchange.EqualFold(field.Value, "trailers") {
			b.bad(ReasonConnection) // RFC 9113, section 8.2.2
		}
		b.teTrailers = true
	case exchange.FieldConnection, exchange.FieldKeepAlive, exchange.FieldProxyConnection,
		exchange.FieldTransferEncoding, exchange.FieldUpgrade:
		b.bad(ReasonConnection)
	case exchange.FieldTrailer:
		b.trailers = true
	default: // Proxy-Auth* end here
	}
}

// cookie takes a piece of a Cookie field, which may come in several: RFC 9113,
// section 8.2.3.
func (b *block) cookie(field exchange.Field) {
	if len(b.cookies) == maxCookies {
		b.tooMuch = ReasonTooManyFields
		return
	}
	if len(b.cookies) == 0 {
		b.cookieAt = b.fields.Len()
		b.fields.Append(field)
	}
	b.cookies = append(b.cookies, field.Value)
}

// finish joins what came in pieces.
func (b *block) finish() {
	if len(b.cookies) > 1 {
		b.fields.At(b.cookieAt).Value = strings.Join(b.cookies, "; ")
	}
}
