package failover_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/grayfed/grayfed/failover"
)

// hold is what the invariants ask for, whatever the options say.
const hold = int(10 * time.Second / tick)

// What may be wrong with a history.
const (
	empty     = "an answer is empty"
	flapping  = "an entry flaps"
	premature = "a premature activation"
	uncalled  = "a standby is answered that was not in"
	lingering = "a dead edge is answered"
	late      = "the standby is late"
	unmended  = "not as before after it was mended"
)

// path is a means by which a primary's life can be known at the standby. It is
// open from need ticks in a row that it is there. When it is not for as long as
// the fastest means takes to call a node dead, it is in doubt until it is there
// for need ticks again; it is closed when two heartbeats find it in doubt. A
// probe's is there from one that is answered to one that is not: what gets through
// between two of them tells nobody anything.
type path struct {
	need, run, gap, doubt int
	open                  bool
}

const (
	fastest = int(time.Second / tick)
	rounds  = int(500 * time.Millisecond / tick) // from one heartbeat to the next
)

func (p *path) follow(there bool) {
	if there {
		p.run++
		p.gap = 0
	} else {
		p.run = 0
		p.gap++
	}
	switch {
	case p.run >= p.need:
		p.open, p.doubt = true, 0
	case p.gap >= fastest || p.doubt > 0:
		p.doubt++
		p.open = p.open && p.doubt <= rounds
	}
}

// judge holds a history to the invariants.
type judge struct {
	wrong map[string]string // the first of each

	paths    [2][4]path // of each primary: gossip, probe and signs to the standby, Serf to Consul's leader
	oneWay   [2]path    // packets of the primary get to the leader
	lastBeat [edges]int
	in       set
	inSince  [edges]int // or out since
	entered  int        // when the standby went in, in this life of its
	lastIn   int        // when the standby was in last
	lost     int        // ticks that both primaries are dead and the rest is well
	dead     [2]int     // ticks that only this primary is dead and the rest is well

	leaderless             bool // when that began
	activations, handbacks int
	waits                  []wait
	limits                 int // activations beyond knowing
	limitsHeard            int // of these: packets still came one way
}

// wait is how long both primaries were dead, and the rest was well, when the
// standby went in.
type wait struct {
	ticks      int
	leaderless bool // Consul's leader died with them
}

const never = -1 << 30

func newJudge(w *world) *judge {
	j := &judge{wrong: make(map[string]string), entered: never, lastIn: never}
	for p := range j.paths {
		// Gossip takes up to 5 s to join again, a probe its interval.
		j.paths[p] = [4]path{{need: 24, open: true}, {need: 4, open: true}, {need: 2 * rounds, open: true}, {need: 24, open: true}}
		j.oneWay[p] = path{need: 1, open: true}
	}
	for id := range w.edges {
		if w.edges[id].decision.In {
			j.in |= setOf(id)
		}
	}
	return j
}

func (j *judge) fail(w *world, what, format string, args ...any) {
	if _, again := j.wrong[what]; !again {
		j.wrong[what] = fmt.Sprintf("%s at %s: ", what, time.Duration(w.now)*tick) + fmt.Sprintf(format, args...)
	}
}

// follow sees who could know of whom, before anybody decides.
func (j *judge) follow(w *world) {
	heard := w.gossips(az3)
	var members set
	leader := w.consul.leads()
	if leader {
		members = w.around(w.consul.leader, w.consul.up) & w.consul.passing
	}
	for p := range j.paths {
		alive := w.responding.has(p)
		j.paths[p][0].follow(heard.has(p))
		j.paths[p][1].follow(w.responding.has(az3) && w.edges[az3].misses[p] == 0)
		j.paths[p][2].follow(w.signs(p).has(az3))
		j.paths[p][3].follow(alive && members.has(p))
		j.oneWay[p].follow(alive && leader && w.out[p].has(w.consul.leader))
	}
}

// beat judges an edge that has just decided and answered.
func (j *judge) beat(w *world, e *edge) {
	j.lastBeat[e.id] = w.now
	if len(e.answer) == 0 {
		j.fail(w, empty, "%s", names[e.id])
	}
	if e.id == az3 && e.decision.In && !j.in.has(az3) {
		j.activated(w)
	}
	// A leader may take 2.5 s to find a dead standby, and is believed for 3 s.
	// A standby that is out and cannot tell the leader is in for the others.
	if w.responding.has(az3) && w.edges[az3].decision.In || w.consul.leads() && w.consul.in().has(az3) {
		j.lastIn = w.now
	}
	if e.answers(az3) && w.now-j.lastIn > 24 {
		j.fail(w, uncalled, "by %s", names[e.id])
	}
	for p := range j.dead {
		other := &w.edges[1-p]
		if j.dead[p] > stale+2 && w.edgeDown.has(p) && other.decision.In && w.now-e.started > 2*neverHeard && e.answers(p) {
			j.fail(w, lingering, "%s by %s", names[p], names[e.id])
		}
	}
	if j.lost > slowest+2 && w.edgeDown.has(az1) && w.edgeDown.has(az2) && e.id == az3 && e.decision.In && (len(e.answer) != 1 || !e.answers(az3)) {
		j.fail(w, lingering, "a primary beside the standby")
	}
}

