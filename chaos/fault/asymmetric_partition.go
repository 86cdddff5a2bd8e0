package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// newAsymmetricPartition cuts ways between nodes, each by itself, as a seed
// draws them. From are the nodes of the primaries, To those of the standbys; the
// others have a Consul server alone. Clients reach them all.
func newAsymmetricPartition(spec Spec, target any) (Fault, error) {
	links, err := need[Links](target, "network")
	if err != nil {
		return nil, err
	}
	known := links.Nodes()
	primaries, err := match("nodes", spec.From, known)
	if err != nil {
		return nil, err
	}
	standbys, err := match("nodes", spec.To, known)
	if err != nil {
		return nil, err
	}
	for _, node := range standbys {
		if slices.Contains(primaries, node) {
			return nil, fmt.Errorf("nodes: %s is both in from and in to", node)
		}
	}
	cut := drawCuts(known, primaries, standbys, spec.Seed)
	return blocking(target, cut.words(spec.Seed), links, cut.ways()), nil
}

// cuts are ways between nodes through which nothing gets.
type cuts struct {
	nodes []string
	cut   map[link]bool
}

// drawCuts draws until the cuts are one-sided and leave what the standby must
// know to be known: without that it goes in rightly, as it would if the
// primaries had died. Same arguments, same cuts. It ends, as it is bound to draw
// a single way sooner or later, which is both.
func drawCuts(nodes, primaries, standbys []string, seed int64) *cuts {
	rng := rand.New(rand.NewPCG(uint64(seed), 4))
	for {
		c := &cuts{nodes: nodes, cut: make(map[link]bool)}
		density := 10 + rng.IntN(60) // percent
		for _, from := range nodes {
			for _, to := range nodes {
				if from != to && rng.IntN(100) < density {
					c.cut[link{from, to}] = true
				}
			}
		}
		if c.oneSided() && c.tell(primaries, standbys) {
			return c
		}
	}
}

// oneSided reports whether any way is cut whose way back is not.
func (c *cuts) oneSided() bool {
	for way := range c.cut {
		if !c.cut[link{way.to, way.from}] {
			return true
		}
	}
	return false
}

// trip reports whether a question and its answer get through.
func (c *cuts) trip(a, b string) bool { return !c.cut[link{a, b}] && !c.cut[link{b, a}] }

// around is [cuts.trip], or two through another node of those among, as
// memberlist and Serf have others ask for them.
func (c *cuts) around(a, b string, among []string) bool {
	return a == b || c.trip(a, b) || slices.ContainsFunc(among, func(via string) bool {
		return via != a && via != b && c.trip(a, via) && c.trip(via, b)
	})
}

// tell reports whether some primary's life can be told: by every standby, itself
// or through another edge, or by every Consul server that may lead.
func (c *cuts) tell(primaries, standbys []string) bool {
	edges := slices.Concat(primaries, standbys)
	leaders := c.leaders()
	return slices.ContainsFunc(primaries, func(primary string) bool {
		seen := !slices.ContainsFunc(standbys, func(s string) bool { return !c.around(s, primary, edges) })
		led := !slices.ContainsFunc(leaders, func(l string) bool { return !c.around(l, primary, c.nodes) })
		return seen || led
	})
}

// leaders are the nodes that have a majority with those they have a direct trip
// to. Without any no standby goes in.
func (c *cuts) leaders() []string {
	var list []string
	for _, node := range c.nodes {
		votes := 1
		for _, other := range c.nodes {
			if other != node && c.trip(node, other) {
				votes++
			}
		}
		if votes > len(c.nodes)/2 {
			list = append(list, node)
		}
	}
	return list
}

// ways are what is cut, in the order of the nodes.
func (c *cuts) ways() []link {
	return slices.DeleteFunc(ways(c.nodes, c.nodes, false), func(way link) bool { return !c.cut[way] })
}

// words have the seed, and the cuts by sender.
func (c *cuts) words(seed int64) string {
	to := make(map[string][]string)
	for _, way := range c.ways() {
		to[way.from] = append(to[way.from], way.to)
	}
	var parts []string
	for _, from := range c.nodes {
		if len(to[from]) > 0 {
			parts = append(parts, from+" to "+list(to[from]))
		}
	}
	return fmt.Sprintf("seed %d: nothing from %s", seed, strings.Join(parts, "; from "))
}
