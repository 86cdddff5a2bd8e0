// Package admission bounds how many requests are under way at once, and lets a
// bounded number of others wait their turn for a place.
package admission

import (
	"fmt"
	"strconv"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Bounds of [Options].
const (
	MaxSize = 100_000
	MinWait = time.Millisecond
	MaxWait = time.Minute
)

// Options describe a queue.
type Options struct {
	// Size is how many requests may wait, 0 to MaxSize; 0: none.
	Size int
	// Wait is how long a request waits at most, MinWait to MaxWait; of no
	// meaning when Size is 0.
	Wait time.Duration
}

// Validate returns nil or a [federation.FieldErrors].
func (o Options) Validate() error {
	var wrong federation.FieldErrors
	if o.Size < 0 || o.Size > MaxSize {
		wrong = append(wrong, federation.FieldError{
			Field: "size", Found: strconv.Itoa(o.Size), Allowed: fmt.Sprintf("0 to %d requests", MaxSize),
		})
	}
	if o.Size != 0 && (o.Wait < MinWait || o.Wait > MaxWait) {
		wrong = append(wrong, federation.FieldError{
			Field: "wait", Found: o.Wait.String(), Allowed: fmt.Sprintf("%v to %v", MinWait, MaxWait),
		})
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}
