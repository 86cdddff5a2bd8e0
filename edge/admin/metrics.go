package admin

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the API is asked.
type metrics struct {
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grayfed_admin_requests_total",
			Help: "Requests of the HTTP API by endpoint (none: refused before it was known, or no such) and class of status.",
		}, []string{"endpoint", "code"}),
	}
	if reg == nil {
		return m, nil
	}
	events := s.opts.Events
	for _, c := range []prometheus.Collector{
		m.requests,
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "grayfed_admin_event_readers", Help: "Open streams of events."},
			func() float64 { return float64(events.readers.Load()) }),
		prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "grayfed_admin_events_total", Help: "Events published."},
			func() float64 { return float64(events.published.Load()) }),
		prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "grayfed_admin_events_missed_total", Help: "Events that a reader was too slow for, summed over readers."},
			func() float64 { return float64(events.missed.Load()) }),
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "grayfed_admin_connections", Help: "Open connections of the API's listeners."},
			func() float64 { return s.sum(func(l *boundListener) float64 { return float64(l.open.Load()) }) }),
		prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "grayfed_admin_connections_refused_total", Help: "Connections of the API's listeners closed at the limit."},
			func() float64 { return s.sum(func(l *boundListener) float64 { return float64(l.refused.Load()) }) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (s *Server) sum(of func(*boundListener) float64) (total float64) {
	for _, l := range []*boundListener{s.api, s.health} {
		if l != nil {
			total += of(l)
		}
	}
	return total
}

// answered counts one answer; e is nil when the endpoint is not known.
func (m *metrics) answered(e *endpoint, status int) {
	name := "none"
	if e != nil {
		name = e.method + " " + e.path
	}
	m.requests.WithLabelValues(name, strconv.Itoa(status/100)+"xx").Inc()
}
