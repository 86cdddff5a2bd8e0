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
	FieldTraceparent
	FieldTracestate
	FieldRateLimitRemaining
	fieldCount
)

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
	FieldTraceparent:        "traceparent",
	FieldTracestate:         "tracestate",
	FieldRateLimitRemaining: "X-RateLimit-Remaining",
}

// fieldsByLength lists the ids whose name has that many bytes: few enough
// that a comparison of each beats hashing.
var fieldsByLength = func() (table [32][]FieldID) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		n := len(fieldNames[id])
		table[n] = append(table[n], id)
	}
	return table
}()

// String is the spelling the gateway writes.
func (id FieldID) String() string {
	if id >= fieldCount {
		return ""
	}
	return fieldNames[id]
}

// LookupField returns the id of a name in any letter case, or FieldOther.
func LookupField(name string) FieldID {
	if len(name) >= len(fieldsByLength) {
		return FieldOther
	}
	for _, id := range fieldsByLength[len(name)] {
		if EqualFold(fieldNames[id], name) {
			return id
		}
	}
	return FieldOther
}
