package registry

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters only grow.
type counters struct {
	malformed    atomic.Uint64
	conflicts    atomic.Uint64
	relists      atomic.Uint64
	adopted      atomic.Uint64
	expired      atomic.Uint64
	forwarded    atomic.Uint64
	strayBeats   atomic.Uint64
	relayedBeats atomic.Uint64
	lostRelays   atomic.Uint64
	refusedPlays atomic.Uint64
}

// newMetrics publishes the registry's status; with a nil registerer nowhere.
func newMetrics(reg prometheus.Registerer, r *Registry) error {
	if reg == nil {
		return nil
	}
	var collectors []prometheus.Collector
	gauge := func(name, help string, read func(Status) float64) {
		collectors = append(collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return read(r.Status()) }))
	}
	counter := func(name, help string, read func() uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(read()) }))
	}
	flag := func(set bool) float64 {
		if set {
			return 1
		}
		return 0
	}
	gauge("grayfed_registry_revision", "Revision of etcd that this edge's view has reached.", func(s Status) float64 { return float64(s.Revision) })
	gauge("grayfed_registry_lag_seconds", "Time since etcd confirmed the view.", func(s Status) float64 { return s.Lag.Seconds() })
	gauge("grayfed_registry_stale", "1 while etcd does not confirm the view.", func(s Status) float64 { return flag(!s.Synced || !s.StaleSince.IsZero()) })
	gauge("grayfed_registry_registered", "1 while this edge holds its lease.", func(s Status) float64 { return flag(s.Registered) })
	gauge("grayfed_registry_instances", "Registered instances.", func(s Status) float64 { return float64(s.Instances) })
	gauge("grayfed_registry_owned_instances", "Instances whose heartbeats this edge keeps.", func(s Status) float64 { return float64(s.Owned) })
	gauge("grayfed_registry_orphaned_instances", "Instances without an owner that nobody adopted.", func(s Status) float64 { return float64(s.Orphans) })
	gauge("grayfed_registry_queued_writes", "Writes waiting for etcd.", func(s Status) float64 { return float64(s.Queued) })
	c := &r.counters
	counter("grayfed_registry_malformed_values_total", "Values of etcd that could not be read, each time one came.", c.malformed.Load)
	counter("grayfed_registry_write_conflicts_total", "Writes that another write came in between of, and that were tried again.", c.conflicts.Load)
	counter("grayfed_registry_relists_total", "Lists after a watch that could not go on.", c.relists.Load)
	counter("grayfed_registry_adopted_instances_total", "Instances adopted by this edge.", c.adopted.Load)
	counter("grayfed_registry_expired_instances_total", "Instances removed by this edge because their heartbeats ended.", c.expired.Load)
	counter("grayfed_registry_forwarded_heartbeats_total", "Heartbeats passed on to the owner.", c.forwarded.Load)
	counter("grayfed_registry_stray_heartbeats_total", "Heartbeats passed on to this edge for what it does not own.", c.strayBeats.Load)
	counter("grayfed_registry_relayed_heartbeats_total", "Heartbeats given to another edge while this one had no lease.", c.relayedBeats.Load)
	counter("grayfed_registry_lost_relays_total", "Heartbeats relayed to this edge and dropped because too many waited.", c.lostRelays.Load)
	counter("grayfed_registry_refused_replays_total", "Queued writes dropped because etcd held something newer or they were too old.", c.refusedPlays.Load)
	counter("grayfed_registry_refused_queued_writes_total", "Writes refused because too many waited for etcd.", func() uint64 { _, overflow := r.pending.len(); return overflow })
	for _, collector := range collectors {
		if err := reg.Register(collector); err != nil {
			return fmt.Errorf("register metrics of the registry: %w", err)
		}
	}
	return nil
}
