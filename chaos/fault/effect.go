package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

const (
	// effectTimeout bounds the wait for an effect. Edges look at their files
	// once a second or more often.
	effectTimeout = 10 * time.Second
	// askEdges is how often an edge is asked, which has a drill's load to carry.
	askEdges = 200 * time.Millisecond
)

var _ Effective = (*plan)(nil)

// Effect implements [Effective]: nil as well where the target has no means to
// tell. It waits 10 s at most.
func (p *plan) Effect(ctx context.Context) error {
	if len(p.undo.steps) == 0 {
		return errors.New("it is not broken")
	}
	if p.effect == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	return p.effect(ctx)
}

// await asks again and again until nothing is missing, or returns what was
// when ctx ended.
func await(ctx context.Context, every time.Duration, check func() error) (missing error) {
	for {
		err := check()
		if err == nil {
			return nil
		}
		// That ctx ended says nothing about what is missing.
		if missing == nil || ctx.Err() == nil {
			missing = err
		}
		if pause(ctx, every) != nil {
			return missing
		}
	}
}

// onEdges is the effect that is there when check finds nothing missing at the
// edge of each zone; nil where target has no way to ask them.
func onEdges(target any, zones []string, check func(*api.Federation) error) func(context.Context) error {
	clients, ok := target.(Clients)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error {
		for _, zone := range zones {
			edge, err := clients.Client(zone)
			if err != nil {
				return err
			}
			err = await(ctx, askEdges, func() error {
				said, err := edge.Federation(ctx)
				if err != nil {
					return err
				}
				return check(said)
			})
			edge.Close()
			if err != nil {
				return fmt.Errorf("edge of %s: %w", zone, err)
			}
		}
		return nil
	}
}
