package fault

import (
	"context"
	"syscall"
)

// newKill kills processes; mended, they are started again.
func newKill(spec Spec, target any) (Fault, error) {
	processes, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	return killing("kill "+list(matched), processes, matched), nil
}

func killing(what string, processes Processes, parts []string) *plan {
	down := &downed{processes: processes}
	return &plan{what: what, effect: down.effect, do: func(ctx context.Context, u *undo) error {
		u.push("start again", down.start)
		return down.end(ctx, parts, syscall.SIGKILL)
	}}
}
