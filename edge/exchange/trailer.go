package exchange

import "strings"

// KeepTrailers drops the fields that must not come in a trailer because they
// frame, route, authenticate or modify the message: RFC 9110, section 6.5.1.
// What a codec or the gateway looks for in a head, or could be taken for it, is
// among them: behind a gateway nobody else vouches for it.
func (f *Fields) KeepTrailers() {
	kept := f.list[:0]
	for _, field := range f.list {
		if field.ID == FieldOther && !forbiddenTrailer(field.Name) {
			kept = append(kept, field)
		}
	}
	clear(f.list[len(kept):])
	f.list = kept
}

func forbiddenTrailer(name string) bool {
	lowered := strings.ToLower(name)
	for _, prefix := range [...]string{"content-", "if-", "x-forwarded-"} {
		if strings.HasPrefix(lowered, prefix) {
			return true
		}
	}
	switch lowered {
	case "age", "cache-control", "expires", "location", "max-forwards", "pragma", "range",
		"set-cookie", "vary", "warning", "www-authenticate", "accept-encoding", "accept-ranges":
		return true
	}
	return false
}
