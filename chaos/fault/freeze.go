package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	do := func(_ context.Context, u *undo) error {
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
	}
	return &plan{what: "freeze " + list(matched), do: do, effect: frozen(target, matched)}, nil
}

// frozen is the effect that is there when all parts' processes are stopped;
// nil where target does not know them.
func frozen(target any, parts []string) func(context.Context) error {
	pids, ok := target.(Pids)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error {
		for _, part := range parts {
			pid, err := pids.Pid(part)
			if err != nil {
				return err
			}
			// The signal is on its way until all threads have heard it.
			if err := await(ctx, poll, func() error { return stopped(pid) }); err != nil {
				return fmt.Errorf("%s: %w", part, err)
			}
		}
		return nil
	}
}

// stopped reports a process that goes on, by the state in proc_pid_stat(5): "pid
// (name) state ...", where the name may have brackets of its own.
func stopped(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return fmt.Errorf("ask whether process %d is stopped: %w", pid, err)
	}
	if fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(fields) == 0 || string(fields[0]) != "T" {
		return fmt.Errorf("process %d goes on", pid)
	}
	return nil
}
