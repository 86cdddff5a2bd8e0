// Package api is the HTTP API of an edge as a client sees it: the JSON of
// requests and answers, the problem documents of errors, and a Go [Client].
// An edge's /openapi.json says the same for other languages.
//
// Names in JSON are snake_case, times are RFC 3339 in UTC, durations in
// requests are text such as "15s". An edge answers from its own view of the
// federation, which may be behind that of another edge: each answer about the
// federation carries the revision that it was made from.
package api

import "time"

const (
	// MaxBody is the largest request body an edge reads, in bytes.
	MaxBody = 64 << 10
	// DefaultTTL is how long an instance lives without a heartbeat when its
	// registration names no ttl: three heartbeats of 5 s.
	DefaultTTL = 15 * time.Second
)

// Media types: of bodies both ways, of errors (RFC 9457), of GET /v1/events.
const (
	ContentTypeJSON    = "application/json"
	ContentTypeProblem = "application/problem+json"
	ContentTypeEvents  = "text/event-stream"
)
