package failover_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A history has its faults in the first 40 s, then 45 s of calm.
const (
	stormy  = int(40 * time.Second / tick)
	history = stormy + int(45*time.Second/tick)
)

// bits is a set of ticks.
type bits [history/64 + 1]uint64

func (b *bits) add(n int)     { b[n/64] |= 1 << (n % 64) }
func (b *bits) at(n int) bool { return b[n/64]>>(n%64)&1 != 0 }

// plan is what befalls the world in one history.
type plan struct {
	rng     *rand.Rand
	faults  []fault
	changes bits // ticks at which a fault begins or ends
}

func (p *plan) add(from, length int, text string, apply func(*condition)) {
	to := min(from+max(1, length), stormy)
	p.faults = append(p.faults, fault{from: from, to: to, text: text, apply: apply})
	p.changes.add(from)
	p.changes.add(to)
}

// noise is a fault that is more than death, so that nothing is promised to come
// about while it lasts.
func (p *plan) noise(from, length int, text string, apply func(*condition)) {
	p.add(from, length, text, func(c *condition) {
		c.noise++
		apply(c)
	})
}

func (p *plan) String() string {
	var b strings.Builder
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  %6s to %6s: %s\n", time.Duration(f.from)*tick, time.Duration(f.to)*tick, f.text)
	}
	return b.String()
}

// when is a begin that leaves room, and a length.
func (p *plan) when() (from, length int) {
	from = 1 + p.rng.IntN(stormy*3/4)
	return from, 1 + p.rng.IntN(stormy-from)
}

// repeat breaks and mends again and again until the storm is over.
func (p *plan) repeat(do func(from, length int)) {
	longest := 1 + p.rng.IntN(24)
	for at := 1 + p.rng.IntN(stormy/2); at < stormy; {
		length := 1 + p.rng.IntN(longest)
		do(at, length)
		at += length + 1 + p.rng.IntN(longest)
	}
}

// cut is of one way between two nodes; clients reach the primaries still.
func (p *plan) cut(from, length, a, b int) {
	p.noise(from, length, fmt.Sprintf("cut %d to %d", a, b), func(c *condition) { c.cut[a] |= setOf(b) })
}

func (p *plan) lose(from, length, a, b int, percent uint8) {
	p.noise(from, length, fmt.Sprintf("lose %d%% from %d to %d", percent, a, b), func(c *condition) {
		c.loss[a][b] = max(c.loss[a][b], percent)
		c.lossy = true
	})
}

func (p *plan) kill(from, length, node int) {
	p.add(from, length, fmt.Sprintf("kill zone %d", node), func(c *condition) { c.kill(node) })
}

func (p *plan) killEdge(from, length, node int) {
	p.add(from, length, fmt.Sprintf("kill edge %d", node), func(c *condition) { c.edgeDown |= setOf(node) })
}

// kind is a kind of history.
type kind struct {
	name string
	fill func(*plan)
}

var (
	kinds  = append(single[:len(single):len(single)], kind{"everything", everything})
	single = []kind{
		{"flapping", flaps},
		{"symmetric partition", symmetric},
		{"asymmetric partition", asymmetric},
		{"one dead, the other nearly cut off", nearly},
		{"one dead, the other known by one means", meansFail},
		{"partial loss", loses},
		{"capacity loss", empties},
		{"consul without leader", leaderless},
		{"edges dying and returning", dies},
		{"frozen edges", freezes},
		{"both primaries lost", losesBoth},
	}
)

// flaps has ways between two nodes, or all of one node's but to the clients,
// come and go.
func flaps(p *plan) {
	for range 1 + p.rng.IntN(4) {
		a, b, both, all := p.rng.IntN(servers), p.rng.IntN(servers), p.rng.IntN(2) == 0, p.rng.IntN(2) == 0
		p.repeat(func(from, length int) {
			for other := range servers {
				if other != a && (all || other == b) {
					p.cut(from, length, a, other)
					if both {
						p.cut(from, length, other, a)
					}
				}
			}
		})
	}
	sometimesOneIsDead(p)
}

// symmetric parts the servers in two; clients reach everybody or one side.
func symmetric(p *plan) {
	for range 1 + p.rng.IntN(2) {
		side := set(1 + p.rng.IntN(1<<servers-2))
		if p.rng.IntN(2) == 0 {
			side |= setOf(clients)
		}
		seen := p.rng.IntN(2) == 0
		from, length := p.when()
		p.noise(from, length, fmt.Sprintf("part %06b, clients reach all: %t", side, seen), func(c *condition) {
			for n := range nodes {
				if n == clients && seen {
					continue
				}
				far := side
				if side.has(n) {
					far = ^side
				}
				if seen {
					far &^= setOf(clients)
				}
				c.cut[n] |= far
			}
		})
	}
	sometimesOneIsDead(p)
}

// asymmetric cuts ways between servers, each by itself; clients reach all.
func asymmetric(p *plan) {
	for range 1 + p.rng.IntN(2) {
		from, length := p.when()
		density := 10 + p.rng.IntN(60)
		for a := range servers {
			for b := range servers {
				if a != b && p.rng.IntN(100) < density {
					p.cut(from, length, a, b)
				}
			}
		}
	}
	sometimesOneIsDead(p)
}

