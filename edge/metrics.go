package edge

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/grayfed/grayfed/edge/http1"
)

// newRegisterer holds one edge's metrics: two edges may run in one process.
func newRegisterer() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// metrics are the edge's own: what its parts count without publishing it, and
// what only the whole knows.
type metrics struct {
	edge    *Edge
	reloads *prometheus.CounterVec
	descs   edgeDescs
}

type edgeDescs struct {
	build, ready, configValid, configInfo *prometheus.Desc
	connections, tunnels, ended, refused  *prometheus.Desc
	accepted, acceptFailed, overLimit     *prometheus.Desc
	failoverIn, failoverWeight            *prometheus.Desc
	turns, answered, missed               *prometheus.Desc
	capacity, usable                      *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, e *Edge) (*metrics, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("grayfed_"+name, help, labels, nil)
	}
	m := &metrics{
		edge: e,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grayfed_config_reloads_total", Help: "Sets of documents that were put in force or refused.",
		}, []string{"result"}),
		descs: edgeDescs{
			build:        desc("build_info", "Always 1; says which version runs where.", "version", "edge", "zone", "region"),
			ready:        desc("edge_ready", "1 while the edge is ready for requests."),
			configValid:  desc("config_valid", "1 while the newest documents are in force, 0 while they are refused."),
			configInfo:   desc("config_info", "Always 1; the hash of the documents in force.", "hash"),
			connections:  desc("client_connections", "Client connections by protocol and what they do.", "protocol", "state"),
			tunnels:      desc("client_tunnels", "Tunnels, each a connection of HTTP/1 or a stream of HTTP/2.", "protocol"),
			ended:        desc("client_connections_ended_total", "Client connections that have ended.", "protocol"),
			refused:      desc("client_messages_refused_total", "Requests, streams and connections that were refused for their form.", "protocol", "reason"),
			accepted:     desc("listener_accepted_total", "Connections taken on.", "listener"),
			acceptFailed: desc("listener_failures_total", "Accept calls that failed.", "listener"),
			overLimit:    desc("listener_refused_total", "Connections closed because the limit was reached.", "listener"),

			failoverIn:     desc("failover_in", "1 while clients are sent to this edge by DNS."),
			failoverWeight: desc("failover_weight", "Weight of this edge's entry in DNS while it is in."),
			turns:          desc("failover_transitions_total", "Times that this edge's entry in DNS went in or out."),
			answered:       desc("failover_answered_edges", "Edges in what DNS answers."),
			capacity:       desc("failover_zone_capacity", "Weight that the zone's instances have when all is well, as the edge's entry is judged by it."),
			usable:         desc("failover_zone_usable", "What of it is usable now."),
			missed:         desc("failover_probes_missed_total", "Heartbeat probes of other edges without an answer."),
		},
	}
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	if err := reg.Register(m.reloads); err != nil {
		return nil, err
	}
	return m, reg.Register(m)
}

var _ prometheus.Collector = (*metrics)(nil)

func (m *metrics) reloaded(applied bool) {
	if applied {
		m.reloads.WithLabelValues("applied").Inc()
		return
	}
	m.reloads.WithLabelValues("refused").Inc()
}

// Describe implements [prometheus.Collector]. It sends nothing, which makes the
// collector an unchecked one: hashes and reasons come with time.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	e, d := m.edge, &m.descs
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	count := func(desc *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	truth := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	gauge(d.build, 1, e.version, e.self.ID, e.self.Zone, e.self.Region)
	gauge(d.ready, truth(e.notReady() == nil))
	if state := e.config.Load(); state != nil {
		gauge(d.configValid, truth(state.problem == nil))
		gauge(d.configInfo, 1, state.documents.Hash)
	}

	for _, c := range e.data.counts() {
		gauge(d.connections, float64(c.idle), c.protocol, "idle")
		gauge(d.connections, float64(c.active), c.protocol, "active")
		gauge(d.tunnels, float64(c.tunnels), c.protocol)
		count(d.ended, uint64(c.ended), c.protocol)
		for reason, n := range c.refused {
			count(d.refused, uint64(n), c.protocol, reason)
		}
	}
	for n, l := range e.process.DataListeners() {
		sockets := e.data.listeners[n].Stats()
		count(d.accepted, sockets.Accepted, l.Name)
		count(d.acceptFailed, sockets.Failed, l.Name)
		count(d.overLimit, sockets.Refused, l.Name)
	}
	if f := e.failover; f != nil {
		p := f.picture()
		gauge(d.failoverIn, truth(p.decision.In))
		gauge(d.failoverWeight, float64(p.decision.Weight))
		count(d.turns, p.turns)
		gauge(d.answered, float64(len(p.shares)))
		gauge(d.capacity, float64(p.capacity)/100)
		gauge(d.usable, float64(p.healthy)/100)
		count(d.missed, f.probes.missed.Load())
	}
}

// codecCounts are what the codecs of one protocol count, under common names.
type codecCounts struct {
	protocol              string
	idle, active, tunnels int
	ended                 int64
	refused               map[string]int64 // by reason
}

func (d *data) counts() []codecCounts {
	one := codecCounts{protocol: "http/1", refused: make(map[string]int64)}
	for _, codec := range append([]*http1.Server{d.codec1}, d.redirects...) {
		s := codec.Stats()
		one.idle += s.Idle
		one.active += s.Active
		one.tunnels += s.Tunnels
		one.ended += s.Ended
		for reason, n := range s.Refused {
			one.refused[reason.String()] += n
		}
	}
	s := d.codec2.Stats()
	two := codecCounts{
		protocol: "http/2", idle: s.Idle, active: s.Active, tunnels: s.Tunnels, ended: s.Ended,
		refused: make(map[string]int64, len(s.Refused)),
	}
	for reason, n := range s.Refused {
		two.refused[reason.String()] = n
	}
	return []codecCounts{one, two}
}
