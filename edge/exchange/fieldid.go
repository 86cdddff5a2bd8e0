package exchange

// FieldID numbers the field names that codecs and the gateway look for on
// every request, so that the hot path compares numbers instead of strings.
type FieldID uint8

// The well-known field names.
const (
	FieldOther FieldID = iota // any name that is not listed below
	FieldHost
	FieldConnection
	FieldKeepAlive
	FieldProxyConnection
	FieldProxyAuthenticate
	FieldProxyAuthorization
	FieldTE
	FieldTrailer
	FieldTransferEncoding
	FieldUpgrade
	FieldContentLength
	FieldContentType
	FieldExpect
	FieldDate
	FieldServer
	FieldVia
	FieldRetryAfter
	FieldAuthorization
	FieldCookie
	FieldForwarded
	FieldXForwardedFor
	FieldXForwardedProto
	FieldXForwardedHost
	FieldXForwardedPort
	FieldXRealIP
	FieldXRequestID
	FieldXReleaseTag
	FieldXGrayExplain
	FieldXGrayDecision
	FieldXGrayHop
	FieldTraceparent
	FieldTracestate
	FieldRateLimitRemaining
	fieldCount
)

// FieldLookalike is a name that is not well known, but may pass for one that
// is: servers that hand fields on as variables (CGI, WSGI, PHP) write whatever
// is neither letter nor digit as "_", so that "x_real.ip" becomes the same
// variable as "X-Real-IP".
const FieldLookalike = fieldCount

// fieldNames holds, at each id, the spelling used when the gateway itself
// writes the field.
var fieldNames = [fieldCount]string{
	FieldOther:              "",
	FieldHost:               "Host",
	FieldConnection:         "Connection",
	FieldKeepAlive:          "Keep-Alive",
	FieldProxyConnection:    "Proxy-Connection",
	FieldProxyAuthenticate:  "Proxy-Authenticate",
	FieldProxyAuthorization: "Proxy-Authorization",
	FieldTE:                 "TE",
	FieldTrailer:            "Trailer",
	FieldTransferEncoding:   "Transfer-Encoding",
	FieldUpgrade:            "Upgrade",
	FieldContentLength:      "Content-Length",
	FieldContentType:        "Content-Type",
	FieldExpect:             "Expect",
	FieldDate:               "Date",
	FieldServer:             "Server",
	FieldVia:                "Via",
	FieldRetryAfter:         "Retry-After",
	FieldAuthorization:      "Authorization",
	FieldCookie:             "Cookie",
	FieldForwarded:          "Forwarded",
	FieldXForwardedFor:      "X-Forwarded-For",
	FieldXForwardedProto:    "X-Forwarded-Proto",
	FieldXForwardedHost:     "X-Forwarded-Host",
	FieldXForwardedPort:     "X-Forwarded-Port",
	FieldXRealIP:            "X-Real-IP",
	FieldXRequestID:         "X-Request-ID",
	FieldXReleaseTag:        "x-release-tag",
	FieldXGrayExplain:       "x-gray-explain",
	FieldXGrayDecision:      "x-gray-decision",
	FieldXGrayHop:           "x-gray-hop",
	FieldTraceparent:        "traceparent",
	FieldTracestate:         "tracestate",
	FieldRateLimitRemaining: "X-RateLimit-Remaining",
}

// fieldSlots finds the only id a name can have by its length and its outer
// letters, so that a lookup costs one comparison. A test holds that no two
// names share a slot.
var fieldSlots = func() (slots [256]FieldID) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		slots[fieldSlot(fieldNames[id])] = id
	}
	return slots
}()

// fieldSlot hashes a name of at least two bytes. Setting 0x20 folds letter
// case; what else it folds together, the comparison tells apart.
func fieldSlot(name string) uint8 {
	n := len(name)
	return uint8(n) + (name[0] | 0x20) + (name[n-2]|0x20)*9 + (name[n-1] | 0x20)
}

// String is the spelling the gateway writes.
func (id FieldID) String() string {
	if id >= fieldCount {
		return ""
	}
	return fieldNames[id]
}

// LookupField returns the id of a name in any letter case, [FieldLookalike], or
// [FieldOther].
func LookupField(name string) FieldID {
	if len(name) < 2 {
		return FieldOther
	}
	id := fieldSlots[fieldSlot(name)]
	known := fieldNames[id]
	switch {
	case known == name:
		return id
	case len(known) != len(name) || !Lookalike(known, name):
		return FieldOther
	case EqualFold(known, name):
		return id
	}
	// The outer letters of well-known names are no dashes, so that a lookalike
	// has the slot of its model.
	return FieldLookalike
}

// Lookalike reports whether a name is known in any letter case, with anything
// but a letter or digit in the place of each "-".
func Lookalike(known, name string) bool {
	if len(known) != len(name) {
		return false
	}
	for i := range len(known) {
		if known[i] != name[i] && lower(known[i]) != lower(name[i]) && (known[i] != '-' || alphanumeric(name[i])) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'z'
}
