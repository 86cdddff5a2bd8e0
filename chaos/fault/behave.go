package fault

import "context"

// behaving lets the instances that spec names misbehave. An instance has one
// behaviour: two such faults on it at a time would undo each other.
func behaving(what string, spec *Spec, target any) (Fault, error) {
	_, matched, err := parts(spec.Parts, target)
	if err != nil {
		return nil, err
	}
	instances, err := need[Behaving](target, "instances that misbehave when told")
	if err != nil {
		return nil, err
	}
	percent, delay := spec.Percent, spec.Delay
	return &plan{what: what + list(matched), do: func(ctx context.Context, u *undo) error {
		for _, part := range matched {
			// Before the call, which may have done it and yet fail.
			u.push("let "+part+" behave", func(ctx context.Context) error { return instances.Behave(ctx, part, 0, 0) })
			if err := instances.Behave(ctx, part, percent, delay); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}
