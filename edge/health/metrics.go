package health

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the monitor does.
type metrics struct {
	succeeded, failed atomic.Uint64
	late              atomic.Uint64
	ejections         [causeProbe]atomic.Uint64
}

func newMetrics(reg prometheus.Registerer, monitor *Monitor) (*metrics, error) {
	m := &metrics{}
	if reg == nil {
		return m, nil
	}
	var collectors []prometheus.Collector
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	counter("grayfed_health_probes_total", "Probes by outcome.", prometheus.Labels{"outcome": "success"}, &m.succeeded)
	counter("grayfed_health_probes_total", "Probes by outcome.", prometheus.Labels{"outcome": "failure"}, &m.failed)
	counter("grayfed_health_late_probes_total", "Probes that began more than an interval late.", nil, &m.late)
	for c, name := range map[cause]string{causeConnect: "connect", causeGateway: "gateway", causeWindow: "window"} {
		counter("grayfed_health_ejections_total", "Endpoints ejected for observed failures, by cause.", prometheus.Labels{"cause": name}, &m.ejections[c])
	}
	collectors = append(collectors, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "grayfed_health_tracked_endpoints", Help: "Endpoints that this edge keeps evidence on."},
		func() float64 { return float64(monitor.tracked.Load()) }))
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) probed(ok bool) {
	if ok {
		m.succeeded.Add(1)
	} else {
		m.failed.Add(1)
	}
}

func (m *metrics) ejected(c cause) {
	if c < causeProbe {
		m.ejections[c].Add(1)
	}
}
