package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// undo is what Break has done so far, as steps that take it back.
type undo struct {
	steps []step
}

type step struct {
	what string
	run  func(ctx context.Context) error
}

func (u *undo) push(what string, run func(ctx context.Context) error) {
	u.steps = append(u.steps, step{what, run})
}

// mend runs the steps from the last to the first, and keeps those that fail.
func (u *undo) mend(ctx context.Context) error {
	var failed []step
	var errs []error
	for _, s := range slices.Backward(u.steps) {
		if err := s.run(ctx); err != nil {
			failed = append(failed, s)
			errs = append(errs, fmt.Errorf("%s: %w", s.what, err))
		}
	}
	slices.Reverse(failed)
	u.steps = failed
	return errors.Join(errs...)
}

// plan is a fault: what to do, and what has been done.
type plan struct {
	what string
	do   func(ctx context.Context, u *undo) error
	// effect says what is missing of it once it is done; nil: nothing can.
	effect func(ctx context.Context) error
	undo   undo
}

var _ Fault = (*plan)(nil)

func (p *plan) String() string { return p.what }

func (p *plan) Break(ctx context.Context) error {
	if len(p.undo.steps) > 0 {
		return fmt.Errorf("%s: it is broken already", p.what)
	}
	if err := p.do(ctx, &p.undo); err != nil {
		return fmt.Errorf("break: %s: %w", p.what, err)
	}
	return nil
}

func (p *plan) Mend(ctx context.Context) error {
	if err := p.undo.mend(ctx); err != nil {
		return fmt.Errorf("mend: %s: %w", p.what, err)
	}
	return nil
}
