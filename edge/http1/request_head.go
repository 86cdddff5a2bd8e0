package http1

import (
	"net/http"

	"github.com/grayfed/grayfed/edge/exchange"
)

// headLimits bound a message head.
type headLimits struct {
	bytes  int // the whole head
	target int // the request target
	fields int // number of fields
}

// parseRequest reads a request head from the start of b into req, as views
// into b, and what frames it into h. It returns the length of the head, or
// needMore. Both req.Header and h are expected empty.
func parseRequest(b []byte, req *exchange.Request, h *head, limits headLimits) (int, Reason) {
	i := 0
	for i < len(b) && is(b[i], classToken) {
		i++
	}
	if i == len(b) {
		return needMore, ReasonNone
	}
	if b[i] != ' ' || i == 0 {
		return needMore, badMethod(b[i])
	}
	req.Method = view(b[:i])
	if req.Method == http.MethodConnect {
		return needMore, ReasonConnect
	}
	i++
	i, reason := parseTarget(b, i, req, limits.target)
	if i == needMore {
		return needMore, reason
	}
	const version = "HTTP/1.1\r\n"
	if len(b)-i < len(version) {
		return needMore, partialVersion(b[i:])
	}
	switch string(b[i : i+len(version)]) {
	case version:
		req.Proto = exchange.HTTP11
	case "HTTP/1.0\r\n":
		req.Proto = exchange.HTTP10
	default:
		return needMore, badVersion(b[i:])
	}
	i, reason = parseFields(b, i+len(version), &req.Header, h, limits.fields)
	if i == needMore {
		return needMore, reason
	}
	return i, finishRequest(req, h)
}

func badMethod(c byte) Reason {
	switch c {
	case '\n':
		return ReasonBareLF
	case '\r', ' ', '\t':
		return ReasonRequestLine
	default:
		return ReasonMethod
	}
}

// parseTarget reads the request target and the space behind it.
func parseTarget(b []byte, i int, req *exchange.Request, limit int) (int, Reason) {
	start := i
	req.Authority = ""
	req.Path, req.Query, req.HasQuery = "", "", false
	if i == len(b) {
		return needMore, ReasonNone
	}
	switch b[i] {
	case '/':
	case '*':
		if i+1 == len(b) {
			return needMore, ReasonNone
		}
		if req.Method != http.MethodOptions || b[i+1] != ' ' {
			return needMore, ReasonTarget
		}
		req.Path = "*"
		return i + 2, ReasonNone
	default:
		var reason Reason
		if i, reason = parseScheme(b, i, req, start+limit); i == needMore {
			return needMore, reason
		}
	}
	path := i
	for i < len(b) && is(b[i], classPath) {
		i++
	}
	for i < len(b) && b[i] == '%' {
		if len(b)-i < 3 {
			return needMore, targetSoFar(i-start, limit)
		}
		if !is(b[i+1], classHex) || !is(b[i+2], classHex) {
			return needMore, ReasonTarget
		}
		for i += 3; i < len(b) && is(b[i], classPath); i++ {
		}
	}
	req.Path = view(b[path:i])
	if i < len(b) && b[i] == '?' {
		i++
		query := i
		for i < len(b) && is(b[i], classQuery) {
			i++
		}
		req.Query, req.HasQuery = view(b[query:i]), true
	}
	if i-start > limit {
		return needMore, ReasonTargetTooLong
	}
	if i == len(b) {
		return needMore, ReasonNone
	}
	if b[i] != ' ' {
		return needMore, badTarget(b[i])
	}
	if req.Path == "" { // absolute form only: RFC 9112, section 3.2.4
		req.Path = "/"
		if req.Method == http.MethodOptions && !req.HasQuery {
			req.Path = "*"
		}
	}
	return i + 1, ReasonNone
}

// parseScheme reads "http://authority" of an absolute-form target.
func parseScheme(b []byte, i int, req *exchange.Request, limit int) (int, Reason) {
	start := i
	for i < len(b) && b[i] != ':' {
		if !is(b[i], classHost) || i-start > len("https") {
			return needMore, badTarget(b[i])
		}
		i++
	}
	scheme := view(b[start:i])
	if len(b)-i < len("://") {
		return needMore, ReasonNone
	}
	if !exchange.EqualFold(scheme, "http") && !exchange.EqualFold(scheme, "https") || string(b[i:i+3]) != "://" {
		return needMore, ReasonTarget
	}
	i += 3
	authority := i
	for i < len(b) && (is(b[i], classHost|classLiteral) || b[i] == '[' || b[i] == ']') {
		i++
	}
	if i == len(b) {
		return needMore, targetSoFar(i, limit)
	}
	if c := b[i]; c != '/' && c != '?' && c != ' ' {
		return needMore, badTarget(c)
	}
	req.Authority = view(b[authority:i])
	if !validAuthority(req.Authority) {
		return needMore, ReasonTarget
	}
	return i, ReasonNone
}

func targetSoFar(n, limit int) Reason {
	if n > limit {
		return ReasonTargetTooLong
	}
	return ReasonNone
}

func badTarget(c byte) Reason {
	switch c {
	case '\n':
		return ReasonBareLF
	case '\r':
		return ReasonRequestLine
	default:
		return ReasonTarget
	}
}

// partialVersion refuses early what cannot become a version.
func partialVersion(b []byte) Reason {
	for i, c := range b {
		if c == "HTTP/1.1\r\n"[i] || (i == 7 && c == '0') {
			continue
		}
		return badVersion(b)
	}
	return ReasonNone
}

func badVersion(b []byte) Reason {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			return ReasonBareLF
		}
	}
	return ReasonVersion
}

// finishRequest judges the head as a whole.
func finishRequest(req *exchange.Request, h *head) Reason {
	if reason := h.framing(req.Proto); reason != ReasonNone {
		return reason
	}
	if h.hosts > 1 || (h.hosts == 0 && req.Proto == exchange.HTTP11) || (h.hosts == 1 && !validAuthority(h.host)) {
		return ReasonHost
	}
	if req.Authority == "" { // else RFC 9112, section 3.2.2: the target's overrides
		req.Authority = h.host
	}
	switch {
	case h.codings > 0:
		req.ContentLength = -1
	default:
		req.ContentLength = h.length
	}
	hasBody := req.ContentLength != 0
	req.ExpectContinue = false
	if req.Proto == exchange.HTTP11 { // RFC 9110, section 10.1.1: ignored in HTTP/1.0
		if h.badExpect {
			return ReasonExpect
		}
		req.ExpectContinue = h.expects && hasBody
	}
	req.Upgrade = ""
	if req.Proto == exchange.HTTP11 && !hasBody {
		req.Upgrade = h.switchTo()
	}
	req.TETrailers = h.teTrailers
	h.dropNamed(&req.Header)
	return ReasonNone
}
