package failover_test

import (
	"math/rand/v2"
	"time"
)

// The simulation's world: three zones with an edge, a DNS server and a Consul
// server each, two witnesses with a Consul server each, and the clients.
const (
	az1 = iota
	az2
	az3 // the standby
	w1
	w2
	clients
	nodes

	edges   = w1      // az1 to az3 have one
	servers = clients // az1 to w2 have a Consul server
)

// tick is the grain of simulated time.
const tick = 250 * time.Millisecond

// set is a set of nodes.
type set uint8

func setOf(members ...int) (s set) {
	for _, n := range members {
		s |= 1 << n
	}
	return s
}

func (s set) has(n int) bool { return s>>n&1 != 0 }

// condition is what is broken at a time.
type condition struct {
	cut        [nodes]set          // cut[a] has b: no packet from a gets to b
	loss       [nodes][nodes]uint8 // percent of the packets from a to b
	lossy      bool
	edgeDown   set // the edge's process is dead
	frozen     set // the edge's process is stopped
	draining   set
	consulDown set
	noGossip   set          // edges whose gossip is stopped on the way
	noProbe    set          // edges whose data port others' probes do not reach
	gone       [edges]int64 // percent of the zone's capacity
	noise      int          // faults that are more than death
}

// dead is a whole zone's, or a witness's, death.
func (c *condition) kill(n int) {
	if n < edges {
		c.edgeDown |= setOf(n)
	}
	c.consulDown |= setOf(n)
	c.cut[n] = ^set(0)
	for other := range nodes {
		c.cut[other] |= setOf(n)
	}
}

// fault is in force from tick from until before tick to.
type fault struct {
	from, to int
	text     string
	apply    func(*condition)
}

// network is who gets packets to whom, tick by tick.
type network struct {
	condition
	out  [nodes]set // out[a] has b: a packet from a gets to b
	trip [nodes]set // trip[a] has b: and the answer comes back
}

func (n *network) route(rng *rand.Rand) {
	for a := range nodes {
		n.out[a] = ^n.cut[a]
		if !n.lossy {
			continue
		}
		for b, percent := range n.loss[a] {
			if percent > 0 && rng.IntN(100) < int(percent) {
				n.out[a] &^= setOf(b)
			}
		}
	}
	for a := range nodes {
		n.trip[a] = 0
		for b := range nodes {
			if a == b || n.out[a].has(b) && n.out[b].has(a) {
				n.trip[a] |= setOf(b)
			}
		}
	}
}

// around is who a has a round trip with, directly or through one of those
// among; both ends are of those among.
func (n *network) around(a int, among set) set {
	if !among.has(a) {
		return 0
	}
	direct := n.trip[a] & among
	reached := direct
	for k := range nodes {
		if direct.has(k) {
			reached |= n.trip[k] & among
		}
	}
	return reached
}

// hearing is how one edge comes to hold another for alive or dead by gossip.
type hearing struct {
	known, alive bool
	heard        int // the last tick, or the one since when it listens
	run          int // ticks in a row that it is reached, while not alive
	deadAfter    int // ticks without a round trip
	backAfter    int // ticks of round trips in a row, until it is told or joins again
}

func (h *hearing) listen(now int, reached bool) {
	switch {
	case reached && h.alive:
		h.heard = now
	case reached:
		h.run++
		if !h.known || h.run >= h.backAfter {
			*h = hearing{known: true, alive: true, heard: now, deadAfter: h.deadAfter, backAfter: h.backAfter}
		}
	default:
		h.run = 0
		after := h.deadAfter
		if !h.known {
			after = neverHeard
		}
		if now-h.heard >= after {
			h.known, h.alive = true, false
		}
	}
}

// neverHeard is the ticks after which an edge that was not heard since the start
// is held for dead.
const neverHeard = int(5 * time.Second / tick)
