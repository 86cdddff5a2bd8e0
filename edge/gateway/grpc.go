package gateway

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Statuses of gRPC, as they stand in grpc-status.
const (
	grpcCancelled        = "1"
	grpcUnknown          = "2"
	grpcDeadlineExceeded = "4"
	grpcPermissionDenied = "7"
	grpcUnimplemented    = "12"
	grpcInternal         = "13"
	grpcUnavailable      = "14"
	grpcUnauthenticated  = "16"
)

// grpcStatus is what an HTTP status means to a gRPC client ("HTTP to gRPC
// Status Code Mapping" of the gRPC project).
func grpcStatus(status int) string {
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404:
		return grpcUnimplemented
	case 429, 502, 503, 504:
		return grpcUnavailable
	case refuseGone.status:
		return grpcCancelled
	default:
		return grpcUnknown
	}
}

const grpcType = "application/grpc"

// isGRPC reports whether a Content-Type is gRPC's own, with any message format:
// not that of gRPC-Web, which is plain HTTP.
func isGRPC(contentType string) bool {
	if len(contentType) < len(grpcType) || !exchange.EqualFold(contentType[:len(grpcType)], grpcType) {
		return false
	}
	rest := contentType[len(grpcType):]
	return rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

const grpcTimeoutField = "grpc-timeout"

var refuseGRPCTimeout = refusal{400, "malformed-timeout", "grpc-timeout is repeated or not 1 to 8 digits and a unit"}

// grpcTimeout reads how long a gRPC client waits; 0 when it does not say.
func grpcTimeout(header *exchange.Fields) (timeout time.Duration, ok bool) {
	text, n := "", 0
	for _, field := range header.All() {
		if exchange.EqualFold(field.Name, grpcTimeoutField) {
			text = field.Value
			n++
		}
	}
	switch n {
	case 0:
		return 0, true
	case 1:
		return parseGRPCTimeout(text)
	default:
		return 0, false
	}
}

// maxGRPCTimeout is what longer ones come to.
const maxGRPCTimeout = 365 * 24 * time.Hour

// parseGRPCTimeout reads TimeoutValue and TimeoutUnit ("gRPC over HTTP2" of the
// gRPC project). 0 ends at once, and is told from none by being 1 ns.
func parseGRPCTimeout(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch text[len(text)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	value := time.Duration(0)
	for _, c := range []byte(text[:len(text)-1]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		value = 10*value + time.Duration(c-'0')
	}
	return max(1, min(value, maxGRPCTimeout/unit)*unit), true
}

// spellGRPCTimeout writes a timeout, rounded down to a unit in which it has at
// most 8 digits.
func spellGRPCTimeout(d time.Duration) string {
	if n := d / time.Microsecond; n < 100_000_000 {
		return strconv.FormatInt(int64(max(1, n)), 10) + "u"
	}
	if n := d / time.Millisecond; n < 100_000_000 {
		return strconv.FormatInt(int64(n), 10) + "m"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "S"
}

// renewTimeout tells the endpoint of a later attempt how much is left of the
// client's time. The first one gets what the client said.
func (c *call) renewTimeout() {
	for i := range c.x.Request.Header.All() {
		if field := c.x.Request.Header.At(i); exchange.EqualFold(field.Name, grpcTimeoutField) {
			field.Value = spellGRPCTimeout(time.Until(c.hard))
		}
	}
}

// unavailable reports whether the answer is the gRPC status UNAVAILABLE and
// nothing else: the endpoint did not come to work on the request, or says that
// it did nothing.
func (c *call) unavailable() bool {
	if !c.grpc || c.x.Response.Body != nil {
		return false
	}
	status, _ := c.x.Response.Header.GetName("grpc-status")
	return status == grpcUnavailable
}

// grpcEnd is the status that ended a gRPC call, once it is over; empty when it is
// none, or ended without.
func (c *call) grpcEnd() string {
	if !c.grpc {
		return ""
	}
	const name = "grpc-status"
	if status, ok := c.x.Response.Header.GetName(name); ok {
		return status
	}
	if body := c.x.Response.Body; body != nil {
		if trailer := body.Trailer(); trailer != nil {
			status, _ := trailer.GetName(name)
			return status
		}
	}
	return ""
}

// httpStatuses is what gRPC statuses are in HTTP, by number (google.rpc.Code).
var httpStatuses = [...]int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}

// outcome is the status that metrics count the request by: of a gRPC call that
// was answered, what its status is in HTTP.
func (c *call) outcome() int {
	status := c.status()
	if !c.grpc || status != 200 {
		return status
	}
	number, err := strconv.ParseUint(c.grpcEnd(), 10, 8)
	switch {
	case err != nil:
		return status
	case number < uint64(len(httpStatuses)):
		return httpStatuses[number]
	default:
		return 500
	}
}

// refuseGRPC answers a gRPC client: with a status instead of a problem document
// ("Trailers-Only").
func (c *call) refuseGRPC(r *refusal) {
	x := c.x
	status := grpcStatus(r.status)
	// Whatever it was, it came too late: endpoints that know the deadline break
	// off then, and uploads are awaited no longer.
	if c.overdue(time.Now()) {
		status = grpcDeadlineExceeded
	}
	x.Response.Status = 200
	h := &x.Response.Header
	h.Append(exchange.Field{Name: "Content-Type", Value: grpcType, ID: exchange.FieldContentType})
	h.Append(exchange.Field{Name: "grpc-status", Value: status})
	h.Append(exchange.Field{Name: "grpc-message", Value: grpcMessage(r.detail + " (" + cmp.Or(r.reason, c.reason()) + ")")})
	h.Append(exchange.Field{Name: "X-Request-ID", Value: c.id, ID: exchange.FieldXRequestID})
}

// grpcMessage is Percent-Encoded of "gRPC over HTTP2".
func grpcMessage(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
