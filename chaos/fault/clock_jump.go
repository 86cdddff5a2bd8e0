package fault

import (
	"context"
	"fmt"
)

// newClockJump sets the wall clock of edges off, through the file that they
// read it from; no other process sees it.
func newClockJump(spec Spec, target any) (Fault, error) {
	clocks, err := need[Clocks](target, "clocks that can be set off")
	if err != nil {
		return nil, err
	}
	named, files, err := zoneFiles(spec.Zones, target, "clock file", clocks.ClockFile)
	if err != nil {
		return nil, err
	}
	return &plan{what: fmt.Sprintf("set the clock of %s off by %+v", list(named), spec.Jump), do: func(_ context.Context, u *undo) error {
		for _, file := range files {
			if err := swapFile(u, file, []byte(spec.Jump.String()+"\n")); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// zoneFiles are the files of zones, each named once.
func zoneFiles(patterns []string, target any, what string, of func(zone string) string) (named, files []string, err error) {
	if named, err = zones(patterns, target); err != nil {
		return nil, nil, err
	}
	seen := make(map[string]bool)
	for _, zone := range named {
		file := of(zone)
		if file == "" {
			return nil, nil, fmt.Errorf("%w: zone %s has no %s", ErrUnsupported, zone, what)
		}
		if !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	return named, files, nil
}
