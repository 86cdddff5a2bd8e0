// Package chaos runs drills: it sees that a federation is in its steady state,
// puts it under load, breaks parts of it on a time line, mends them whatever
// happens, and judges what its clients felt.
package chaos

import (
	"slices"
	"strings"
	"time"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/report"
)

// Via is how the requests of a stream find their edge.
type Via string

// The ways.
const (
	// ViaEdges goes straight to the edges' data listeners, each its share.
	ViaEdges Via = "edges"
	// ViaDNS asks the federation's DNS servers, as clients do.
	ViaDNS Via = "dns"
)

// Defaults of what a drill leaves out.
const (
	defaultTimeout   = 3 * time.Second
	defaultReconnect = 1000
	defaultSteadyFor = 2 * time.Second
	defaultSlow      = 200 * time.Millisecond
)

// Drill is one drill as its YAML has it.
type Drill struct {
	Name string `yaml:"name"`
	// About is one sentence: what it breaks and what it proves.
	About  string `yaml:"about"`
	Load   Load   `yaml:"load"`
	Steady Steady `yaml:"steady"`
	// Faults are the time line.
	Faults []Step `yaml:"faults"`
	SLO    SLO    `yaml:"slo"`
	// NeedsDNS: it is about DNS, and refused by a target that has none. Others
	// go without what they would judge by it.
	NeedsDNS bool `yaml:"needs_dns"`
	// Budget is how many percent of all requests that are to be sent may be
	// lost or answered wrongly before the drill stops and mends, above 0 to
	// 100. Requests that entered an edge while it was lost do not count.
	Budget float64 `yaml:"budget_percent"`
}

// Load is what is sent, whatever the answers take.
type Load struct {
	// Rate is requests/s over all streams, 1 to 20,000.
	Rate int `yaml:"rate"`
	// Duration is how long, 1 s to 1 h; with Rate 10 million requests at most.
	Duration time.Duration `yaml:"duration"`
	// Timeout is how long one request may take, 100 ms to 60 s; 3 s when left
	// out.
	Timeout time.Duration `yaml:"timeout"`
	// Reconnect is after how many requests a connection is given up, from 1;
	// 1,000 when left out.
	Reconnect int `yaml:"reconnect_after"`
	// Streams share the rate.
	Streams []Stream `yaml:"streams"`
	Mix     Mix      `yaml:"mix"`
}

// Stream is one way that requests go.
type Stream struct {
	Via Via `yaml:"via"`
	// Share is relative to the other streams', 1 to 1,000.
	Share int `yaml:"share"`
	// Edges has each zone's share of a stream via edges; empty: all alike.
	Edges map[string]int `yaml:"edges"`
	// TLS goes to the edges' TLS listeners.
	TLS bool `yaml:"tls"`
}

// Mix is what is sent; the first three are relative to each other.
type Mix struct {
	Untagged   int `yaml:"untagged"`   // to be answered by the baseline
	Permissive int `yaml:"permissive"` // with the tag of a release that may fall back to it
	Strict     int `yaml:"strict"`     // with the tag of one that must not
	// Posts is how many percent are POSTs, which nobody may repeat once they
	// were read; the rest are GETs.
	Posts int `yaml:"posts_percent"`
}

// Steady is what holds while nothing is broken.
type Steady struct {
	// For is how long it must hold before anything is broken, 2 s when left
	// out.
	For time.Duration `yaml:"for"`
	// Slow is what at most 1% of the requests may take longer than in the
	// steady state, and above which a request counts as touched by a fault;
	// 200 ms when left out.
	Slow time.Duration `yaml:"slow"`
}

// Step is what is broken at one moment.
type Step struct {
	// At is since the load began, For how long it stays broken; without For it
	// is mended when the load has ended.
	At  time.Duration `yaml:"at"`
	For time.Duration `yaml:"for"`
	// Loses are the zones whose edge cannot serve its clients until this is
	// mended: what enters there is counted apart.
	Loses []string `yaml:"loses"`
	// Do are broken in this order, and mended in this order: the network comes
	// before what needs it.
	Do []fault.Spec `yaml:"do"`
}

