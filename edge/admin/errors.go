package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// What a [Registrar] and a [Heartbeats] refuse with.
var (
	// ErrNotFound: no such instance is registered (404).
	ErrNotFound = errors.New("instance is not registered")
	// ErrPreconditionFailed: the instance has another revision than
	// WriteOptions.IfMatch (412).
	ErrPreconditionFailed = errors.New("revision does not match")
	// ErrConflict: other writers were faster at every try (409).
	ErrConflict = errors.New("too many concurrent writes of the instance")
	// ErrUnavailable: etcd or the owning edge did not answer in time (503).
	ErrUnavailable = errors.New("registry is unavailable")
)

// OwnedError refuses a live id of another living edge (409).
type OwnedError struct {
	Owner string // edge id
}

// Error names the owner.
func (e *OwnedError) Error() string { return "instance is owned by edge " + e.Owner }

// problemOf is what a client is told of an error; internal: it is not the
// client's fault and not foreseen, so it is logged and not told.
func problemOf(err error) (p *api.Problem, internal bool) {
	if known, ok := errors.AsType[*api.Problem](err); ok {
		return known, false
	}
	if fields, ok := errors.AsType[federation.FieldErrors](err); ok {
		return invalidFields(fields), false
	}
	if owned, ok := errors.AsType[*OwnedError](err); ok {
		p = problem(http.StatusConflict, api.ProblemOwned, "Instance Id Is Taken",
			"a living instance of this id is registered at edge "+owned.Owner+": deregister it first, or choose another id")
		p.Owner = owned.Owner
		return p, false
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return problem(http.StatusNotFound, api.ProblemNoInstance, "No Such Instance", "it is not registered, or not any more: register it"), false
	case errors.Is(err, ErrPreconditionFailed):
		return problem(http.StatusPreconditionFailed, api.ProblemRevision, "Precondition Failed", err.Error()), false
	case errors.Is(err, ErrConflict):
		return problem(http.StatusConflict, api.ProblemConflict, "Too Many Concurrent Writes", "other writers of this instance were faster: try again"), false
	case errors.Is(err, ErrUnavailable):
		return problem(http.StatusServiceUnavailable, api.ProblemUnavailable, "Registry Unavailable", err.Error()), false
	case errors.Is(err, context.Canceled):
		// The client went away; nobody reads this.
		return problem(http.StatusServiceUnavailable, api.ProblemUnavailable, "Request Ended", "the request was cancelled"), false
	}
	return problem(http.StatusInternalServerError, api.ProblemBlank, http.StatusText(http.StatusInternalServerError),
		"the edge's log says more"), true
}

func problem(status int, kind api.ProblemType, title, detail string) *api.Problem {
	return &api.Problem{Type: kind, Title: title, Status: status, Detail: detail}
}

// plainProblem is one whose status says it all.
func plainProblem(status int, detail string) *api.Problem {
	return problem(status, api.ProblemBlank, http.StatusText(status), detail)
}

// maxFieldErrors bounds what one answer lists.
const maxFieldErrors = 32

func invalidFields(fields federation.FieldErrors) *api.Problem {
	p := problem(http.StatusUnprocessableEntity, api.ProblemFields, "Invalid Fields", "nothing was stored")
	p.Errors = fields[:min(len(fields), maxFieldErrors)]
	return p
}

func badHeader(name, found, allowed string) *api.Problem {
	p := problem(http.StatusBadRequest, api.ProblemHeader, "Invalid Request Header", "")
	p.Errors = federation.FieldErrors{{Field: name, Found: found, Allowed: allowed}}
	return p
}
