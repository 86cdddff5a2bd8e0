package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// client is the node that the load comes from, in a fault's from and to. It
// is not among the target's nodes, so no pattern matches it by chance.
const client = "client"

// link is one way between two nodes.
type link struct{ from, to string }

// sides are the nodes on both ends of the broken links.
func sides(spec *Spec, target any) (links Links, from, to []string, err error) {
	if links, err = need[Links](target, "network"); err != nil {
		return nil, nil, nil, err
	}
	known := links.Nodes()
	if from, err = nodes(spec.From, known); err != nil {
		return nil, nil, nil, err
	}
	if len(spec.To) > 0 {
		if to, err = nodes(spec.To, known); err != nil {
			return nil, nil, nil, err
		}
	} else {
		to = slices.DeleteFunc(slices.Clone(known), func(node string) bool { return slices.Contains(from, node) })
	}
	if spec.Client && !slices.Contains(to, client) {
		to = append(to, client)
	}
	if len(to) == 0 {
		return nil, nil, nil, errors.New("nodes: from has them all, to is left with none")
	}
	if len(from) == 1 && slices.Equal(from, to) {
		return nil, nil, nil, fmt.Errorf("nodes: there is no link from %s to itself", from[0])
	}
	return links, from, to, nil
}

// nodes are those that patterns match, the client by its name alone.
func nodes(patterns, known []string) ([]string, error) {
	others := slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool { return pattern == client })
	matched, err := match("nodes", others, known)
	if err == nil && len(others) < len(patterns) {
		matched = append(matched, client)
	}
	return matched, err
}

// ways are the links from each of from to each of to; and back.
func ways(from, to []string, back bool) []link {
	var all []link
	add := func(way link) {
		if way.from != way.to && !slices.Contains(all, way) {
			all = append(all, way)
		}
	}
	for _, f := range from {
		for _, t := range to {
			add(link{f, t})
			if back {
				add(link{t, f})
			}
		}
	}
	return all
}

// onLinks does something to each of target's links, and undoes it.
func onLinks(target any, what string, all []link, do, mend func(link) error) Fault {
	return &plan{what: what, effect: impaired(target, all), do: func(ctx context.Context, u *undo) error {
		for _, way := range all {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Before the call, which may have done it and yet fail.
			u.push(fmt.Sprintf("mend %s to %s", way.from, way.to), func(context.Context) error { return mend(way) })
			if err := do(way); err != nil {
				return fmt.Errorf("%s to %s: %w", way.from, way.to, err)
			}
		}
		return nil
	}}
}

// impaired is the effect on links, where target can tell.
func impaired(target any, all []link) func(context.Context) error {
	evidence, ok := target.(Evidence)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error {
		for _, way := range all {
			if err := evidence.Impaired(ctx, way.from, way.to); err != nil {
				return fmt.Errorf("%s to %s: %w", way.from, way.to, err)
			}
		}
		return nil
	}
}
