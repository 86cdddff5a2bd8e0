package route

import "errors"

// Why a path is refused; each is the client's fault (400).
var (
	// ErrPathForm: it does not begin with "/" and is not "*".
	ErrPathForm = errors.New("path does not begin with /")
	// ErrPathEscape: a "%" without two hexadecimal digits behind it.
	ErrPathEscape = errors.New("path has a malformed percent escape")
	// ErrPathByte: a backslash, NUL or other control character, raw; or an
	// encoded backslash or NUL. Servers disagree about what they mean.
	ErrPathByte = errors.New("path has a backslash or control character")
	// ErrPathAboveRoot: its dot segments climb above "/".
	ErrPathAboveRoot = errors.New("path climbs above the root")
	// ErrPathDotParameter: a dot segment with a parameter ("..;v=1"), which
	// some servers take for a dot segment and others for a name.
	ErrPathDotParameter = errors.New("path has a dot segment with a parameter")
)

// What a byte of a path is. Numbers, not bits: one lookup, one compare.
const (
	byteEncode byte = iota // is percent-encoded in the normal form
	bytePlain              // pchar of RFC 3986 but for "." and "%"
	byteDot                // "."
	byteSlash              // "/"
	byteEscape             // "%"
	byteRefuse             // control characters and the backslash
)

// pathBytes classes every byte; unreserved marks RFC 3986's unreserved ones,
// which the normal form never encodes.
var pathBytes, unreserved = func() (class [256]byte, plain [256]bool) {
	for c := range 256 {
		if c < ' ' || c == 0x7f || c == '\\' {
			class[c] = byteRefuse
		}
	}
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") {
		class[c], plain[c] = bytePlain, true
	}
	for _, c := range []byte("!$&'()*+,;=:@") {
		class[c] = bytePlain
	}
	class['.'], class['/'], class['%'] = byteDot, byteSlash, byteEscape
	return class, plain
}()

// NormalisePath brings a request's path into its one normal form, which is
// what routes match, what is forwarded, and what a rewrite makes of it again,
// so that no two of them can mean different resources:
//
//   - dot segments are removed (RFC 3986, section 5.2.4) and repeated slashes
//     merged; a final slash stays, and is left by a final dot segment;
//   - escapes of unreserved characters are decoded ("%2e", "%7E", "%61") and
//     the digits of the others written in upper case (RFC 3986, section 6.2.2);
//     "%2F" stays encoded and never parts segments: decoded, it would let a
//     client move what the route matched to another place at the upstream;
//   - bytes that RFC 3986 does not allow in a path (non-ASCII, quotes, braces)
//     are percent-encoded.
//
// A path that is normal already is returned as it is, without allocation; "*"
// is normal. buf is scratch memory; newBuf is buf, perhaps grown, for the next
// call. The returned string never points into it. Errors are the ErrPath*
// values.
func NormalisePath(buf []byte, path string) (normal string, newBuf []byte, err error) {
	if isNormal(path) {
		return path, buf, nil
	}
	if path == "*" {
		return path, buf, nil
	}
	if path == "" || path[0] != '/' {
		return "", buf, ErrPathForm
	}
	buf, err = appendNormal(buf[:0], path)
	if err != nil {
		return "", buf, err
	}
	return string(buf), buf, nil
}

// isNormal is strict: what it says no to gets the slow path, which decides.
func isNormal(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := 1; i < len(path); i++ {
		switch pathBytes[path[i]] {
		case bytePlain:
		case byteSlash:
			if path[i-1] == '/' {
				return false
			}
		case byteDot:
			// Any segment that begins with a dot and has no letter behind its
			// dots: rare enough to be sorted out by the slow path.
			if path[i-1] == '/' && dotSegment(path[i:]) {
				return false
			}
		case byteEscape:
			if i+2 >= len(path) || !upperHex(path[i+1]) || !upperHex(path[i+2]) {
				return false
			}
			c := unhex(path[i+1])<<4 | unhex(path[i+2])
			if unreserved[c] || c == 0 || c == '\\' {
				return false
			}
			i += 2
		default:
			return false
		}
	}
	return true
}

// dotSegment reports whether the segment at the start of rest is "." or "..",
// or one of these with a parameter.
func dotSegment(rest string) bool {
	dots := 1
	if len(rest) > 1 && rest[1] == '.' {
		dots = 2
	}
	return len(rest) == dots || rest[dots] == '/' || rest[dots] == ';'
}

// appendNormal appends the normal form of path, which begins with "/". Each
// segment is written decoded first and judged then, so that an encoded dot is
// a dot.
func appendNormal(out []byte, path string) ([]byte, error) {
	const upperDigits = "0123456789ABCDEF"
	out = append(out, '/')
	start := len(out) // of the segment being written
	for i := 1; i < len(path); i++ {
		c := path[i]
		switch pathBytes[c] {
		case bytePlain, byteDot:
			out = append(out, c)
		case byteSlash:
			var err error
			if out, err = endSegment(out, start, true); err != nil {
				return out, err
			}
			start = len(out)
		case byteEscape:
			if i+2 >= len(path) || !hex(path[i+1]) || !hex(path[i+2]) {
				return out, ErrPathEscape
			}
			decoded := unhex(path[i+1])<<4 | unhex(path[i+2])
			switch {
			case decoded == 0, decoded == '\\':
				return out, ErrPathByte
			case unreserved[decoded]:
				out = append(out, decoded)
			default:
				out = append(out, '%', upperDigits[decoded>>4], upperDigits[decoded&15])
			}
			i += 2
		case byteEncode:
			out = append(out, '%', upperDigits[c>>4], upperDigits[c&15])
		default:
			return out, ErrPathByte
		}
	}
	return endSegment(out, start, false)
}

// endSegment finishes the segment out[start:]: it is kept, with a slash behind
// it when one follows, or resolved when it is empty or a dot segment.
func endSegment(out []byte, start int, slash bool) ([]byte, error) {
	segment := out[start:]
	if len(segment) > 0 && segment[0] == '.' && dotSegment(string(segment)) {
		switch {
		case segment[len(segment)-1] != '.' || len(segment) > 2:
			return out, ErrPathDotParameter
		case len(segment) == 1:
			return out[:start], nil
		case start == 1:
			return out, ErrPathAboveRoot
		}
		// Drop "..", the slash before it and the segment before that.
		end := start - 1
		for out[end-1] != '/' {
			end--
		}
		return out[:end], nil
	}
	if slash && len(segment) > 0 {
		out = append(out, '/')
	}
	return out, nil
}

func upperHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

func hex(c byte) bool { return upperHex(c) || 'a' <= c && c <= 'f' }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
