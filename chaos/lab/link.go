package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// commandTimeout bounds one change of the packet filter.
const commandTimeout = 10 * time.Second

// Routing rules go by priority, the lowest number first; the kernel's own that
// leads to the main table has 32766. A blocked link is not slow as well.
const (
	blockPriority = 100
	relayPriority = 200
)

// filterTable is the router's table of the packet filter.
const filterTable = "grayfed"

// pair is one way between two nodes.
type pair struct{ from, to string }

// link is what is wrong with it. The zero value is a sound one.
type link struct {
	blocked bool
	ports   []int // blocked for TCP and UDP, by the receiver's port; sorted
	loss    int   // percent of packets
	delay   time.Duration
	rate    int64 // bytes per second; 0: as fast as it goes
}

func (l *link) slow() bool { return l.delay > 0 || l.rate > 0 }

// Block drops all packets from one node to another, or lets them pass again.
// The other direction is another call. Nodes are those of [Lab.Nodes], and
// "client" for the caller's namespace.
func (l *Lab) Block(from, to string, on bool) error {
	return l.change(from, to, func(s *link) error {
		s.blocked = on
		return nil
	})
}

// BlockPort is [Lab.Block] for TCP and UDP packets to one port, 1 to 65535.
func (l *Lab) BlockPort(from, to string, port int, on bool) error {
	return l.change(from, to, func(s *link) error {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port is %d, allowed 1 to 65535", port)
		}
		s.ports = slices.DeleteFunc(slices.Clone(s.ports), func(p int) bool { return p == port })
		if on {
			s.ports = append(s.ports, port)
			slices.Sort(s.ports)
		}
		return nil
	})
}

// Lose drops packets at random, percent of 100; 0 mends.
func (l *Lab) Lose(from, to string, percent int) error {
	return l.change(from, to, func(s *link) error {
		if percent < 0 || percent > 100 {
			return fmt.Errorf("loss is %d%%, allowed 0 to 100", percent)
		}
		s.loss = percent
		return nil
	})
}

// Slow delays each packet, up to 1 min, and paces them to bytesPerSecond, from
// 1000; 0 is no limit. Packets beyond a queue of 1000 are dropped, as by
// tc-netem. 0 and 0 mend.
func (l *Lab) Slow(from, to string, delay time.Duration, bytesPerSecond int64) error {
	return l.change(from, to, func(s *link) error {
		if delay < 0 || delay > time.Minute {
			return fmt.Errorf("delay is %s, allowed 0 to 1m", delay)
		}
		if bytesPerSecond != 0 && bytesPerSecond < 1000 {
			return fmt.Errorf("rate is %d bytes per second, allowed from 1000, or 0", bytesPerSecond)
		}
		s.delay, s.rate = delay, bytesPerSecond
		return nil
	})
}

// change changes the link from one node to another.
func (l *Lab) change(from, to string, edit func(*link) error) error {
	if l.network == nil {
		return fmt.Errorf("change the link from %s to %s: %w", from, to, ErrNoNetwork)
	}
	if err := l.network.change(pair{from, to}, edit); err != nil {
		return fmt.Errorf("change the link from %s to %s: %w", from, to, err)
	}
	return nil
}

// Carried is how many packets a slow link has let through and dropped, beyond
// its queue, since the lab began.
func (l *Lab) Carried(from, to string) (passed, dropped int64, err error) {
	if l.network == nil {
		return 0, 0, fmt.Errorf("count packets from %s to %s: %w", from, to, ErrNoNetwork)
	}
	way, err := l.network.flow(pair{from, to})
	if err != nil {
		return 0, 0, fmt.Errorf("count packets from %s to %s: %w", from, to, err)
	}
	passed, dropped = l.network.relay.counts(way)
	return passed, dropped, nil
}

// flow has the addresses of one way between two nodes.
func (n *network) flow(way pair) (flow, error) {
	for _, node := range []string{way.from, way.to} {
		if n.number(node) < 0 {
			return flow{}, fmt.Errorf("no node %q: there are %s", node, strings.Join(n.nodes, ", "))
		}
	}
	if way.from == way.to {
		return flow{}, errors.New("a node reaches itself without the network")
	}
	return flow{netip.MustParseAddr(n.address(way.from)), netip.MustParseAddr(n.address(way.to))}, nil
}

func (n *network) change(way pair, edit func(*link) error) error {
	addresses, err := n.flow(way)
	if err != nil {
		return err
	}
	// Held while the changes are made, so that two do not overtake each other:
	// the router does what links says.
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.links[way]
	want := now
	if err := edit(&want); err != nil {
		return err
	}
	if want.blocked != now.blocked {
		if err := n.rules.set(want.blocked, rule{flow: addresses, priority: blockPriority}); err != nil {
			return err
		}
		now.blocked = want.blocked
		n.links[way] = now
	}
	if want.loss != now.loss || !slices.Equal(want.ports, now.ports) {
		before := now
		now.loss, now.ports = want.loss, want.ports
		n.links[way] = now
		if err := n.filter(); err != nil {
			n.links[way] = before
			return err
		}
	}
	if want.delay != now.delay || want.rate != now.rate {
		if want.slow() {
			n.relay.set(addresses, want.delay, want.rate)
		}
		if want.slow() != now.slow() {
			// Only what comes from the node itself: what the relay gives back
			// does not, and what is in it when the link is mended still leaves
			// it in time.
			detour := rule{flow: addresses, input: way.from, table: relayTable, priority: relayPriority}
			if err := n.rules.set(want.slow(), detour); err != nil {
				return err
			}
		}
		n.links[way] = want
	}
	return nil
}

// drop is a rule of the router's packet filter. It is known again by its
// comment: the filter writes matches in its own way.
type drop struct{ match, comment string }

// drops are the rules for what is wrong with one way. The caller holds mu.
func (n *network) drops(way pair) []drop {
	s := n.links[way]
	var list []drop
	add := func(match, what string, value int) {
		list = append(list, drop{match, fmt.Sprintf("%s to %s, %s %d", way.from, way.to, what, value)})
	}
	for _, port := range s.ports {
		add(fmt.Sprintf("meta l4proto { tcp, udp } th dport %d", port), "port", port)
	}
	switch {
	case s.loss == 100:
		add("", "percent", s.loss)
	case s.loss > 0:
		add(fmt.Sprintf("numgen random mod 100 < %d", s.loss), "percent", s.loss)
	}
	return list
}

// filter has the router drop packets at random or by their port, as the links
// say, in one transaction.
func (n *network) filter() error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var rules strings.Builder
	fmt.Fprintf(&rules, "table ip %[1]s\ndelete table ip %[1]s\ntable ip %[1]s {\n chain forward {\n"+
		"  type filter hook forward priority 0; policy accept;\n", filterTable)
	for _, way := range slices.SortedFunc(maps.Keys(n.links), func(a, b pair) int {
		return strings.Compare(a.from+" "+a.to, b.from+" "+b.to)
	}) {
		for _, d := range n.drops(way) {
			// Each packet is judged once: not again when it leaves the relay.
			fmt.Fprintf(&rules, "  iifname != %q ip saddr %s ip daddr %s %s drop comment %q\n",
				relayLink, n.address(way.from), n.address(way.to), d.match, d.comment)
		}
	}
	rules.WriteString(" }\n}\n")
	return n.within(router, func() error { return feed(exec.CommandContext(ctx, "nft", "-f", "-"), rules.String()) })
}
