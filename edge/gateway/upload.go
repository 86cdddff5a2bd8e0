package gateway

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
)

// upload is a request's body that comes while it is sent on, or whose trailer
// is the route's to change. It notes whether the client kept the transport
// waiting: a timeout is the client's fault then, and not the endpoint's.
type upload struct {
	body exchange.Body // nil: the request has none, or nothing is to be watched
	// changes of the request's fields, which must not come back as trailers.
	changes []rewrite.Change
	// broken: the last pull got nothing, because the client sent nothing, or
	// not in time.
	broken atomic.Bool
	pulled atomic.Bool // some of it was
}

var (
	_ exchange.Body        = (*upload)(nil)
	_ exchange.Interrupter = (*upload)(nil)
)

func (c *call) watchUpload() {
	c.upload.pulled.Store(false)
	body := c.x.Request.Body
	if body == nil {
		return
	}
	c.upload.changes = nil
	if w := c.rewriter(); w != nil {
		c.upload.changes = w.Request
	}
	if _, all := body.Buffered(); all && len(c.upload.changes) == 0 {
		return
	}
	c.upload.body = body
	c.upload.broken.Store(false)
	c.x.Request.Body = &c.upload
}

// hasAll reports whether all of the request is there for one more attempt.
func (c *call) hasAll() bool { return !c.upload.pulled.Load() || atHand(&c.x.Request) }

// stalled reports whether a failure is a timeout that the client brought about.
func (u *upload) stalled(failure *exchange.Error) bool {
	return u.body != nil && failure.Timeout && failure.Fault == exchange.FaultUpstream && u.broken.Load()
}

// Next implements [exchange.Body].
func (u *upload) Next() ([]byte, error) {
	u.pulled.Store(true)
	piece, err := u.body.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		u.broken.Store(true)
	}
	return piece, err
}

// Buffered implements [exchange.Body].
func (u *upload) Buffered() ([]byte, bool) { return u.body.Buffered() }

// Trailer implements [exchange.Body].
func (u *upload) Trailer() *exchange.Fields {
	trailer := u.body.Trailer()
	if trailer == nil {
		return nil
	}
	for i := range u.changes {
		if change := &u.changes[i]; change.Action != rewrite.ActionAdd {
			trailer.DelLike(change.Name)
		}
	}
	return trailer
}

// Close implements [exchange.Body].
func (u *upload) Close() error { return u.body.Close() }

// Interrupt implements [exchange.Interrupter].
func (u *upload) Interrupt() {
	if waits, ok := u.body.(exchange.Interrupter); ok {
		waits.Interrupt()
	}
}
