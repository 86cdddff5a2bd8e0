package fault

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// newRollingUpgrade lets one edge after another end as an operator ends it,
// starts another version of the program in its place, and waits until that is
// ready. Mended, they are rolled back one after another, the last first.
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
		for _, part := range matched {
			up := &upgrade{part: part, down: downed{processes: processes}, binaries: binaries, clients: clients}
			u.push("roll "+part+" back", up.back)
			if err := up.to(ctx, spec.Binary); err != nil {
				return err
			}
			if err := pause(ctx, spec.Delay); err != nil {
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
	replaced bool // it has been ended, and may run the other program
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
	if p.replaced && len(p.down.parts) == 0 {
		if err := p.down.end(ctx, []string{p.part}, syscall.SIGTERM); err != nil {
			return err
		}
	}
	if err := p.down.start(ctx); err != nil {
		return err
	}
	p.replaced = false // it runs the target's own again, ready or not
	return p.ready(ctx)
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
