package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Impaired asks the router's kernel whether a link is as it was told to be:
// blocked, slow, losing packets. It returns nil, or what is missing; a link
// that was told nothing is an error.
func (l *Lab) Impaired(ctx context.Context, from, to string) error {
	if l.network == nil {
		return fmt.Errorf("look at the link from %s to %s: %w", from, to, ErrNoNetwork)
	}
	if err := l.network.impaired(ctx, pair{from, to}); err != nil {
		return fmt.Errorf("look at the link from %s to %s: %w", from, to, err)
	}
	return nil
}

func (n *network) impaired(ctx context.Context, way pair) error {
	if _, err := n.flow(way); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	n.mu.Lock()
	told, drops := n.links[way], n.drops(way)
	n.mu.Unlock()
	if !told.blocked && !told.slow() && len(drops) == 0 {
		return errors.New("nothing is wrong with it")
	}
	if told.blocked || told.slow() {
		if err := n.led(ctx, way, told.blocked); err != nil {
			return err
		}
	}
	if len(drops) == 0 {
		return nil
	}
	listed, err := n.ask(ctx, "nft", "list", "table", "ip", filterTable)
	if err != nil {
		return err
	}
	for _, d := range drops {
		if !strings.Contains(listed, fmt.Sprintf("drop comment %q", d.comment)) {
			return fmt.Errorf("the packet filter has no rule for %s", d.comment)
		}
	}
	return nil
}

// led reports packets of a way that the router leads elsewhere than to nowhere,
// or to the relay.
func (n *network) led(ctx context.Context, way pair, nowhere bool) error {
	route, err := n.ask(ctx, "ip", "route", "get", n.address(way.to), "from", n.address(way.from), "iif", way.from)
	switch {
	case nowhere && err == nil:
		return fmt.Errorf("packets pass: %s", route)
	// What the kernel says of a route that leads into a black hole.
	case nowhere && strings.Contains(err.Error(), "Invalid argument"):
		return nil
	case err != nil:
		return err
	case !strings.Contains(route, " dev "+relayLink+" "):
		return fmt.Errorf("packets do not go through the relay: %s", route)
	}
	return n.relay.failed()
}

// ask runs a command in the router and returns what it says, on one line.
func (n *network) ask(ctx context.Context, program string, args ...string) (said string, err error) {
	var out, complaint bytes.Buffer
	command := exec.CommandContext(ctx, program, args...)
	command.Stdout, command.Stderr = &out, &complaint
	err = n.within(router, command.Run)
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", program, err, oneLine(complaint.String()))
	}
	return oneLine(out.String()), err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
