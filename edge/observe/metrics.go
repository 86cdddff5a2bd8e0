package observe

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what became of the lines of an access log.
type counters struct {
	written, dropped, failed atomic.Uint64
}

func (c *counters) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	const lost = "grayfed_access_log_lost_lines_total"
	for _, v := range []struct {
		name, help, reason string
		value              *atomic.Uint64
	}{
		{"grayfed_access_log_written_lines_total", "Access log lines written.", "", &c.written},
		{lost, "Access log lines lost, by reason.", "queue-full", &c.dropped},
		{lost, "Access log lines lost, by reason.", "write-failed", &c.failed},
	} {
		opts := prometheus.CounterOpts{Name: v.name, Help: v.help}
		if v.reason != "" {
			opts.ConstLabels = prometheus.Labels{"reason": v.reason}
		}
		if err := reg.Register(prometheus.NewCounterFunc(opts, func() float64 { return float64(v.value.Load()) })); err != nil {
			return err
		}
	}
	return nil
}
