package http2

import (
	"strconv"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Header blocks are encoded without the dynamic table, as nginx does: nothing
// has to be kept per connection, blocks can be made in any order and outside
// of any lock, and no string outlives its buffer. Huffman coding is left out,
// too: it saves a part of a small number of bytes and costs both sides time.

// staticNames are the field names of HPACK's static table with the index of
// their first entry: RFC 7541, appendix A.
var staticNames = [...]struct {
	name  string
	index uint8
}{
	{"accept-charset", 15}, {"accept-encoding", 16}, {"accept-language", 17}, {"accept-ranges", 18}, {"accept", 19},
	{"access-control-allow-origin", 20}, {"age", 21}, {"allow", 22}, {"authorization", 23}, {"cache-control", 24},
	{"content-disposition", 25}, {"content-encoding", 26}, {"content-language", 27}, {"content-length", 28},
	{"content-location", 29}, {"content-range", 30}, {"content-type", 31}, {"cookie", 32}, {"date", 33}, {"etag", 34},
	{"expect", 35}, {"expires", 36}, {"from", 37}, {"host", 38}, {"if-match", 39}, {"if-modified-since", 40},
	{"if-none-match", 41}, {"if-range", 42}, {"if-unmodified-since", 43}, {"last-modified", 44}, {"link", 45},
	{"location", 46}, {"max-forwards", 47}, {"proxy-authenticate", 48}, {"proxy-authorization", 49}, {"range", 50},
	{"referer", 51}, {"refresh", 52}, {"retry-after", 53}, {"server", 54}, {"set-cookie", 55},
	{"strict-transport-security", 56}, {"transfer-encoding", 57}, {"user-agent", 58}, {"vary", 59}, {"via", 60},
	{"www-authenticate", 61},
}

// Indices of HPACK's static table.
const (
	indexAuthority     = 1
	indexMethodGET     = 2
	indexMethodPOST    = 3
	indexPath          = 4 // with the value "/"
	indexSchemeHTTP    = 6
	indexSchemeHTTPS   = 7
	indexStatus200     = 8
	indexAuthorization = 23
	indexContentLength = 28
	indexCookie        = 32
	indexDate          = 33
)

// nameSlots finds the only name of staticNames that a name can be. A test
// holds that no two share a slot.
var nameSlots = func() (slots [256]uint8) {
	for i := range staticNames {
		slots[nameSlot(staticNames[i].name)] = uint8(i) + 1
	}
	return slots
}()

// nameSlot hashes a name of at least two bytes, ignoring letter case.
func nameSlot(name string) uint8 {
	n := len(name)
	return uint8(n) + (name[0]|0x20)*2 + (name[n-2] | 0x20) + (name[n-1]|0x20)*39
}

// staticIndex is the index of a name in any letter case, 0 if there is none.
func staticIndex(name string) uint8 {
	if len(name) < 2 {
		return 0
	}
	i := nameSlots[nameSlot(name)]
	if i == 0 {
		return 0
	}
	known := &staticNames[i-1]
	if known.name == name || exchange.EqualFold(known.name, name) {
		return known.index
	}
	return 0
}

// appendInt writes an integer behind a prefix of n bits: RFC 7541, section 5.1.
func appendInt(out []byte, first byte, n uint, value uint64) []byte {
	most := uint64(1)<<n - 1
	if value < most {
		return append(out, first|byte(value))
	}
	out = append(out, first|byte(most))
	for value -= most; value >= 0x80; value >>= 7 {
		out = append(out, byte(value)|0x80)
	}
	return append(out, byte(value))
}

// appendIndexed writes a field that the static table holds completely.
func appendIndexed(out []byte, index byte) []byte { return append(out, 0x80|index) }

// appendText writes a string literal.
func appendText(out []byte, s string) []byte {
	return append(appendInt(out, 0, 7, uint64(len(s))), s...)
}

// appendNamed writes a value for a name of the static table. Credentials are
// marked as never to be indexed, by whoever passes them on, either: RFC 7541,
// section 7.1.3.
func appendNamed(out []byte, index uint8, value string) []byte {
	first := byte(0)
	if index == indexAuthorization || index == indexCookie {
		first = 0x10
	}
	return appendText(appendInt(out, first, 4, uint64(index)), value)
}

// appendField writes any field, its name in lower case.
func appendField(out []byte, name, value string) []byte {
	if index := staticIndex(name); index != 0 {
		return appendNamed(out, index, value)
	}
	out = appendInt(append(out, 0), 0, 7, uint64(len(name)))
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return appendText(out, value)
}

// appendFields writes fields, without those that end at this hop and without
// what HTTP does not allow: nothing that a codec parsed is that, and a
// handler's mistake must not become the peer's error.
func appendFields(out []byte, fields *exchange.Fields) (_ []byte, hasDate bool) {
	list := fields.All()
	for i := range list {
		field := &list[i]
		if endsHere(field.ID) || !isToken(field.Name) || !isText(field.Value) {
			continue
		}
		hasDate = hasDate || field.ID == exchange.FieldDate
		out = appendField(out, field.Name, field.Value)
	}
	return out, hasDate
}

// appendStatus writes ":status".
func appendStatus(out []byte, status int) []byte {
	switch status {
	case 200:
		return appendIndexed(out, indexStatus200)
	case 204:
		return appendIndexed(out, indexStatus200+1)
	case 206:
		return appendIndexed(out, indexStatus200+2)
	case 304:
		return appendIndexed(out, indexStatus200+3)
	case 400:
		return appendIndexed(out, indexStatus200+4)
	case 404:
		return appendIndexed(out, indexStatus200+5)
	case 500:
		return appendIndexed(out, indexStatus200+6)
	}
	return append(out, indexStatus200, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

func appendContentLength(out []byte, n int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	out = appendInt(out, 0, 4, indexContentLength)
	return append(append(out, byte(len(text))), text...)
}
