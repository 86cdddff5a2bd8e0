package http2

// Reason is why a message, a stream or a connection was refused. The zero
// value is no reason.
type Reason uint8

// Why something is refused.
const (
	ReasonNone Reason = iota
	ReasonPreface
	ReasonFrame
	ReasonFrameSize
	ReasonCompression
	ReasonFlowControl
	ReasonStreamClosed
	ReasonPseudo
	ReasonMethod
	ReasonConnect
	ReasonTarget
	ReasonTargetTooLong
	ReasonAuthority
	ReasonFieldName
	ReasonFieldValue
	ReasonConnection
	ReasonContentLength
	ReasonExpect
	ReasonUpgrade
	ReasonTrailer
	ReasonFieldsTooLarge
	ReasonTooManyFields
	ReasonTooManyStreams
	ReasonDraining
	ReasonHeaderFlood
	ReasonControlFlood
	ReasonResetFlood
	ReasonQueue
	ReasonHeadTimeout
	ReasonBodyTimeout
	ReasonWriteTimeout
	ReasonWindowTimeout
	reasonCount
)

var reasons = [reasonCount]struct {
	name   string // label of a metric
	status int    // what the client is told; 0: nothing but an error code
	detail string
}{
	ReasonNone:           {"none", 0, ""},
	ReasonPreface:        {"preface", 0, "the connection does not begin as HTTP/2"},
	ReasonFrame:          {"frame", 0, "a frame is malformed or not allowed where it came"},
	ReasonFrameSize:      {"frame-size", 0, "a frame has an impossible size"},
	ReasonCompression:    {"compression", 0, "a header block is malformed"},
	ReasonFlowControl:    {"flow-control", 0, "more was sent than the window allows"},
	ReasonStreamClosed:   {"stream-closed", 0, "a frame came on a closed stream"},
	ReasonPseudo:         {"pseudo", 0, "a pseudo-header field is unknown, repeated, missing, misplaced or malformed"},
	ReasonMethod:         {"method", 400, "the method is not a token"},
	ReasonConnect:        {"connect", 405, "CONNECT is not served here"},
	ReasonTarget:         {"target", 400, "the path is not an absolute path"},
	ReasonTargetTooLong:  {"target-too-long", 414, "the path is too long"},
	ReasonAuthority:      {"authority", 400, "the authority is missing or malformed, or Host says something else"},
	ReasonFieldName:      {"field-name", 0, "a field name is not a token in lower case"},
	ReasonFieldValue:     {"field-value", 0, "a field value has a control character, or whitespace at an end"},
	ReasonConnection:     {"connection", 0, "a field belongs to HTTP/1 connections"},
	ReasonContentLength:  {"content-length", 0, "Content-Length is repeated, no decimal number, or not the body's length"},
	ReasonExpect:         {"expect", 417, "the only expectation met here is 100-continue"},
	ReasonUpgrade:        {"upgrade", 501, "this protocol is not switched to here"},
	ReasonTrailer:        {"trailer", 0, "the trailer section is malformed"},
	ReasonFieldsTooLarge: {"fields-too-large", 431, "the header section is too large"},
	ReasonTooManyFields:  {"too-many-fields", 431, "the header section has too many fields"},
	ReasonTooManyStreams: {"too-many-streams", 0, "more streams are open than allowed"},
	ReasonDraining:       {"draining", 0, "the connection takes no new streams"},
	ReasonHeaderFlood:    {"header-flood", 0, "a header block does not end"},
	ReasonControlFlood:   {"control-flood", 0, "too many frames that carry nothing"},
	ReasonResetFlood:     {"reset-flood", 0, "too many streams are reset before they are answered"},
	ReasonQueue:          {"queue", 0, "answers to control frames are not read"},
	ReasonHeadTimeout:    {"head-timeout", 0, "a header section, or the beginning of the connection, did not arrive in time"},
	ReasonBodyTimeout:    {"body-timeout", 408, "the body did not arrive in time"},
	ReasonWriteTimeout:   {"write-timeout", 0, "nothing could be written for too long"},
	ReasonWindowTimeout:  {"window-timeout", 0, "the flow control window stayed shut for too long"},
}

// String is the reason as a label of a metric: "reset-flood".
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

// Status is the status a client is told, 0 when it gets an error code alone.
func (r Reason) Status() int {
	if r >= reasonCount {
		return 0
	}
	return reasons[r].status
}
