package fault

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// newFreeze stops processes where they are: their sockets stay open and
// nobody answers. Mended, they go on.
func newFreeze(spec Spec, target any) (Fault, error) {
	processes, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	return &plan{what: "freeze " + list(matched), do: func(_ context.Context, u *undo) error {
		for _, part := range matched {
			if err := processes.Signal(part, syscall.SIGSTOP); err != nil {
				return err
			}
			u.push("let "+part+" go on", func(context.Context) error {
				if err := processes.Signal(part, syscall.SIGCONT); !errors.Is(err, os.ErrProcessDone) {
					return err
				}
				return nil // it was killed meanwhile
			})
		}
		return nil
	}}, nil
}
