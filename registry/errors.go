package registry

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// What a caller decides on.
var (
	// ErrNotFound: no such instance is registered.
	ErrNotFound = errors.New("instance is not registered")
	// ErrPreconditionFailed: If-Match names another revision than etcd's.
	ErrPreconditionFailed = errors.New("revision does not match")
	// ErrUnavailable: etcd did not answer in time, or this edge holds no
	// lease yet, or the queue for later is full. Trying again may help.
	ErrUnavailable = errors.New("registry is unavailable")
	// ErrConflict: other writers were faster at every try.
	ErrConflict = errors.New("too many concurrent writes of the instance")
	// ErrDuplicateEdge: another living edge has this edge's id.
	ErrDuplicateEdge = errors.New("another edge with this id is alive")
)

// OwnedError refuses the registration of a live id that another living edge
// owns.
type OwnedError struct {
	Owner string // edge id
}

// Error names the owner.
func (e *OwnedError) Error() string { return "instance is owned by edge " + e.Owner }

// errUnchanged is what a decision returns when there is nothing to write.
var errUnchanged = errors.New("nothing to write")

// unavailable says that etcd could not be asked, unless the caller gave up.
func unavailable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}

// leaseGone reports whether a write was refused because the lease it names has
// ended.
func leaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }
