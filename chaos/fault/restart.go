package fault

import (
	"context"
	"syscall"
)

// newRestart ends processes as an operator does, and starts them again after
// a delay; only where that fails is there anything to mend.
func newRestart(spec Spec, target any) (Fault, error) {
	processes, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	return &plan{what: "restart " + list(matched), do: func(ctx context.Context, u *undo) error {
		down := &downed{processes: processes}
		u.push("start again", down.start)
		if err := down.end(ctx, matched, syscall.SIGTERM); err != nil {
			return err
		}
		if err := pause(ctx, spec.Delay); err != nil {
			return err
		}
		return down.start(ctx)
	}}, nil
}