// nearly has one primary die and cuts the other off but for a way or two, which
// may lose packets.
func nearly(p *plan) {
	from, length := p.when()
	dead := p.rng.IntN(az3)
	p.kill(from, length, dead)
	percent := p.rng.IntN(90)
	for other := range servers {
		at := from + p.rng.IntN(8)
		switch keep := p.rng.IntN(100); {
		case keep < 50:
			p.cut(at, length, 1-dead, other)
		case keep < 70:
			p.cut(at, length, other, 1-dead)
		case keep < 85:
			p.lose(at, length, other, 1-dead, uint8(percent))
		}
	}
}

// meansFail has one primary die and the means by which the other is known fail
// one by one, for a while each, on a network that may lose packets.
func meansFail(p *plan) {
	from, length := p.when()
	dead := p.rng.IntN(az3)
	other := 1 - dead
	p.kill(from, length, dead)
	for _, m := range []struct {
		text string
		of   func(*condition) *set
	}{
		{"gossip", func(c *condition) *set { return &c.noGossip }},
		{"probes", func(c *condition) *set { return &c.noProbe }},
		{"consul", func(c *condition) *set { return &c.consulDown }},
	} {
		if p.rng.IntN(4) > 0 {
			p.noise(from+p.rng.IntN(20), 1+p.rng.IntN(length), fmt.Sprintf("no %s of edge %d", m.text, other), func(c *condition) {
				*m.of(c) |= setOf(other)
			})
		}
	}
	if p.rng.IntN(2) == 0 {
		p.lose(from, length, az3, other, uint8(p.rng.IntN(90)))
	}
}

func sometimesOneIsDead(p *plan) {
	if p.rng.IntN(3) == 0 {
		from, length := p.when()
		p.kill(from, length, p.rng.IntN(az3))
	}
}

func loses(p *plan) {
	for range 1 + p.rng.IntN(8) {
		from, length := p.when()
		a, b, percent := p.rng.IntN(servers), p.rng.IntN(servers), uint8(5+p.rng.IntN(95))
		p.lose(from, length, a, b, percent)
	}
	sometimesOneIsDead(p)
}

func empties(p *plan) {
	for range 1 + p.rng.IntN(3) {
		zone := p.rng.IntN(edges)
		do := func(from, length int) {
			percent := min(100, int64(10+p.rng.IntN(120)))
			p.noise(from, length, fmt.Sprintf("zone %d loses %d%% of its capacity", zone, percent), func(c *condition) {
				c.gone[zone] = max(c.gone[zone], percent)
			})
		}
		if p.rng.IntN(2) == 0 {
			p.repeat(do)
		} else {
			do(p.when())
		}
	}
	sometimesOneIsDead(p)
}

func leaderless(p *plan) {
	from, length := p.when()
	for _, s := range p.rng.Perm(servers)[:1+p.rng.IntN(servers)] {
		p.add(from+p.rng.IntN(4), length, fmt.Sprintf("kill consul %d", s), func(c *condition) { c.consulDown |= setOf(s) })
	}
	sometimesOneIsDead(p)
	if p.rng.IntN(2) == 0 {
		asymmetric(p)
	}
}

func dies(p *plan) {
	for range 1 + p.rng.IntN(3) {
		node, whole := p.rng.IntN(edges), p.rng.IntN(2) == 0
		p.repeat(func(from, length int) {
			if whole {
				p.kill(from, length, node)
			} else {
				p.killEdge(from, length, node)
			}
		})
	}
	if p.rng.IntN(2) == 0 {
		node := p.rng.IntN(edges)
		from, length := p.when()
		p.noise(from, length, fmt.Sprintf("drain %d", node), func(c *condition) { c.draining |= setOf(node) })
	}
}

func freezes(p *plan) {
	for range 1 + p.rng.IntN(3) {
		node := p.rng.IntN(edges)
		do := func(from, length int) {
			p.noise(from, length, fmt.Sprintf("freeze edge %d", node), func(c *condition) { c.frozen |= setOf(node) })
		}
		if p.rng.IntN(2) == 0 {
			p.repeat(do)
		} else {
			do(p.when())
		}
	}
	sometimesOneIsDead(p)
}

// losesBoth has both primaries die, apart or together, and return, maybe more
// than once, maybe with a witness.
func losesBoth(p *plan) {
	first, length := p.when()
	second := first + p.rng.IntN(20)
	p.kill(first, length, az1)
	switch p.rng.IntN(3) {
	case 0:
		p.kill(second, length, az2)
	case 1:
		p.killEdge(second, length, az2)
	default:
		p.repeat(func(from, length int) { p.kill(from, 2*length, az2) })
	}
	if p.rng.IntN(4) == 0 {
		p.killEdge(first+p.rng.IntN(20), p.rng.IntN(20), az3)
	}
}

// losesBothAtOnce is out of calm.
func losesBothAtOnce(p *plan) {
	from := stormy/2 + p.rng.IntN(stormy/4)
	for _, primary := range []int{az1, az2} {
		p.kill(from, stormy, primary)
	}
}

func everything(p *plan) {
	for range 2 + p.rng.IntN(3) {
		single[p.rng.IntN(len(single))].fill(p)
	}
}
