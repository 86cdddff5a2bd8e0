package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
)

// poll is how often it is asked whether something has come about.
const poll = 20 * time.Millisecond

// parts are those of the target that patterns match.
func parts(patterns []string, target any) (Processes, []string, error) {
	processes, err := need[Processes](target, "processes")
	if err != nil {
		return nil, nil, err
	}
	matched, err := match("parts", patterns, processes.Parts())
	return processes, matched, err
}

// partsNamed are those whose last element is name: of every zone, or of all
// zones together.
func partsNamed(name string, target any) (Processes, []string, error) {
	processes, err := need[Processes](target, "processes")
	if err != nil {
		return nil, nil, err
	}
	var matched []string
	for _, part := range processes.Parts() {
		if path.Base(part) == name {
			matched = append(matched, part)
		}
	}
	if len(matched) == 0 {
		return nil, nil, fmt.Errorf("%w: it has no %s", ErrUnsupported, name)
	}
	return processes, matched, nil
}

func list(names []string) string { return strings.Join(names, ", ") }

// downed are parts that a fault has ended and not started again.
type downed struct {
	processes Processes
	parts     []string
}

// end sends signal to all parts at once and returns when they have ended. A
// part that had ended before is an error, and is not started again.
func (d *downed) end(ctx context.Context, parts []string, signal syscall.Signal) error {
	var errs []error
	first := len(d.parts)
	for _, part := range parts {
		if err := d.processes.Signal(part, signal); err != nil {
			errs = append(errs, fmt.Errorf("end %s: %w", part, err))
			continue
		}
		d.parts = append(d.parts, part)
	}
	for _, part := range d.parts[first:] {
		errs = append(errs, d.ended(ctx, part))
	}
	return errors.Join(errs...)
}

// ended waits for a part that has been told to end.
func (d *downed) ended(ctx context.Context, part string) error {
	for {
		err := d.processes.Signal(part, 0)
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask whether %s has ended: %w", part, err)
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("wait for %s to end: %w", part, err)
		}
	}
}

// effect reports a part that somebody else has started again.
func (d *downed) effect(context.Context) error {
	for _, part := range d.parts {
		switch err := d.processes.Signal(part, 0); {
		case err == nil:
			return fmt.Errorf("%s runs: somebody has started it again", part)
		case !errors.Is(err, os.ErrProcessDone):
			return fmt.Errorf("ask whether %s has ended: %w", part, err)
		}
	}
	return nil
}

// start starts them all together, as members of one quorum wait for each
// other; it keeps those that do not start.
func (d *downed) start(ctx context.Context) error {
	failed := make([]error, len(d.parts))
	var starting sync.WaitGroup
	for n, part := range d.parts {
		starting.Go(func() {
			failed[n] = guard.Do(func() error {
				if err := d.ended(ctx, part); err != nil {
					return err
				}
				return d.processes.Start(ctx, part)
			})
		})
	}
	starting.Wait()
	var left []string
	for n, part := range d.parts {
		if failed[n] != nil {
			left = append(left, part)
			failed[n] = fmt.Errorf("start %s: %w", part, failed[n])
		}
	}
	d.parts = left
	return errors.Join(failed...)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
