package gossip

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what this edge's gossip has met since it started.
type counters struct {
	received     atomic.Uint64
	malformed    atomic.Uint64
	foreign      atomic.Uint64
	unsupported  atomic.Uint64
	implausible  atomic.Uint64
	stale        atomic.Uint64
	unknown      atomic.Uint64
	rejected     atomic.Uint64
	inboxFull    atomic.Uint64
	queueFull    atomic.Uint64
	recordsFull  atomic.Uint64
	loadsFull    atomic.Uint64
	streamsFull  atomic.Uint64
	conflicts    atomic.Uint64
	refused      atomic.Uint64
	syncs        atomic.Uint64
	rejoins      atomic.Uint64
	logsDropped  atomic.Uint64
	driftingRTTs atomic.Int64
}

// Stats are what gossip has met since it started.
type Stats struct {
	Received    uint64 // messages of other edges, good and bad
	Malformed   uint64 // dropped: not decodable
	Foreign     uint64 // dropped: of another federation
	Unsupported uint64 // dropped: of a schema this version does not read
	Implausible uint64 // dropped: a Lamport time too far ahead
	Stale       uint64 // dropped: older than what is known
	Unknown     uint64 // dropped: of an edge, or a life of one, not met yet
	Rejected    uint64 // packets and streams that did not decrypt or parse
	InboxFull   uint64 // dropped: came faster than worked on; the next sync brings them
	QueueFull   uint64 // dropped from the outgoing queue; the next sync brings them
	RecordsFull uint64 // dropped: an observer with too many deviations
	LoadsFull   uint64 // not announced: too many endpoints
	StreamsFull uint64 // connections closed: too many at once
	Conflicts   uint64 // sightings of two edges with one id
	Refused     uint64 // edges refused: another federation, no room, round trip too long
	Syncs       uint64 // whole sets asked for after a gap
	Rejoins     uint64 // attempts to reach an edge that is not alive
	Queued      int    // messages waiting to go out
	Members     int    // edges alive, this one included
	Drifting    int    // edges whose round trip has grown past a third of the probe timeout
}

func (c *counters) stats() Stats {
	return Stats{
		Received:    c.received.Load(),
		Malformed:   c.malformed.Load(),
		Foreign:     c.foreign.Load(),
		Unsupported: c.unsupported.Load(),
		Implausible: c.implausible.Load(),
		Stale:       c.stale.Load(),
		Unknown:     c.unknown.Load(),
		Rejected:    c.rejected.Load(),
		InboxFull:   c.inboxFull.Load(),
		QueueFull:   c.queueFull.Load(),
		RecordsFull: c.recordsFull.Load(),
		LoadsFull:   c.loadsFull.Load(),
		StreamsFull: c.streamsFull.Load(),
		Conflicts:   c.conflicts.Load(),
		Refused:     c.refused.Load(),
		Syncs:       c.syncs.Load(),
		Rejoins:     c.rejoins.Load(),
		Drifting:    int(c.driftingRTTs.Load()),
	}
}

// newMetrics publishes the counters; with a nil registerer nowhere.
func newMetrics(reg prometheus.Registerer, g *Gossip) error {
	if reg == nil {
		return nil
	}
	var collectors []prometheus.Collector
	counter := func(labels prometheus.Labels, name, help string, v *atomic.Uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, read func(Stats) int) {
		collectors = append(collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(read(g.Stats())) }))
	}
	c := &g.counters
	counter(nil, "grayfed_gossip_received_messages_total", "Gossip messages received, good and bad.", &c.received)
	for reason, v := range map[string]*atomic.Uint64{
		"malformed": &c.malformed, "foreign": &c.foreign, "schema": &c.unsupported,
		"implausible": &c.implausible, "stale": &c.stale, "unknown-edge": &c.unknown,
		"rejected": &c.rejected, "inbox-full": &c.inboxFull, "queue-full": &c.queueFull,
		"records-full": &c.recordsFull, "loads-full": &c.loadsFull, "streams-full": &c.streamsFull,
	} {
		counter(prometheus.Labels{"reason": reason}, "grayfed_gossip_dropped_messages_total", "Gossip messages dropped.", v)
	}
	counter(nil, "grayfed_gossip_id_conflicts_total", "Sightings of two edges with one id.", &c.conflicts)
	counter(nil, "grayfed_gossip_refused_edges_total", "Edges refused.", &c.refused)
	counter(nil, "grayfed_gossip_syncs_total", "Whole sets of deviations asked for after a gap.", &c.syncs)
	counter(nil, "grayfed_gossip_rejoins_total", "Attempts to reach an edge that is not alive.", &c.rejoins)
	counter(nil, "grayfed_gossip_dropped_log_lines_total", "Lines about membership not logged, because there were too many.", &c.logsDropped)
	gauge("grayfed_gossip_queued_messages", "Messages waiting to go out.", func(s Stats) int { return s.Queued })
	gauge("grayfed_gossip_alive_edges", "Edges alive, this one included.", func(s Stats) int { return s.Members })
	gauge("grayfed_gossip_drifting_edges", "Edges whose round trip is more than a third of the probe timeout.", func(s Stats) int { return s.Drifting })
	for _, collector := range collectors {
		if err := reg.Register(collector); err != nil {
			return err
		}
	}
	return nil
}
