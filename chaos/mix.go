package chaos

import (
	"fmt"
	"strings"
)

// class is what a request asks for.
type class uint8

// The classes.
const (
	untagged class = iota
	permissive
	strict
	classCount = iota
)

// job is one request to be sent.
type job struct {
	edge  int // index of the target's; -1: by DNS
	tls   bool
	class class
	post  bool
}

// planner deals jobs so that after any number of them each stream, edge, class
// and method has had its share, to one or two requests exactly.
type planner struct {
	lanes []lane
	pick  wheel
}

// lane is one stream's part that goes to one edge, or to DNS.
type lane struct {
	edge    int
	tls     bool
	classes wheel
	posts   [classCount]wheel // of one class: GETs and POSTs
}

// newPlanner lays the load out over the edges of a target. A stream via DNS is
// left out where the target has none.
func newPlanner(l *Load, t *Target) *planner {
	p := new(planner)
	var shares []int
	add := func(edge int, tls bool, share int) {
		p.lanes = append(p.lanes, lane{edge: edge, tls: tls, classes: newWheel(l.Mix.Untagged, l.Mix.Permissive, l.Mix.Strict)})
		for c := range classCount {
			p.lanes[len(p.lanes)-1].posts[c] = newWheel(100-l.Mix.Posts, l.Mix.Posts)
		}
		shares = append(shares, share)
	}
	for _, s := range l.Streams {
		if s.Via == ViaDNS {
			if len(t.DNS.Servers) > 0 {
				// As much finer as the edges of another stream divide it.
				add(-1, false, s.Share*shareUnit)
			}
			continue
		}
		total := 0
		for _, e := range t.Edges {
			total += s.of(e.Zone)
		}
		for n, e := range t.Edges {
			if part := s.of(e.Zone); part > 0 {
				add(n, s.TLS, max(1, s.Share*shareUnit*part/total))
			}
		}
	}
	p.pick = newWheel(shares...)
	return p
}

// shareUnit is how fine a stream's share is divided over its edges.
const shareUnit = 10_000

// of is a zone's part of the stream.
func (s *Stream) of(zone string) int {
	if len(s.Edges) == 0 {
		return 1
	}
	return s.Edges[zone]
}

func (p *planner) next() job {
	l := &p.lanes[p.pick.next()]
	c := l.classes.next()
	return job{edge: l.edge, tls: l.tls, class: class(c), post: l.posts[c].next() == 1}
}

// wheel deals numbers in proportion to their weights and as evenly as can be
// (smooth weighted round robin, as nginx has it).
type wheel struct {
	weights, current []int
	total            int
}

func newWheel(weights ...int) wheel {
	w := wheel{weights: weights, current: make([]int, len(weights))}
	for _, weight := range weights {
		w.total += weight
	}
	return w
}

func (w *wheel) next() int {
	best := -1
	for i, weight := range w.weights {
		w.current[i] += weight
		if weight > 0 && (best < 0 || w.current[i] > w.current[best]) {
			best = i
		}
	}
	w.current[best] -= w.total
	return best
}

// describe is the load in words.
func (l *Load) describe(t *Target) string {
	var streams []string
	for _, s := range l.Streams {
		text := fmt.Sprintf("%d via %s", s.Share, s.Via)
		switch {
		case s.Via == ViaDNS && len(t.DNS.Servers) == 0:
			continue
		case s.TLS:
			text += " over TLS"
		}
		streams = append(streams, text)
	}
	m := l.Mix
	return fmt.Sprintf("%s; untagged %d, tagged permissive %d, tagged strict %d; %d%% POST",
		strings.Join(streams, ", "), m.Untagged, m.Permissive, m.Strict, m.Posts)
}

// places is how many kinds of entry there are: DNS, and each edge up to the last.
func (p *planner) places() int {
	most := 0
	for i := range p.lanes {
		most = max(most, 2+p.lanes[i].edge)
	}
	return most
}
