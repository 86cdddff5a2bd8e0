package gateway

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the gateway's own, beside those of requests.
type metrics struct {
	repeats   [repeatCount]prometheus.Counter
	noBudget  prometheus.Counter
	demotions prometheus.Counter
	moves     prometheus.Counter
	drained   prometheus.Counter
	panics    prometheus.Counter
	breakers  *prometheus.CounterVec // service, to
	queued    *prometheus.CounterVec // service, outcome
	hops      *prometheus.CounterVec // edge, outcome
	received  *prometheus.CounterVec // edge, outcome
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		noBudget: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grayfed_retries_refused_total", Help: "Retries that the retry budget of the service refused.",
		}),
		demotions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grayfed_zone_demotions_total", Help: "Zones demoted: their edges dead and an endpoint failing.",
		}),
		moves: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "grayfed_requests_moved_total", Help: "Waiting requests that were cancelled because their zone was demoted or nobody could reach their endpoint.",
		}),
	}
	m.drained = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "grayfed_exchanges_drained_total", Help: "Tunnels and streams that were ended because their endpoint drained or was gone.",
	})
	m.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "grayfed_gateway_panics_total", Help: "Requests over which the gateway panicked.",
	})
	m.breakers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grayfed_breaker_changes_total", Help: "Changes of circuit breakers, by service and the state changed to.",
	}, []string{"service", "to"})
	m.queued = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grayfed_requests_queued_total", Help: "Requests that had to wait for a place, by service and outcome: served, full or timeout.",
	}, []string{"service", "outcome"})
	m.hops = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grayfed_peer_attempts_total",
		Help: "Attempts sent through other edges, by edge and outcome: served, not-processed, failed, unreachable, broken-off or moved.",
	}, []string{"edge", "outcome"})
	m.received = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grayfed_peer_requests_total",
		Help: "Requests received from other edges, by edge (unknown for one that this edge does not know) and outcome: served, not-processed or failed.",
	}, []string{"edge", "outcome"})
	all := []prometheus.Collector{m.noBudget, m.demotions, m.moves, m.drained, m.panics, m.breakers, m.queued, m.hops, m.received}
	for kind := repeatUnwritten; kind < repeatCount; kind++ {
		m.repeats[kind] = prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "grayfed_attempts_repeated_total",
			Help:        "Attempts that were followed by another one, by why they could be.",
			ConstLabels: prometheus.Labels{"why": repeatNames[kind]},
		})
		all = append(all, m.repeats[kind])
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) demoted(moved int) {
	m.demotions.Inc()
	m.moves.Add(float64(moved))
}

// forgetPeer drops the series of an edge.
func (m *metrics) forgetPeer(id string) {
	m.hops.DeletePartialMatch(prometheus.Labels{"edge": id})
	m.received.DeletePartialMatch(prometheus.Labels{"edge": id})
}

// forget drops the series of a service.
func (m *metrics) forget(service string) {
	m.breakers.DeletePartialMatch(prometheus.Labels{"service": service})
	m.queued.DeletePartialMatch(prometheus.Labels{"service": service})
}
