package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

var (
	drawnNodes     = []string{"az1", "az2", "az3", "w1", "w2"}
	drawnPrimaries = []string{"az1", "az2"}
	drawnStandbys  = []string{"az3"}
)

// cutting are cuts by hand: "az1>az3" is one way, "az1-az3" is both.
func cutting(t testing.TB, text string) *cuts {
	t.Helper()
	c := &cuts{nodes: drawnNodes, cut: make(map[link]bool)}
	for _, word := range strings.Fields(text) {
		from, to, oneWay := strings.Cut(word, ">")
		if !oneWay {
			from, to, _ = strings.Cut(word, "-")
			c.cut[link{to, from}] = true
		}
		if !slices.Contains(drawnNodes, from) || !slices.Contains(drawnNodes, to) {
			t.Fatalf("%q names no two nodes", word)
		}
		c.cut[link{from, to}] = true
	}
	return c
}

// TestCutsTell: what the standby, its means being round trips, direct or through
// another that can, may know of the primaries.
func TestCutsTell(t *testing.T) {
	// Both primaries are out of the standby's reach, and Consul's.
	const apart = "az1-az3 az2>az3 "
	for _, test := range []struct {
		text string
		cuts string
		want bool
	}{
		{"nothing is cut", "", true},
		{"the standby reaches one primary alone", "az1-az3 az1-w1 az1-w2 az1-az2 az2-w1 az2>w2", true},
		{"it reaches one, which not all reach that may lead", "az1-az2 az1-w1 az1-w2 az2-az3 az2-w2 az3-w1", true},
		{"it reaches one through the other", "az1-az3 az1-w1 az1-w2 az2-w1 az2>w2", true},
		{"it reaches none, and consul one", apart + "az1-w1 az1>w2 az2-w1", true},
		{"consul reaches one through another that has no edge", apart + "az1-az2 az1-w1 az2-w1 az2-w2", true},
		{"the standby hears and is not heard, as consul", "az3>az1 az3>az2 w1>az1 w1>az2 w2>az1 w2>az2", false},
		{"it is heard and does not hear, as consul", "az1>az3 az2>az3 az1>w1 az2>w1 az1>w2 az2>w2", false},
		{"a witness is no way for gossip, and consul's leader reaches none", apart + "az1-w1 az1-w2 az2-w1 az2-w2", false},
		{"no majority has anybody to lead it", apart + "az1-w1 az1-w2 az2-w1 az2-w2 w1>w2 az3>w1", true},
		{"two that may lead reach one primary each", apart + "az1-az2 az1-w2 az2-w1 w1-w2", false},
	} {
		if got := cutting(t, test.cuts).tell(drawnPrimaries, drawnStandbys); got != test.want {
			t.Errorf("%s: %t", test.text, got)
		}
	}
}

// TestCutsOneSided: a partition of both ways is none of this kind.
func TestCutsOneSided(t *testing.T) {
	for text, want := range map[string]bool{"": false, "az1-az3 az2-w1": false, "az1-az3 w1>az2": true} {
		if got := cutting(t, text).oneSided(); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// TestDrawCuts holds many draws to what they promise, and to being of many
// kinds: some with a primary that the standby alone does not reach.
func TestDrawCuts(t *testing.T) {
	const seeds = 500
	seen := make(map[string]bool)
	hidden := 0
	for seed := int64(1); seed <= seeds; seed++ {
		c := drawCuts(drawnNodes, drawnPrimaries, drawnStandbys, seed)
		if again := drawCuts(drawnNodes, drawnPrimaries, drawnStandbys, seed); !maps.Equal(c.cut, again.cut) {
			t.Errorf("seed %d: %s, and then %s", seed, c.words(seed), again.words(seed))
		}
		for way := range c.cut {
			if way.from == way.to || !slices.Contains(drawnNodes, way.from) || !slices.Contains(drawnNodes, way.to) {
				t.Errorf("seed %d cuts %v", seed, way)
			}
		}
		if len(c.ways()) != len(c.cut) {
			t.Errorf("seed %d: %d ways of %d", seed, len(c.ways()), len(c.cut))
		}
		if !c.oneSided() || !c.tell(drawnPrimaries, drawnStandbys) {
			t.Errorf("seed %d: %s", seed, c.words(seed))
		}
		seen[c.words(0)] = true
		if !c.trip("az1", "az3") && !c.trip("az2", "az3") {
			hidden++
		}
	}
	if len(seen) < seeds*9/10 || hidden < seeds/10 {
		t.Errorf("%d different draws of %d, %d that leave the standby's probes nobody", len(seen), seeds, hidden)
	}
	// The smallest there may be.
	if c := drawCuts([]string{"a", "b"}, []string{"a"}, []string{"b"}, 1); len(c.cut) != 1 {
		t.Errorf("of two nodes: %s", c.words(1))
	}
}

// TestAsymmetricPartition: what is drawn is blocked and let pass again, and
// never a way of the clients.
func TestAsymmetricPartition(t *testing.T) {
	n := &network{nodes: drawnNodes}
	spec := Spec{Kind: "asymmetric-partition", From: []string{"az[12]"}, To: []string{"az3"}, Seed: 7}
	f := create(t, spec, n)
	same(t, "before", n.asked(), nil)
	want := drawCuts(drawnNodes, drawnPrimaries, drawnStandbys, 7)
	if f.String() != want.words(7) || !strings.HasPrefix(f.String(), "seed 7: nothing from az") {
		t.Errorf("it is called %q", f)
	}
	var breaks, mends []string
	for _, way := range want.ways() {
		breaks = append(breaks, fmt.Sprintf("block %s %s true", way.from, way.to))
		mends = append(mends, fmt.Sprintf("block %s %s false", way.from, way.to))
	}
	slices.Reverse(mends)
	broken(t, f)
	same(t, "broken", n.asked(), breaks)
	mended(t, f)
	same(t, "mended", n.asked(), mends)
	for name, wrong := range map[string]Spec{
		`"client" matches none`:     {Kind: spec.Kind, From: []string{"az1"}, To: []string{"client"}, Seed: 1},
		`"az9" matches none`:        {Kind: spec.Kind, From: []string{"az9"}, To: []string{"az3"}, Seed: 1},
		"az3 is both in from and":   {Kind: spec.Kind, From: []string{"az*"}, To: []string{"az3"}, Seed: 1},
		`it needs "seed"`:           {Kind: spec.Kind, From: []string{"az1"}, To: []string{"az3"}},
		`it needs "to"`:             {Kind: spec.Kind, From: []string{"az1"}, Seed: 1},
		"seed is out of range":      {Kind: spec.Kind, From: []string{"az1"}, To: []string{"az3"}, Seed: -1},
		`it has no use for "client`: {Kind: spec.Kind, From: []string{"az1"}, To: []string{"az3"}, Client: true, Seed: 1},
	} {
		if _, err := New(wrong, n); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", wrong, err, name)
		}
	}
}
