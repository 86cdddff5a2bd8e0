package health

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// state is the judgement on one endpoint. It is a plain state machine: events
// and the time go in; status, percent and cause are what comes out.
//
//	unknown -> healthy <-> unhealthy -> recovering -> healthy
//
// An endpoint that was ejected for failed connections comes back as soon as
// probes begun after the ejection succeed: they try the very thing that
// failed. (Envoy: successful_active_health_check_uneject_host, on by default.)
// One that was ejected for bad answers serves its time, since its /healthz was
// good all along; then it comes back unless its probes fail.
type state struct {
	status  federation.HealthStatus
	percent uint8
	cause   cause

	// Of the schedule.
	probing  bool
	index    int32  // in the heap; -1: not in it
	next     moment // probe
	began    moment // last probe
	reported moment // last record
	seq      uint64

	since     moment // of the status, or of the step while recovering
	until     moment // end of an ejection for bad answers, at the earliest
	forgiven  moment // when the last ejection was
	step      int32  // of recovery
	failures  int32  // probes in a row
	successes int32  // probes in a row
	ejections int32  // not yet forgiven
}

// moment is a time on the monitor's own clock; 0 is long before its first. It
// takes a third of the memory of a time.Time.
type moment time.Duration

func (m moment) add(d time.Duration) moment { return m + moment(d) }

func (m moment) sub(o moment) time.Duration { return time.Duration(m - o) }

// eject takes the endpoint out for observed failures.
func (s *state) eject(c cause, e *Ejection, now moment) {
	s.forgive(e, now)
	s.ejections++
	span := min(e.Base*time.Duration(s.ejections), e.Max)
	s.to(federation.Unhealthy, 0, c, now)
	s.until = now.add(span)
	s.forgiven = s.until
	s.successes = 0
}

// forgive takes one ejection off for every Base without another.
func (s *state) forgive(e *Ejection, now moment) {
	for s.ejections > 0 && now.sub(s.forgiven) >= e.Base {
		s.ejections--
		s.forgiven = s.forgiven.add(e.Base)
	}
}

// probed takes the outcome of a probe that began at the given time.
func (s *state) probed(ok bool, began moment, o *Options, now moment) {
	if ok {
		s.failures = 0
		if s.status != federation.Unhealthy || began > s.since {
			s.successes++
		}
	} else {
		s.successes = 0
		s.failures++
	}
	switch {
	case int(s.failures) >= o.Probing.Failures && s.status != federation.Unhealthy:
		s.to(federation.Unhealthy, 0, causeProbe, now)
		s.until = now
	case ok && s.status == federation.HealthUnknown:
		s.to(federation.Healthy, 100, causeNone, now)
	case s.status == federation.Unhealthy && s.mayReturn(o, now):
		s.recover(&o.Recovery, now)
	}
}

// mayReturn reports whether an endpoint that is out may come back.
func (s *state) mayReturn(o *Options, now moment) bool {
	switch s.cause {
	case causeProbe:
		return int(s.successes) >= o.Probing.Successes
	case causeConnect:
		return int(s.successes) >= o.Probing.Successes || s.failures == 0 && now >= s.until
	case causeGateway, causeWindow, causeNone:
		return s.failures == 0 && now >= s.until
	}
	return false
}

// pass does what time alone does.
func (s *state) pass(o *Options, now moment) {
	switch s.status {
	case federation.Unhealthy:
		if s.mayReturn(o, now) {
			s.recover(&o.Recovery, now)
		}
	case federation.Recovering:
		for s.status == federation.Recovering && now.sub(s.since) >= o.Recovery.Step {
			s.since = s.since.add(o.Recovery.Step)
			s.step++
			s.climb(&o.Recovery, s.since)
		}
	case federation.Healthy, federation.HealthUnknown:
	}
}

func (s *state) recover(r *Recovery, now moment) {
	s.step = 0
	s.climb(r, now)
}

func (s *state) climb(r *Recovery, now moment) {
	if int(s.step) >= len(r.Steps) {
		s.to(federation.Healthy, 100, causeNone, now)
		return
	}
	s.to(federation.Recovering, r.Steps[s.step], causeNone, now)
}

func (s *state) to(status federation.HealthStatus, percent uint8, c cause, now moment) {
	s.status, s.percent, s.cause, s.since = status, percent, c, now
}

// due is when time alone changes the state next; zero: never.
func (s *state) due(o *Options) moment {
	switch s.status {
	case federation.Recovering:
		return s.since.add(o.Recovery.Step)
	case federation.Unhealthy:
		if s.cause != causeProbe && s.failures == 0 {
			return s.until
		}
	case federation.Healthy, federation.HealthUnknown:
	}
	return 0
}
