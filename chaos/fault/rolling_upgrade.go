package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// newRollingUpgrade lets one edge after another end as an operator ends it,
// starts another version of the program in its place, waits until that is ready,
// and for spec's delay before the next. Mended, they are rolled back likewise,
// the last first.
func newRollingUpgrade(spec Spec, target any) (Fault, error) {
	patterns := spec.Parts
	if len(patterns) == 0 {
		patterns = []string{"*/edge"}
	}
	processes, matched, err := parts(patterns, target)
	if err != nil {
		return nil, err
	}
	binaries, err := need[Binaries](target, "programs that can be replaced")
	if err != nil {
		return nil, err
	}
	clients, err := need[Clients](target, "API")
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(spec.Binary); err != nil {
		return nil, fmt.Errorf("binary: %w", err)
	} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("binary %s is not a program", spec.Binary)
	}
	return &plan{what: "upgrade " + list(matched) + " to " + spec.Binary, do: func(ctx context.Context, u *undo) error {
		for n, part := range matched {
			up := &upgrade{part: part, down: downed{processes: processes}, binaries: binaries, clients: clients}
			if n > 0 {
				up.rest = spec.Delay
				if err := pause(ctx, up.rest); err != nil {
					return err
				}
			}
			u.push("roll "+part+" back", up.back)
			if err := up.to(ctx, spec.Binary); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// upgrade is one part on its way to another program.
type upgrade struct {
	part     string
	down     downed
	binaries Binaries
	clients  Clients
	rest     time.Duration // between this part and the one before it, either way
	replaced bool          // it has been ended, and may run the other program
	returned bool          // it has been started as the target's own again
}

func (p *upgrade) to(ctx context.Context, binary string) error {
	if err := p.binaries.SetBinary(p.part, binary); err != nil {
		return err
	}
	if err := p.down.end(ctx, []string{p.part}, syscall.SIGTERM); err != nil {
		p.replaced = len(p.down.parts) > 0
		return err
	}
	p.replaced = true
	if err := p.down.start(ctx); err != nil {
		return err
	}
	return p.ready(ctx)
}

func (p *upgrade) back(ctx context.Context) error {
	if err := p.binaries.SetBinary(p.part, ""); err != nil {
		return err
	}
	if !p.replaced {
		return nil
	}
	if !p.returned {
		if len(p.down.parts) == 0 {
			err := p.down.end(ctx, []string{p.part}, syscall.SIGTERM)
			if errors.Is(err, os.ErrProcessDone) { // the other program has crashed
				p.down.parts, err = []string{p.part}, nil
			}
			if err != nil {
				return err
			}
		}
		if err := p.down.start(ctx); err != nil {
			return err
		}
		p.returned = true
	}
	if err := p.ready(ctx); err != nil {
		return err
	}
	return pause(ctx, p.rest)
}

// ready waits until an edge says so; other parts are ready when they listen.
func (p *upgrade) ready(ctx context.Context) error {
	zone, ok := strings.CutSuffix(p.part, "/edge")
	if !ok {
		return nil
	}
	edge, err := p.clients.Client(zone)
	if err != nil {
		return err
	}
	defer edge.Close()
	for {
		err := edge.Ready(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, poll) != nil {
			return fmt.Errorf("wait for %s to be ready: %w", p.part, err)
		}
	}
}
