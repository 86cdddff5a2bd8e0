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

	since     time.Time // of the status, or of the step while recovering
	until     time.Time // end of an ejection for bad answers, at the earliest
	step      int       // of recovery
	failures  int       // probes in a row
	successes int       // probes in a row
	ejections int       // not yet forgiven
	forgiven  time.Time // when the last was

	// Of the schedule.
	next     time.Time // probe
	began    time.Time // last probe
	probing  bool
	index    int       // in the heap; -1: not in it
	reported time.Time // last record
	seq      uint64
}

// eject takes the endpoint out for observed failures.
func (s *state) eject(c cause, e *Ejection, now time.Time) {
	s.forgive(e, now)
	s.ejections++
	span := min(e.Base*time.Duration(s.ejections), e.Max)
	s.to(federation.Unhealthy, 0, c, now)
	s.until = now.Add(span)
	s.forgiven = s.until
	s.successes = 0
}

// forgive takes one ejection off for every Base without another.
func (s *state) forgive(e *Ejection, now time.Time) {
	for s.ejections > 0 && now.Sub(s.forgiven) >= e.Base {
		s.ejections--
		s.forgiven = s.forgiven.Add(e.Base)
	}
}

// probed takes the outcome of a probe that began at the given time.
func (s *state) probed(ok bool, began time.Time, o *Options, now time.Time) {
	if ok {
		s.failures = 0
		if s.status != federation.Unhealthy || began.After(s.since) {
			s.successes++
		}
	} else {
		s.successes = 0
		s.failures++
	}
	switch {
	case s.failures >= o.Probing.Failures && s.status != federation.Unhealthy:
		s.to(federation.Unhealthy, 0, causeProbe, now)
		s.until = now
	case ok && s.status == federation.HealthUnknown:
		s.to(federation.Healthy, 100, causeNone, now)
	case s.status == federation.Unhealthy && s.mayReturn(o, now):
		s.recover(&o.Recovery, now)
	}
}

// mayReturn reports whether an endpoint that is out may come back.
func (s *state) mayReturn(o *Options, now time.Time) bool {
	switch s.cause {
	case causeProbe:
		return s.successes >= o.Probing.Successes
	case causeConnect:
		return s.successes >= o.Probing.Successes || s.failures == 0 && !now.Before(s.until)
	case causeGateway, causeWindow, causeNone:
		return s.failures == 0 && !now.Before(s.until)
	}
	return false
}

// pass does what time alone does.
func (s *state) pass(o *Options, now time.Time) {
	switch s.status {
	case federation.Unhealthy:
		if s.mayReturn(o, now) {
			s.recover(&o.Recovery, now)
		}
	case federation.Recovering:
		for s.status == federation.Recovering && now.Sub(s.since) >= o.Recovery.Step {
			s.since = s.since.Add(o.Recovery.Step)
			s.step++
			s.climb(&o.Recovery, s.since)
		}
	case federation.Healthy, federation.HealthUnknown:
	}
}

func (s *state) recover(r *Recovery, now time.Time) {
	s.step = 0
	s.climb(r, now)
}

func (s *state) climb(r *Recovery, now time.Time) {
	if s.step >= len(r.Steps) {
		s.to(federation.Healthy, 100, causeNone, now)
		return
	}
	s.to(federation.Recovering, r.Steps[s.step], causeNone, now)
}

func (s *state) to(status federation.HealthStatus, percent uint8, c cause, now time.Time) {
	s.status, s.percent, s.cause, s.since = status, percent, c, now
}

// due is when time alone changes the state next; zero: never.
func (s *state) due(o *Options) time.Time {
	switch s.status {
	case federation.Recovering:
		return s.since.Add(o.Recovery.Step)
	case federation.Unhealthy:
		if s.cause != causeProbe && s.failures == 0 {
			return s.until
		}
	case federation.Healthy, federation.HealthUnknown:
	}
	return time.Time{}
}
