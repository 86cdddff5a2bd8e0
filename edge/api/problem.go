package api

import (
	"fmt"
	"strings"

	"github.com/grayfed/grayfed/federation"
)

// ProblemType names a kind of problem, for programs.
type ProblemType string

// The kinds of problems. What its HTTP status says already is ProblemBlank.
const (
	ProblemBlank       ProblemType = "about:blank"
	ProblemBody        ProblemType = "urn:grayfed:problem:body"        // 400: not JSON, or not one object; Detail has the position
	ProblemFields      ProblemType = "urn:grayfed:problem:fields"      // 422: Errors names the fields
	ProblemHeader      ProblemType = "urn:grayfed:problem:header"      // 400: Errors names the request header
	ProblemOwned       ProblemType = "urn:grayfed:problem:owned"       // 409: Owner has this live id
	ProblemConflict    ProblemType = "urn:grayfed:problem:conflict"    // 409: other writers were faster; try again
	ProblemRevision    ProblemType = "urn:grayfed:problem:revision"    // 412: If-Match names another revision
	ProblemToken       ProblemType = "urn:grayfed:problem:token"       // 401: no token, or one that the edge does not know
	ProblemRole        ProblemType = "urn:grayfed:problem:role"        // 403: the token may only read
	ProblemOrigin      ProblemType = "urn:grayfed:problem:origin"      // 403: sent by a web page, or to a strange host name
	ProblemUnavailable ProblemType = "urn:grayfed:problem:unavailable" // 503: try again after Retry-After
	ProblemNotReady    ProblemType = "urn:grayfed:problem:not-ready"   // 503: of /readyz; Detail has the reason
	ProblemNoInstance  ProblemType = "urn:grayfed:problem:no-instance" // 404: no such instance: register it (anew)
	ProblemNoRelease   ProblemType = "urn:grayfed:problem:no-release"  // 404: no such release
	ProblemSubscribers ProblemType = "urn:grayfed:problem:subscribers" // 503: too many read the events
)

// Problem is an error as the API tells it: an RFC 9457 problem document. The
// client returns it as an error.
type Problem struct {
	Type   ProblemType `json:"type"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitempty"`
	// Instance is the path that was asked for.
	Instance string `json:"instance,omitempty"`
	// Errors is what is wrong with each field, of body, path or header.
	Errors federation.FieldErrors `json:"errors,omitempty"`
	// Owner is the edge that owns the instance, with ProblemOwned.
	Owner string `json:"owner,omitempty"`
}

var _ error = (*Problem)(nil)

// Error is one line: the title, the detail and what is wrong with each field.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d)", p.Title, p.Status)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	if len(p.Errors) > 0 {
		b.WriteString(": " + p.Errors.Error())
	}
	return b.String()
}
