package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// stops are the named endings of what was started, run in reverse order: also
// when assembling an edge fails half way.
type stops struct {
	list []namedStop
}

type namedStop struct {
	name string
	stop func() error
}

func (s *stops) push(name string, stop func() error) {
	s.list = append(s.list, namedStop{name, stop})
}

// run ends everything, latest first, and joins what went wrong.
func (s *stops) run() error {
	var errs []error
	for i := len(s.list) - 1; i >= 0; i-- {
		if err := s.list[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.list[i].name, err))
		}
	}
	s.list = nil
	return errors.Join(errs...)
}

// group runs the parts of an edge. When one of them ends with an error, failed
// is cancelled with it as the cause.
type group struct {
	failed context.Context
	cancel context.CancelCauseFunc
}

func newGroup(ctx context.Context) *group {
	failed, cancel := context.WithCancelCause(ctx)
	return &group{failed: failed, cancel: cancel}
}

// start runs one part until the stop that it pushes is called. A part that ends
// by itself without an error is done; one that ends with an error ends the
// edge.
func (g *group) start(stops *stops, name string, run func(context.Context) error) {
	// Not derived from the edge's context: parts end in order, not at once.
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		err = run(ctx)
		if err != nil && ctx.Err() == nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
	stops.push(name, func() error {
		cancel()
		wg.Wait()
		if errors.Is(err, context.Canceled) || context.Cause(g.failed) != nil && errors.Is(context.Cause(g.failed), err) {
			return nil // told to end, or told already as the cause
		}
		return err
	})
}
