package consul

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters only grow.
type counters struct {
	registrations atomic.Uint64
	failures      atomic.Uint64
	corrections   atomic.Uint64
	refused       atomic.Uint64
}

// newMetrics publishes how the publishing goes; with a nil registerer nowhere.
func newMetrics(reg prometheus.Registerer, p *Publisher) error {
	if reg == nil {
		return nil
	}
	var collectors []prometheus.Collector
	gauge := func(name, help string, read func() float64) {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	counter := func(name, help string, read *atomic.Uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(read.Load()) }))
	}
	flag := func(set bool) float64 {
		if set {
			return 1
		}
		return 0
	}
	gauge("grayfed_consul_registered", "1 while Consul's agent holds this edge's entry.", func() float64 { return flag(p.Status().Registered) })
	gauge("grayfed_consul_leader", "1 while a Consul leader confirms what is read.", func() float64 { return flag(p.Status().Leader) })
	gauge("grayfed_consul_confirmed_timestamp_seconds", "When a Consul leader confirmed the entries last; 0: never.", func() float64 {
		confirmed := p.Status().Confirmed
		if confirmed.IsZero() {
			return 0
		}
		return float64(confirmed.UnixNano()) / float64(time.Second)
	})
	gauge("grayfed_consul_entries", "Edges' entries in Consul.", func() float64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return float64(len(p.view.Entries))
	})
	gauge("grayfed_consul_published_weight", "Weight of this edge's entry as published; 0 while it is out or not there.", func() float64 {
		published := p.published.Load()
		if published == nil || !published.in {
			return 0
		}
		return float64(published.weight)
	})
	c := &p.counters
	counter("grayfed_consul_registrations_total", "Times that this edge's entry was given to Consul's agent.", &c.registrations)
	counter("grayfed_consul_failed_requests_total", "Requests to Consul's agent that failed.", &c.failures)
	counter("grayfed_consul_corrections_total", "Times that Consul held another entry of this edge than was published.", &c.corrections)
	counter("grayfed_consul_refused_entries_total", "Entries in Consul that were not believed, each once while it stays as it is.", &c.refused)
	for _, collector := range collectors {
		if err := reg.Register(collector); err != nil {
			return fmt.Errorf("register metrics of Consul: %w", err)
		}
	}
	return nil
}
