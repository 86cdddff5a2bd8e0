package failover_test

import (
	"math/rand/v2"
	"time"

	"github.com/grayfed/grayfed/failover"
)

var names = [edges]string{"az1", "az2", "az3"}

var epoch = time.Unix(1_700_000_000, 0)

// program is what is simulated: the package's own functions and defaults, or
// ones broken on purpose.
type program struct {
	next   func(*failover.Options, failover.State, *failover.Observation) (failover.State, failover.Decision)
	answer func([]failover.Sighting) []failover.Share
	adjust func(*failover.Options) // of the options; may be nil
	sent   int                     // times that each Consul server sends a rumour
}

func sound() program {
	return program{next: failover.Next, answer: failover.Answer, sent: sentHere}
}

func (p *program) options(id int) failover.Options {
	o := failover.Options{Zone: names[id], Role: failover.Primary}
	if id == az3 {
		o.Role, o.Primaries = failover.Standby, []string{names[az1], names[az2]}
	}
	o = o.WithDefaults()
	if p.adjust != nil {
		p.adjust(&o)
	}
	return o
}

// world is one history as it unfolds.
type world struct {
	program
	network
	rng        *rand.Rand
	now        int // ticks
	consul     *consul
	edges      [edges]edge
	entries    [edges]failover.Entry
	responding set // edges that answer
}

// signs is who gets what an edge sends of itself to those it holds for dead.
func (w *world) signs(a int) set {
	among := w.responding &^ w.noGossip
	if !among.has(a) {
		return 0
	}
	return w.out[a] & among
}

// gossips is whom an edge hears by gossip.
func (w *world) gossips(a int) set { return w.around(a, w.responding&^w.noGossip) }

// probes reports whether that edge answers a probe of this one.
func (w *world) probes(a, b int) bool {
	return w.responding.has(b) && !w.noProbe.has(b) && w.trip[a].has(b)
}

func (w *world) time() time.Time { return epoch.Add(time.Duration(w.now) * tick) }

// newWorld has all edges in and at their full weights when warm, else starting.
func newWorld(p program, rng *rand.Rand, warm bool) *world {
	w := &world{program: p, rng: rng, consul: newConsul(rng, rng.IntN(servers), p.sent)}
	for id := range w.edges {
		e := &w.edges[id]
		e.id, e.opts, e.phase = id, p.options(id), rng.IntN(2)
		w.entries[id] = failover.Entry{Edge: names[id], Zone: names[id], Role: e.opts.Role, Weight: 1}
		e.start(w)
		if warm {
			e.warm(w)
		}
	}
	for id := range w.edges {
		w.edges[id].weights = w.consul.weights
	}
	w.route(rng)
	return w
}

// warm lets a minute of calm pass for the edge.
func (e *edge) warm(w *world) {
	e.readyAt = 0
	obs := failover.Observation{Ready: true, Capacity: 100, Healthy: 100, Leader: true}
	for n := 120; n >= 0; n-- {
		obs.At = epoch.Add(-time.Duration(n) * e.opts.Heartbeat)
		e.state, e.decision = w.next(&e.opts, e.state, &obs)
	}
	for other := range e.gossip {
		e.gossip[other].known, e.gossip[other].alive = true, true
		e.probes[other] = failover.Alive
	}
	if e.decision.In {
		w.consul.passing |= setOf(e.id)
	}
	w.consul.weights[e.id] = e.decision.Weight
}

// step is one tick, after which judge looks.
func (w *world) step(h *plan, j *judge) {
	w.now++
	if h.changes.at(w.now) {
		w.condition = condition{}
		for i := range h.faults {
			if f := &h.faults[i]; f.from <= w.now && w.now < f.to {
				f.apply(&w.condition)
			}
		}
		w.route(w.rng)
	} else if w.lossy {
		w.route(w.rng)
	}
	w.responding = 0
	for id := range w.edges {
		e := &w.edges[id]
		switch down := w.edgeDown.has(id); {
		case down && e.up:
			*e = edge{id: id, opts: e.opts, phase: e.phase, weights: e.weights}
		case !down && !e.up:
			e.start(w)
		}
		if e.up && !w.frozen.has(id) {
			w.responding |= setOf(id)
		}
	}
	w.consul.step(w.now, &w.network)
	for id := range w.edges {
		e := &w.edges[id]
		w.consul.publish(id, &w.network, w.responding.has(id), e.decision.In, e.decision.Weight)
	}
	for id := range w.edges {
		if w.responding.has(id) {
			w.edges[id].hear(w)
		}
	}
	j.follow(w)
	for id := range w.edges {
		e := &w.edges[id]
		switch {
		case !w.responding.has(id):
		case (w.now+e.phase)%2 == 0:
			e.beat(w)
			j.beat(w, e)
		default:
			e.probe(w)
		}
	}
	j.tick(w)
}
