package failover_test

import "math/rand/v2"

// Serf's settings of deploy/consul in ticks, and what memberlist makes of them
// with five servers.
const (
	suspectedByTwo = 3   // suspicion_mult times probe_interval, 600 ms
	suspectedByOne = 14  // six times that
	syncEvery      = 120 // two servers at random tell each other all they hold
	joinEvery      = 8   // retry_interval
	relays         = 3   // hops of a rumour in a tick; gossip_interval is 50 ms

	// How often each sends a rumour: retransmit_mult for less than ten nodes, here
	// and by default. A round of gossip sends it to three others, drawn anew.
	sentHere, sentByDefault = 20, 4
	drawn                   = 3
)

// serf is what Consul's servers hold of each other, as memberlist has them: who
// finds no round trip to a node, directly or through others, suspects it, and in
// time has it for dead. Both are rumours that the others believe, and that go by
// ways which are open in one direction alone; so does what the node says against
// them, once they have come to it.
type serf struct {
	rng   *rand.Rand
	sent  int
	up    set
	alone set                    // started, and joined nobody yet
	words [servers][servers]word // words[s][t] is that of s on t
	order [servers][servers]int  // whom each probes
	turns [servers]int           // which of them is the next
	phase [servers]int           // of its joining and telling all
}

// word is what a server holds of a node, and tells on once.
type word struct {
	incarnation int // the node's own count of what it has denied
	standing    standing
	by          set // who suspects it
	since       int // the tick since when it is suspected here
	fresh       bool
}

type standing uint8

const (
	living standing = iota
	suspected
	buried
)

func newSerf(rng *rand.Rand, sent int) serf {
	f := serf{rng: rng, sent: sent, up: 1<<servers - 1}
	for s := range servers {
		f.phase[s] = rng.IntN(syncEvery)
		for t := range servers {
			f.order[s][t] = t
		}
		f.shuffle(s)
		f.turns[s] = rng.IntN(servers)
	}
	return f
}

func (f *serf) shuffle(s int) {
	order := &f.order[s]
	f.rng.Shuffle(servers, func(i, j int) { order[i], order[j] = order[j], order[i] })
}

// holds is what that server has for alive; suspicion alone changes nothing.
func (f *serf) holds(s int) (alive set) {
	for t := range servers {
		if f.words[s][t].standing != buried {
			alive |= setOf(t)
		}
	}
	return alive
}

func (f *serf) step(now int, n *network, up set) {
	for s := range servers {
		switch {
		case !up.has(s):
			f.alone &^= setOf(s)
			continue
		case !f.up.has(s):
			own := f.words[s][s].incarnation
			f.words[s] = [servers]word{}
			f.words[s][s] = word{incarnation: own + 1, fresh: true}
			f.alone |= setOf(s)
		}
		f.expire(now, s)
	}
	f.up = up
	for s := range servers {
		if !up.has(s) {
			continue
		}
		f.probe(now, s, n)
		switch {
		case f.alone.has(s) && (now+f.phase[s])%joinEvery == 0:
			f.join(now, s, n)
		case (now+f.phase[s])%syncEvery == 0:
			f.sync(now, s, f.rng.IntN(servers), n)
			f.reconnect(now, s, n)
		}
	}
	for hops := 0; hops < relays && f.gossip(now, n); hops++ {
	}
}

// expire buries whom nobody spoke for in time.
func (f *serf) expire(now, s int) {
	for t := range servers {
		w := &f.words[s][t]
		if w.standing != suspected {
			continue
		}
		patience := suspectedByOne
		if w.by&(w.by-1) != 0 {
			patience = suspectedByTwo
		}
		if now-w.since >= patience {
			*w = word{incarnation: w.incarnation, standing: buried, fresh: true}
		}
	}
}

// probe asks the next node whether it lives, and others to ask it.
func (f *serf) probe(now, s int, n *network) {
	for range servers {
		if f.turns[s]++; f.turns[s] == servers {
			f.turns[s] = 0
			f.shuffle(s)
		}
		t := f.order[s][f.turns[s]]
		w := &f.words[s][t]
		if t == s || w.standing == buried {
			continue
		}
		if w.standing == suspected && f.up.has(t) && n.out[s].has(t) {
			f.hear(now, t, t, *w) // the question says so
		}
		if !n.around(s, f.up&(f.holds(s)|setOf(t))).has(t) {
			f.hear(now, s, t, word{incarnation: w.incarnation, standing: suspected, by: setOf(s)})
		}
		return
	}
}

// join is what a server that started does until it has met another.
func (f *serf) join(now, s int, n *network) {
	for t := range servers {
		if t != s && f.up.has(t) && n.trip[s].has(t) {
			f.alone &^= setOf(s)
			f.sync(now, s, t, n)
		}
	}
}

// reconnect tries one of those that it has buried.
func (f *serf) reconnect(now, s int, n *network) {
	first := f.rng.IntN(servers)
	for i := range servers {
		if t := (first + i) % servers; f.words[s][t].standing == buried {
			f.sync(now, s, t, n)
			return
		}
	}
}

// sync has two tell each other all they hold. Who hears so of a death asks
// first, and only suspects.
func (f *serf) sync(now, a, b int, n *network) {
	if a == b || !f.up.has(b) || !n.trip[a].has(b) {
		return
	}
	told := f.words[a]
	for t := range servers {
		f.hear(now, a, t, f.words[b][t].doubted(b))
		f.hear(now, b, t, told[t].doubted(a))
	}
}

func (w word) doubted(by int) word {
	if w.standing != living {
		w.standing, w.by = suspected, setOf(by)
	}
	return w
}

// gossip tells on what is news, and reports whether anything was.
func (f *serf) gossip(now int, n *network) (news bool) {
	for s := range servers {
		for t := range servers {
			w := &f.words[s][t]
			if !w.fresh || !f.up.has(s) {
				continue
			}
			w.fresh, news = false, true
			for other := range servers {
				if other != s && f.up.has(other) && n.out[s].has(other) && f.sends() {
					f.hear(now, other, t, *w)
				}
			}
		}
	}
	return news
}

// sends reports whether one of the others is ever drawn while a rumour is sent.
func (f *serf) sends() bool {
	const others = servers - 1
	for left := f.sent; left > 0; left -= drawn {
		if f.rng.IntN(others) < min(left, drawn) {
			return true
		}
	}
	return false
}

// hear has a server be told of a node, or of itself.
func (f *serf) hear(now, s, t int, told word) {
	held := &f.words[s][t]
	switch {
	case s == t:
		if told.standing != living && told.incarnation >= held.incarnation {
			*held = word{incarnation: told.incarnation + 1, fresh: true}
		}
	case told.standing == living:
		if told.incarnation > held.incarnation {
			*held = word{incarnation: told.incarnation, fresh: true}
		}
	case told.incarnation < held.incarnation || held.standing == buried:
	case told.standing == buried:
		*held = word{incarnation: told.incarnation, standing: buried, fresh: true}
	case held.standing == living:
		*held = word{incarnation: told.incarnation, standing: suspected, by: told.by, since: now, fresh: true}
	case told.by&^held.by != 0:
		held.by |= told.by
		held.fresh = true
	}
}
