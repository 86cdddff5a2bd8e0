package http1

// Reason is why a message was refused. The zero value is no reason.
type Reason uint8

// Why a message is refused.
const (
	ReasonNone Reason = iota
	ReasonRequestLine
	ReasonMethod
	ReasonConnect
	ReasonTarget
	ReasonTargetTooLong
	ReasonVersion
	ReasonStatusLine
	ReasonBareCR
	ReasonBareLF
	ReasonFolded
	ReasonFieldName
	ReasonFieldValue
	ReasonFieldsTooLarge
	ReasonTooManyFields
	ReasonHost
	ReasonContentLength
	ReasonTransferEncoding
	ReasonLengthAndEncoding
	ReasonConnection
	ReasonExpect
	ReasonChunk
	ReasonTrailer
	ReasonHeadTimeout
	ReasonBodyTimeout
	ReasonBodyShort
	reasonCount
)

var reasons = [reasonCount]struct {
	name   string // label of a metric
	status int
	detail string
}{
	ReasonNone:              {"none", 0, ""},
	ReasonRequestLine:       {"request-line", 400, "the request line is not METHOD SP target SP HTTP-version"},
	ReasonMethod:            {"method", 400, "the method is not a token"},
	ReasonConnect:           {"connect", 405, "CONNECT is not served here"},
	ReasonTarget:            {"target", 400, "the request target is neither an absolute path nor a valid absolute URI"},
	ReasonTargetTooLong:     {"target-too-long", 414, "the request target is too long"},
	ReasonVersion:           {"version", 400, "the version is neither HTTP/1.1 nor HTTP/1.0"},
	ReasonStatusLine:        {"status-line", 502, "the status line is malformed"},
	ReasonBareCR:            {"bare-cr", 400, "a CR is not followed by LF"},
	ReasonBareLF:            {"bare-lf", 400, "a line ends in LF without CR"},
	ReasonFolded:            {"obs-fold", 400, "a field line begins with whitespace"},
	ReasonFieldName:         {"field-name", 400, "a field name is not a token directly followed by a colon"},
	ReasonFieldValue:        {"field-value", 400, "a field value has a control character"},
	ReasonFieldsTooLarge:    {"fields-too-large", 431, "the message head is too large"},
	ReasonTooManyFields:     {"too-many-fields", 431, "the message head has too many fields"},
	ReasonHost:              {"host", 400, "Host is missing, repeated or malformed"},
	ReasonContentLength:     {"content-length", 400, "Content-Length is repeated or not a decimal number"},
	ReasonTransferEncoding:  {"transfer-encoding", 400, "Transfer-Encoding is not exactly chunked, or the version does not know it"},
	ReasonLengthAndEncoding: {"length-and-encoding", 400, "both Content-Length and Transfer-Encoding are given"},
	ReasonConnection:        {"connection", 400, "Connection is malformed"},
	ReasonExpect:            {"expect", 417, "the only expectation met here is 100-continue"},
	ReasonChunk:             {"chunk", 400, "the chunked body is malformed"},
	ReasonTrailer:           {"trailer", 400, "the trailer section is malformed or too large"},
	ReasonHeadTimeout:       {"head-timeout", 408, "the request head did not arrive in time"},
	ReasonBodyTimeout:       {"body-timeout", 408, "the request body did not arrive in time"},
	ReasonBodyShort:         {"body-short", 400, "the connection ended within the request body"},
}

// String is the reason as a label of a metric: "bare-lf".
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasons[r].name
}

// Error is what is wrong, in words.
func (r Reason) Error() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasons[r].detail
}

// Status is the status a client is told.
func (r Reason) Status() int {
	if r >= reasonCount {
		return 400
	}
	return reasons[r].status
}
