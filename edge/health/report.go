package health

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// changed records a new judgement, to be told at once.
func (m *Monitor) changed(t *Tracker, now time.Time) {
	m.seq++
	t.state.seq = m.seq
	m.urgent = true
	s, i := t.state, t.instance.Load()
	m.opts.Log.Info("endpoint health changed", "endpoint", i.String(), "address", i.Address,
		"status", s.status.String(), "percent", s.percent, "reason", s.cause.reason())
	m.report(t, now)
}

// report puts the tracker's record into the batch.
func (m *Monitor) report(t *Tracker, now time.Time) {
	s := t.state
	if len(m.batch) == 0 {
		m.batchAt = now
	}
	s.reported = m.moment(now)
	m.batch = append(m.batch, federation.HealthRecord{
		Subject:     t.instance.Load().Key,
		Observer:    m.opts.Self,
		Incarnation: m.opts.Incarnation,
		Seq:         s.seq,
		Status:      s.status,
		Percent:     s.percent,
		Reason:      s.cause.reason(),
		Received:    now,
	})
}

// withdraw takes back what was said of an endpoint that is gone.
func (m *Monitor) withdraw(t *Tracker, now time.Time) {
	if t.state.status == federation.HealthUnknown {
		return
	}
	t.state.to(federation.HealthUnknown, 0, causeNone, m.moment(now))
	m.seq++
	t.state.seq = m.seq
	m.urgent = true
	m.report(t, now)
}

// flush gives the batch to the sink when it is due.
func (m *Monitor) flush(now time.Time) {
	if len(m.batch) == 0 || !m.urgent && len(m.batch) < flushSize && now.Sub(m.batchAt) < flushPause {
		return
	}
	batch := m.batch
	m.batch, m.urgent = nil, false
	m.opts.Sink(batch)
}
