package dns

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count lookups.
type metrics struct {
	found, absent, failed, refused atomic.Uint64
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
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
	for outcome, v := range map[string]*atomic.Uint64{"found": &m.found, "absent": &m.absent, "failed": &m.failed} {
		counter("grayfed_dns_lookups_total", "Lookups of upstreams' names, by outcome.", prometheus.Labels{"outcome": outcome}, v)
	}
	counter("grayfed_dns_refused_addresses_total", "Addresses of upstreams that the address policy refused.", nil, &m.refused)
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