// SLO is what must hold over the whole of a drill. What is left out is not
// judged. Beyond it, no drill may see an answer of a version that was not asked
// for, or one of a standby that a client without need was sent to.
type SLO struct {
	// LostIdempotent is percent of the idempotent requests that entered
	// surviving edges.
	LostIdempotent *float64 `yaml:"lost_idempotent_percent"`
	// Lost is percent of all requests that entered surviving edges.
	Lost *float64 `yaml:"lost_percent"`
	// Fallbacks is how many permissive requests may be answered by the
	// baseline. Where it is given, none may in the steady state.
	Fallbacks *int `yaml:"fallbacks"`
	// InBand is how long requests that enter surviving edges may be touched by
	// a fault.
	InBand time.Duration `yaml:"in_band"`
	// DNS is how long clients that go by DNS may be without an answer.
	DNS time.Duration `yaml:"dns"`
	// P99 bounds the latency of what entered surviving edges, over the whole
	// load.
	P99 time.Duration `yaml:"p99"`
	// P99Untagged is the same of untagged requests alone.
	P99Untagged time.Duration `yaml:"p99_untagged"`
	// Detected is what an edge must have said of the first fault.
	Detected Detected `yaml:"detected"`
}

// Detected is a sign that a drill waits for.
type Detected struct {
	// Within is since the fault began; 0: no sign is waited for.
	Within time.Duration `yaml:"within"`
	// Of are the zones one of which it must be about. Left out, they are those
	// that the first fault loses, or any where it loses none.
	Of []string `yaml:"of"`
	// By are the ways to notice, of which it must be one, as [report.Detection]
	// has them; any when left out.
	By []string `yaml:"by"`
}

// counts reports a sign that is one of those waited for.
func (d *Detected) counts(seen *report.Detection) bool {
	within := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	return seen.Edge != "" && within(d.By, seen.By) && within(d.Of, seen.Of)
}

// goal says what is waited for.
func (d *Detected) goal() string {
	text := "within " + d.Within.String()
	if len(d.By) > 0 {
		text += " by " + strings.Join(d.By, " or ")
	}
	if len(d.Of) > 0 {
		text += ", about " + strings.Join(d.Of, " or ")
	}
	return text
}

// withDefaults fills in what is left out.
func (d *Drill) withDefaults() {
	if d.Load.Timeout == 0 {
		d.Load.Timeout = defaultTimeout
	}
	if d.Load.Reconnect == 0 {
		d.Load.Reconnect = defaultReconnect
	}
	if d.Steady.For == 0 {
		d.Steady.For = defaultSteadyFor
	}
	if d.Steady.Slow == 0 {
		d.Steady.Slow = defaultSlow
	}
	if d.SLO.Detected.Within > 0 && len(d.SLO.Detected.Of) == 0 {
		d.SLO.Detected.Of = d.losesFirst()
	}
}

// losesFirst are the zones that the faults lose which begin first.
func (d *Drill) losesFirst() []string {
	first := d.Load.Duration
	for i := range d.Faults {
		first = min(first, d.Faults[i].At)
	}
	var zones []string
	for i := range d.Faults {
		if d.Faults[i].At == first {
			zones = append(zones, d.Faults[i].Loses...)
		}
	}
	return zones
}

// byDNS reports a load part of which goes by DNS.
func (l *Load) byDNS() bool {
	return slices.ContainsFunc(l.Streams, func(s Stream) bool { return s.Via == ViaDNS })
}

// end is when the last of what the time line mends by itself is to be mended.
func (s *Step) end(load time.Duration) time.Duration {
	if s.For == 0 {
		return load
	}
	return s.At + s.For
}

// faultCount is how many faults its steps have in all.
func (d *Drill) faultCount() int {
	n := 0
	for i := range d.Faults {
		n += len(d.Faults[i].Do)
	}
	return n
}
