package certs

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what became of changed files.
type metrics struct {
	applied, refused atomic.Uint64
	stale            atomic.Int64
}

func newMetrics(reg prometheus.Registerer, name string, pairs []*pair) (*metrics, error) {
	m := &metrics{}
	if reg == nil {
		return m, nil
	}
	var collectors []prometheus.Collector
	for _, p := range pairs {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "grayfed_certificate_expiry_seconds", Help: "Unix time after which a certificate in use is not valid any more.",
			ConstLabels: prometheus.Labels{"name": name, "file": p.files[0]},
		}, func() float64 { return float64(p.notAfter.Load()) }))
	}
	for result, v := range map[string]*atomic.Uint64{"applied": &m.applied, "refused": &m.refused} {
		collectors = append(collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "grayfed_certificate_reloads_total", Help: "Changes of certificate files that were put in force or refused.",
			ConstLabels: prometheus.Labels{"name": name, "result": result},
		}, func() float64 { return float64(v.Load()) }))
	}
	collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grayfed_certificates_stale", Help: "Certificates and authorities whose files cannot be used, or are not valid now, so that earlier content is in force.",
		ConstLabels: prometheus.Labels{"name": name},
	}, func() float64 { return float64(m.stale.Load()) }))
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
