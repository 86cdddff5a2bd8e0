package http1

import (
	"net/netip"
	"strings"
	"unsafe"
)

// Classes of bytes, RFC 9110 section 5.6.2 and RFC 3986 section 3.
const (
	classToken uint8 = 1 << iota // tchar
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
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	const hex = "0123456789abcdefABCDEF"
	mark(classToken, alnum+"!#$%&'*+-.^_`|~")
	mark(classPath, alnum+"-._~!$&'()*+,;=:@/")
	mark(classHost, alnum+"-._~")
	mark(classHex, hex)
	mark(classLiteral, hex+":.")
	// RFC 3986 wants {}|"<>\^` escaped, but browsers and programs send them
	// bare, and a query is opaque here: nothing decides on them.
	for c := byte('!'); c <= '~'; c++ {
		if c != '#' {
			table[c] |= classQuery
		}
	}
	return table
}()

func is(c byte, class uint8) bool { return classes[c]&class != 0 }

// view is b as a string without a copy; it changes when b does.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// isToken reports whether s is a token, which is not empty.
func isToken(s string) bool {
	for i := range len(s) {
		if !is(s[i], classToken) {
			return false
		}
	}
	return s != ""
}

// validAuthority reports whether s is host[:port] as this gateway accepts it:
// a name of unreserved characters or a bracketed IPv6 address, and a port
// from 0 to 65535. Escapes and sub-delimiters, which RFC 3986 allows in a
// registered name, occur in no name that DNS knows.
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
	port := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		port = port*10 + int(s[i]-'0')
	}
	return port <= 65535
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

func hexValue(c byte) int64 {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0')
	case 'a' <= c && c <= 'f':
		return int64(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return int64(c - 'A' + 10)
	default:
		return -1
	}
}

// trim removes spaces and tabs from both ends.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
