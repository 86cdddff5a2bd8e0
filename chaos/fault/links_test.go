package fault

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// network records what is asked of links: a stand-in for the lab's, whose own
// tests, and drills, break real ones.
type network struct {
	nodes []string
	calls []string
	fail  map[string]error
}

var (
	_ Links   = (*network)(nil)
	_ Slowing = (*network)(nil)
	_ Ports   = (*network)(nil)
)

func (n *network) note(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	n.calls = append(n.calls, what)
	return n.fail[what]
}

func (n *network) asked() []string {
	calls := n.calls
	n.calls = nil
	return calls
}

func (n *network) Nodes() []string { return n.nodes }

func (n *network) Block(from, to string, on bool) error {
	return n.note("block %s %s %t", from, to, on)
}

func (n *network) Lose(from, to string, percent int) error {
	return n.note("lose %s %s %d", from, to, percent)
}

func (n *network) Slow(from, to string, delay time.Duration, rate int64) error {
	return n.note("slow %s %s %s %d", from, to, delay, rate)
}

func (n *network) BlockPort(from, to string, port int, on bool) error {
	return n.note("port %s %s %d %t", from, to, port, on)
}

// TestLinks: which links each fault breaks, in which direction, and that they
// are mended in reverse.
func TestLinks(t *testing.T) {
	for _, test := range []struct {
		spec   Spec
		words  string
		breaks []string
		mends  []string
	}{
		{
			Spec{Kind: "partition", From: []string{"az1"}}, "part az1 from az2, w1",
			[]string{"block az1 az2 true", "block az2 az1 true", "block az1 w1 true", "block w1 az1 true"},
			[]string{"block w1 az1 false", "block az1 w1 false", "block az2 az1 false", "block az1 az2 false"},
		},
		{
			Spec{Kind: "partition", From: []string{"az1"}, To: []string{"w*"}, Client: true}, "part az1 from w1, client",
			[]string{"block az1 w1 true", "block w1 az1 true", "block az1 client true", "block client az1 true"},
			[]string{"block client az1 false", "block az1 client false", "block w1 az1 false", "block az1 w1 false"},
		},
		{
			// Nobody is parted from itself, and no link is broken twice.
			Spec{Kind: "partition", From: []string{"az*"}, To: []string{"az*"}}, "part az1, az2 from az1, az2",
			[]string{"block az1 az2 true", "block az2 az1 true"},
			[]string{"block az2 az1 false", "block az1 az2 false"},
		},
		{
			Spec{Kind: "one-way-partition", From: []string{"az1"}, To: []string{"az2"}}, "nothing from az1 to az2",
			[]string{"block az1 az2 true"}, []string{"block az1 az2 false"},
		},
		{
			Spec{Kind: "one-way-partition", From: []string{"client"}, To: []string{"az2"}}, "nothing from client to az2",
			[]string{"block client az2 true"}, []string{"block client az2 false"},
		},
		{
			Spec{Kind: "one-way-partition", From: []string{"az2"}, To: []string{"client"}}, "nothing from az2 to client",
			[]string{"block az2 client true"}, []string{"block az2 client false"},
		},
		{
			Spec{Kind: "loss", From: []string{"w1"}, To: []string{"az1"}, Percent: 30}, "lose 30% between w1 and az1",
			[]string{"lose w1 az1 30", "lose az1 w1 30"}, []string{"lose az1 w1 0", "lose w1 az1 0"},
		},
		{
			Spec{Kind: "slow-link", From: []string{"w1"}, To: []string{"az1"}, Delay: time.Second, Rate: 1000}, "slow w1 and az1 by 1s to 1000 bytes/s",
			[]string{"slow w1 az1 1s 1000", "slow az1 w1 1s 1000"}, []string{"slow az1 w1 0s 0", "slow w1 az1 0s 0"},
		},
		{
			Spec{Kind: "gossip-loss", From: []string{"az2"}, To: []string{"az1"}, Port: 7946}, "no gossip (port 7946) between az2 and az1",
			[]string{"port az2 az1 7946 true", "port az1 az2 7946 true"}, []string{"port az1 az2 7946 false", "port az2 az1 7946 false"},
		},
	} {
		n := &network{nodes: []string{"az1", "az2", "w1"}}
		f := create(t, test.spec, n)
		if f.String() != test.words {
			t.Errorf("it is called %q, want %q", f, test.words)
		}
		same(t, "before", n.asked(), nil)
		broken(t, f)
		same(t, test.words, n.asked(), test.breaks)
		mended(t, f)
		same(t, "mend: "+test.words, n.asked(), test.mends)
	}
}

// TestLinksInPart: what was broken, and what may have been, is mended; the rest
// is left alone; a link that cannot be mended keeps no other from it, and is
// tried again alone.
func TestLinksInPart(t *testing.T) {
	refused, stuck := errors.New("no room"), errors.New("busy")
	n := &network{nodes: []string{"az1", "az2", "az3"}, fail: map[string]error{"block az1 az3 true": refused, "block az2 az1 false": stuck}}
	f := create(t, Spec{Kind: "partition", From: []string{"az1"}}, n)
	if err := f.Break(limited(t)); !errors.Is(err, refused) {
		t.Errorf("break: %v", err)
	}
	same(t, "broken", n.asked(), []string{"block az1 az2 true", "block az2 az1 true", "block az1 az3 true"})
	for _, want := range [][]string{
		{"block az1 az3 false", "block az2 az1 false", "block az1 az2 false"},
		{"block az2 az1 false"},
	} {
		if err := f.Mend(limited(t)); !errors.Is(err, stuck) {
			t.Errorf("mend: %v", err)
		}
		same(t, "mended", n.asked(), want)
	}
	n.fail = nil
	mended(t, f)
	same(t, "mended at last", n.asked(), []string{"block az2 az1 false"})
}
