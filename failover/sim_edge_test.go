package failover_test

import (
	"time"

	"github.com/grayfed/grayfed/failover"
)

// stale is how long a leader's answer is believed.
const stale = int(3 * time.Second / tick)

// wavers is how long a leader's word is doubted that it took back.
const wavers = int(time.Minute / tick)

// edge is one edge's process.
type edge struct {
	id       int
	opts     failover.Options
	phase    int // of its heartbeat, 0 or 1
	up       bool
	readyAt  int
	started  int
	state    failover.State
	decision failover.Decision

	gossip    [edges]hearing
	signs     [edges]int // when a packet of that edge came
	revived   [edges]int // when a leader took back its death
	was       set        // what a leader said before
	misses    [edges]int // of its probes, in a row
	probes    [edges]failover.Verdict
	confirmed int // when a leader answered; 0: never
	in        set // what it said then
	weights   [edges]int

	sightings [edges]failover.Sighting // the last is its own
	answer    []failover.Share
}

func (e *edge) ready(now int, c *condition) bool {
	return e.up && now >= e.readyAt && !c.draining.has(e.id)
}

// start is the process's, cold.
func (e *edge) start(w *world) {
	*e = edge{id: e.id, opts: e.opts, phase: e.phase, up: true, started: w.now, readyAt: w.now + w.rng.IntN(8), weights: e.weights}
	for other := range e.gossip {
		e.gossip[other] = hearing{heard: w.now, deadAfter: 4 + w.rng.IntN(3), backAfter: 1 + w.rng.IntN(20)}
	}
}

// hear is a tick of gossip and of reading Consul.
func (e *edge) hear(w *world) {
	reached := w.gossips(e.id)
	for other := range e.gossip {
		if other != e.id {
			e.gossip[other].listen(w.now, reached.has(other))
			if (w.now+w.edges[other].phase)%rounds == 0 && w.signs(other).has(e.id) {
				e.signs[other] = w.now
			}
		}
	}
	if w.consul.answers(e.id, &w.network) {
		e.confirmed, e.in, e.weights = w.now, w.consul.in(), w.consul.weights
		for other := range edges {
			unseen := !e.gossip[other].alive && !e.hears(other, w.now) && e.probes[other] == failover.Dead
			if e.in.has(other) && !e.was.has(other) && unseen {
				e.revived[other] = w.now
			}
		}
		e.was = e.in
	}
}

// probe asks the others' data listeners.
func (e *edge) probe(w *world) {
	for other := range e.probes {
		switch {
		case w.probes(e.id, other):
			e.misses[other], e.probes[other] = 0, failover.Alive
		default:
			if e.misses[other]++; e.misses[other] >= e.opts.Misses {
				e.probes[other] = failover.Dead
			}
		}
	}
}

// beat is a heartbeat: it decides, and what its DNS answers changes.
func (e *edge) beat(w *world) {
	leader := e.confirmed > 0 && w.now-e.confirmed <= stale
	n := 0
	for other := range edges {
		if other == e.id {
			continue
		}
		s := &e.sightings[n]
		n++
		*s = failover.Sighting{Entry: w.entries[other], Probe: e.probes[other]}
		s.Weight = e.weights[other]
		if h := &e.gossip[other]; h.known {
			s.Gossip = verdict(h.alive || e.hears(other, w.now))
		}
		s.Wavers = e.revived[other] > 0 && w.now-e.revived[other] < wavers
		if leader {
			s.Consul = verdict(e.in.has(other))
		}
	}
	ready := e.ready(w.now, &w.condition)
	e.state, e.decision = w.next(&e.opts, e.state, &failover.Observation{
		At: w.time(), Ready: ready, Capacity: 100, Healthy: 100 - w.gone[e.id], Leader: leader, Others: e.sightings[:n],
	})
	own := &e.sightings[n]
	*own = failover.Sighting{Entry: w.entries[e.id], Self: true, Consul: verdict(e.decision.In)}
	own.Weight = e.decision.Weight
	if ready {
		own.Gossip = failover.Alive
	}
	e.answer = w.answer(e.sightings[:])
}

// hears reports whether packets of the other edge come, whatever comes back.
func (e *edge) hears(other, now int) bool {
	return e.signs[other] > 0 && now-e.signs[other] <= 3*rounds
}

func verdict(alive bool) failover.Verdict {
	if alive {
		return failover.Alive
	}
	return failover.Dead
}

// answers reports whether DNS of this edge has the entry of that one.
func (e *edge) answers(other int) bool {
	for i := range e.answer {
		if e.answer[i].Edge == names[other] {
			return true
		}
	}
	return false
}
