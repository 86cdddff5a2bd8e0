package failover_test

import "math/rand/v2"

// consul is five servers: Raft elects a leader that has a direct round trip with
// a majority, and the leader believes Serf which nodes are alive.
type consul struct {
	rng      *rand.Rand
	leader   int // -1: none
	lonely   int // ticks that the leader has no majority, or that there is none
	election int // ticks until the next leader is found
	serf     serf
	up       set
	passing  set // entries whose own checks pass, as the leader last heard
	weights  [edges]int
	failing  [edges]int // ticks that the agent's check of its edge fails
	patience [edges]int // ticks until that makes it critical
}

func newConsul(rng *rand.Rand, leader, sent int) *consul {
	c := &consul{rng: rng, leader: leader, serf: newSerf(rng, sent)}
	for n := range edges {
		c.patience[n] = 4 + rng.IntN(5)
		c.weights[n] = 1
	}
	c.redraw()
	return c
}

func (c *consul) redraw() { c.election = 4 + c.rng.IntN(8) }

func (c *consul) step(now int, n *network) {
	c.up = (1<<servers - 1) &^ n.consulDown
	majority := func(s int) bool {
		if !c.up.has(s) {
			return false
		}
		votes := 0
		for other := range servers {
			if c.up.has(other) && n.trip[s].has(other) {
				votes++
			}
		}
		return votes > servers/2
	}
	switch {
	case c.leader >= 0 && majority(c.leader):
		c.lonely = 0
	case c.leader >= 0:
		// It steps down when its lease ends, at once when it dies.
		if c.lonely++; c.lonely >= 4 || !c.up.has(c.leader) {
			c.leader, c.lonely = -1, 0
			c.redraw()
		}
	default:
		c.lonely++
		for s := range servers {
			if c.lonely >= c.election && majority(s) {
				c.leader, c.lonely = s, 0
				break
			}
		}
	}
	c.serf.step(now, n, c.up)
}

// leads reports whether there is a leader with a majority.
func (c *consul) leads() bool { return c.leader >= 0 && c.lonely == 0 }

// answers reports whether the leader answers a consistent read of this node's
// agent.
func (c *consul) answers(node int, n *network) bool {
	return c.leads() && c.up.has(node) && n.trip[c.leader].has(node)
}

// publish brings what the agent knows of its edge to the leader: its check of
// the edge's port, the edge's own decision and its weight.
func (c *consul) publish(e int, n *network, responds bool, in bool, weight int) {
	if responds {
		c.failing[e] = 0
	} else {
		c.failing[e]++
	}
	if !c.answers(e, n) {
		return
	}
	if in && c.failing[e] < c.patience[e] {
		c.passing |= setOf(e)
	} else {
		c.passing &^= setOf(e)
	}
	if responds {
		c.weights[e] = weight
	}
}

// in is what the leader reports to be in.
func (c *consul) in() set { return c.passing & c.serf.holds(c.leader) }
