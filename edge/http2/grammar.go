package http2

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Classes of bytes, RFC 9110 section 5.6.2 and RFC 3986 section 3; what they
// hold is what edge/http1 holds, so that a request means the same whichever
// way it came.
const (
	classToken uint8 = 1 << iota // tchar
	classLower                   // tchar without upper case letters
	classPath                    // pchar and "/", without "%"
	classQuery                   // visible ASCII without "#"
	classHost                    // unreserved: reg-name without escapes
	classHex
	classLiteral // inside the brackets of an IPv6 address
)

var classes = func() (table [256]uint8) {
	mark := func(class uint8, chars string) {
		for i := range len(chars) {
			table[chars[i]] |= class
		}
	}
	const lower, upper = "abcdefghijklmnopqrstuvwxyz0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const hex = "0123456789abcdefABCDEF"
	mark(classToken|classLower, lower+"!#$%&'*+-.^_`|~")
	mark(classToken, upper)
	mark(classPath, lower+upper+"-._~!$&'()*+,;=:@/")
	mark(classHost, lower+upper+"-._~")
	mark(classHex, hex)
	mark(classLiteral, hex+":.")
	for c := byte('!'); c <= '~'; c++ {
		if c != '#' {
			table[c] |= classQuery
		}
	}
	return table
}()

func is(c byte, class uint8) bool { return classes[c]&class != 0 }

// consists reports whether s is not empty and all of a class.
func consists(s string, class uint8) bool {
	for i := range len(s) {
		if !is(s[i], class) {
			return false
		}
	}
	return s != ""
}

func isToken(s string) bool { return consists(s, classToken) }

// isText reports whether s may be a field's value: no control characters
// other than tabs, and no whitespace at its ends (RFC 9113, section 8.2.1).
// It looks at eight bytes at a time.
func isText(s string) bool {
	if s == "" {
		return true
	}
	if first, last := s[0], s[len(s)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	i := 0
	for ; i+8 <= len(b); i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		// The high bit of each byte below 0x20, and of each that is 0x7f, and
		// perhaps of bytes above such a one.
		del := word ^ 0x7f*ones
		if ((word-0x20*ones) & ^word | (del-ones) & ^del)&highs != 0 && !plain(b[i:i+8]) {
			return false
		}
	}
	return plain(b[i:])
}

func plain(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// validAuthority reports whether s is host[:port] as this gateway accepts it:
// a name of unreserved characters or a bracketed IPv6 address, and a port
// from 0 to 65535. Userinfo, escapes and sub-delimiters are refused.
func validAuthority(s string) bool {
	i := 0
	if s != "" && s[0] == '[' {
		for i = 1; i < len(s) && is(s[i], classLiteral); i++ {
		}
		if i == len(s) || s[i] != ']' {
			return false
		}
		if _, err := netip.ParseAddr(s[1:i]); err != nil || !strings.Contains(s[:i], ":") {
			return false
		}
		i++
	} else {
		for i < len(s) && is(s[i], classHost) {
			i++
		}
		if i == 0 {
			return false
		}
	}
	return i == len(s) || (s[i] == ':' && validPort(s[i+1:]))
}

func validPort(s string) bool {
	if s == "" || len(s) > 5 {
		return false
	}
	port, ok := parseLength(s)
	return ok && port <= 65535
}

// parseLength reads 1*DIGIT, at most 2^63-1.
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return int64(n), n <= 1<<63-1
}

// splitTarget takes ":path" apart into an absolute path and a query, or "*"
// for OPTIONS, and reports whether it is that.
func splitTarget(target string, req *exchange.Request) bool {
	req.Query, req.HasQuery = "", false
	if target == "*" {
		req.Path = target
		return req.Method == http.MethodOptions
	}
	if target == "" || target[0] != '/' {
		return false
	}
	i := 0
	for i < len(target) && target[i] != '?' {
		switch {
		case is(target[i], classPath):
			i++
		case target[i] == '%' && i+2 < len(target) && is(target[i+1], classHex) && is(target[i+2], classHex):
			i += 3
		default:
			return false
		}
	}
	req.Path = target[:i]
	if i < len(target) {
		req.Query, req.HasQuery = target[i+1:], true
	}
	return req.Query == "" || consists(req.Query, classQuery)
}

// endsHere reports whether a field ends at this hop: it belongs to one
// connection or frames the message. Their ids are neighbours, except for
// Expect.
func endsHere(id exchange.FieldID) bool {
	return id-exchange.FieldHost <= exchange.FieldContentLength-exchange.FieldHost || id == exchange.FieldExpect
}
