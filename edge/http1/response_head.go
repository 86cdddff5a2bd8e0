package http1

import (
	"github.com/grayfed/grayfed/edge/exchange"
)

// parseResponse reads a response head from the start of b into status,
// resp.Header and h, like parseRequest.
func parseResponse(b []byte, resp *exchange.Response, h *head, limits headLimits) (n int, proto exchange.Proto, reason Reason) {
	const prefix = "HTTP/1.1 200"
	if len(b) < len(prefix)+1 {
		return needMore, 0, partialStatus(b)
	}
	switch string(b[:9]) {
	case "HTTP/1.1 ":
		proto = exchange.HTTP11
	case "HTTP/1.0 ":
		proto = exchange.HTTP10
	default:
		return needMore, 0, ReasonStatusLine
	}
	status := 0
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return needMore, 0, ReasonStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status > 599 {
		return needMore, 0, ReasonStatusLine
	}
	resp.Status = status
	// RFC 9112 wants a space even before an empty reason; servers that leave
	// it out are many, and nothing can be read into it.
	i := len(prefix)
	if b[i] != ' ' && b[i] != '\r' {
		return needMore, 0, ReasonStatusLine
	}
	i = skipText(b, i)
	if i+1 >= len(b) {
		return needMore, proto, lineSoFar(b, i)
	}
	if b[i] != '\r' || b[i+1] != '\n' {
		return needMore, 0, badLineEnd(b[i])
	}
	i, reason = parseFields(b, i+2, &resp.Header, h, limits.fields)
	if i == needMore || reason != ReasonNone {
		return needMore, proto, reason
	}
	if reason = h.framing(proto); reason != ReasonNone {
		return needMore, proto, reason
	}
	h.dropNamed(&resp.Header)
	return i, proto, ReasonNone
}

func partialStatus(b []byte) Reason {
	for i, c := range b {
		if i < 9 && c != "HTTP/1.1 "[i] && (i != 7 || c != '0') {
			return ReasonStatusLine
		}
	}
	return ReasonNone
}