// activated judges the standby's going in. It is premature when clients reach a
// primary that is in and serves, unless that primary was cut off from every path
// to the standby and to the quorum: that is beyond knowing.
func (j *judge) activated(w *world) {
	j.activations++
	if j.lost > 0 && j.entered == never {
		j.waits = append(j.waits, wait{j.lost, j.leaderless})
	}
	unknowable, heard := false, false
	for p := range j.paths {
		e := &w.edges[p]
		if !w.responding.has(p) || !e.ready(w.now, &w.condition) || !e.decision.In || w.gone[p] == 100 || !w.trip[clients].has(p) {
			continue
		}
		silent := w.now-w.edges[az3].confirmed > stale
		if silent || slices.ContainsFunc(j.paths[p][:], func(p path) bool { return p.open }) {
			j.fail(w, premature, "%s is well; sightings %+v", names[p], w.edges[az3].sightings)
			continue
		}
		unknowable = true
		heard = heard || j.oneWay[p].open
	}
	if unknowable {
		j.limits++
	}
	if heard {
		j.limitsHeard++
	}
}

// slowest is how many ticks the slowest means takes: a Consul leader that lost
// its majority steps down after 1 s, and the next is found after 3 s at most.
const slowest = 16

// tick judges the time between heartbeats.
func (j *judge) tick(w *world) {
	for id := range w.edges {
		e := &w.edges[id]
		// Others call it out when it is dead or was frozen for long.
		living := e.up && w.now-j.lastBeat[id] <= 12
		in := living && e.decision.In
		if id == az3 && !living {
			j.entered = never
		}
		if in == j.in.has(id) {
			continue
		}
		since := w.now - j.inSince[id]
		switch {
		case id != az3 && in && since < hold:
			j.fail(w, flapping, "%s in after %s", names[id], time.Duration(since)*tick)
		case id == az3 && in:
			if w.now-j.entered < hold {
				j.fail(w, flapping, "%s in again", names[id])
			}
			j.entered = w.now
		case id == az3 && living && e.ready(w.now, &w.condition):
			j.handbacks++
			if since < hold {
				j.fail(w, flapping, "%s out after %s", names[id], time.Duration(since)*tick)
			}
		}
		j.in ^= setOf(id)
		j.inSince[id] = w.now
	}
	j.wait(w)
}

// wait judges what must come about while nothing but death is the matter.
func (j *judge) wait(w *world) {
	standby := &w.edges[az3]
	well := w.noise == 0 && standby.ready(w.now, &w.condition) && w.now-standby.started > neverHeard
	quorum := 0
	for s := range servers {
		if w.consul.up.has(s) {
			quorum++
		}
	}
	count := func(n *int, when bool) {
		if *n++; !when {
			*n = 0
		}
	}
	count(&j.lost, well && quorum > servers/2 && w.edgeDown.has(az1) && w.edgeDown.has(az2))
	if j.lost == 1 {
		j.leaderless = !w.consul.leads()
	}
	for p := range j.dead {
		count(&j.dead[p], well && w.edgeDown.has(p) && !w.edgeDown.has(1-p))
	}
	if j.lost > slowest+2*rounds && !standby.decision.In && w.now-j.entered > hold+2 {
		j.fail(w, late, "both primaries dead for %s; sightings %+v", time.Duration(j.lost)*tick, standby.sightings)
	}
}

// end judges a history whose faults were mended long ago.
func (j *judge) end(w *world) {
	want := []failover.Share{
		{Entry: w.entries[az1], Weight: w.edges[az1].opts.Weight},
		{Entry: w.entries[az2], Weight: w.edges[az2].opts.Weight},
	}
	for id := range w.edges {
		e := &w.edges[id]
		same := slices.EqualFunc(e.answer, want, func(a, b failover.Share) bool { return a.Edge == b.Edge && a.Weight == b.Weight })
		if !same || e.decision.In == (id == az3) {
			j.fail(w, unmended, "%s answers %+v, decision %+v", names[id], e.answer, e.decision)
		}
	}
}
