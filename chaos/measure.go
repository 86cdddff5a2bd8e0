package chaos

import (
	"cmp"
	"slices"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

const (
	// edgeReturns is how long an edge that was mended may take before what
	// enters it counts as entering a surviving edge again: it starts anew and
	// reads its view of the federation.
	edgeReturns = 3 * time.Second
	// calm is how long nothing must be touched before a fault counts as
	// recovered from.
	calm = time.Second
	// maxReasons bounds the reasons that are told apart.
	maxReasons = 50
)

// span is a stretch of a run.
type span struct{ from, to time.Duration }

// measured is a run's raw material.
type measured struct {
	target   *Target
	slow     time.Duration
	outcomes []outcome
	steps    []brokenStep
	end      time.Duration // of the load
}

// brokenStep is what became of one step.
type brokenStep struct {
	name   string
	loses  []int // edges
	begun  time.Duration
	mended time.Duration // when mending began
	back   time.Duration // when it was mended; 0: never within the load
}

// lostSpans are when each edge was lost to its clients.
func (m *measured) lostSpans() [][]span {
	lost := make([][]span, len(m.target.Edges))
	for _, s := range m.steps {
		to := time.Duration(1<<63 - 1)
		if s.back > 0 {
			to = s.back + edgeReturns
		}
		for _, edge := range s.loses {
			lost[edge] = append(lost[edge], span{s.begun, to})
		}
	}
	return lost
}

// inDead reports a request that entered an edge while it was lost, or before,
// and was still in it.
func inDead(o *outcome, lost [][]span) bool {
	return o.entry >= 0 && slices.ContainsFunc(lost[o.entry], func(s span) bool { return o.intended < s.to && o.done > s.from })
}

// sums are what the checks go by, beyond the report's totals.
type sums struct {
	report.Totals
	fallbacks int
	p99       time.Duration // of what entered surviving edges
	p99Plain  time.Duration // of what is untagged of it
	slowest   time.Duration
	tooSlow   int // of Surviving: took longer than slow
	late      time.Duration
	lateP99   time.Duration
}

// sum counts all requests.
func (m *measured) sum() *sums {
	s := &sums{Totals: report.Totals{Reasons: make(map[string]int)}}
	lost := m.lostSpans()
	needed := m.standbyNeeded()
	latencies := make([]time.Duration, 0, len(m.outcomes))
	var plain []time.Duration // latencies of untagged requests
	lates := make([]time.Duration, 0, len(m.outcomes))
	reason := func(text string) {
		if _, known := s.Reasons[text]; !known && len(s.Reasons) >= maxReasons {
			text = "other reasons"
		}
		s.Reasons[text]++
	}
	for i := range m.outcomes {
		o := &m.outcomes[i]
		dead := inDead(o, lost)
		s.Requests++
		lates = append(lates, o.late)
		if o.byDNS() && o.entry >= 0 && m.target.Edges[o.entry].Standby && o.intended < needed {
			s.Premature++
		}
		if o.fallback {
			s.fallbacks++
		}
		switch {
		case o.wrong != "":
			s.Wrong++
			reason(o.wrong)
		case o.failure != "" && dead:
			s.InDeadEdge++
			reason("in a lost edge: " + o.failure)
		case o.failure != "":
			s.Lost++
			text := o.failure
			if o.post {
				text = "POST: " + text
			} else {
				s.LostIdempotent++
			}
			reason(text)
		}
		if dead {
			continue
		}
		s.Surviving++
		if !o.post {
			s.Idempotent++
		}
		latencies = append(latencies, o.latency())
		if o.class == untagged {
			plain = append(plain, o.latency())
		}
		if o.latency() > m.slow {
			s.tooSlow++
		}
	}
	slices.Sort(latencies)
	slices.Sort(plain)
	slices.Sort(lates)
	s.p99, s.slowest = quantile(latencies, 0.99), quantile(latencies, 1)
	s.p99Plain = quantile(plain, 0.99)
	s.lateP99, s.late = quantile(lates, 0.99), quantile(lates, 1)
	return s
}

// standbyNeeded is from when on DNS may answer standbys: all primaries were lost
// at the same time. A standby may stay in while they come back.
func (m *measured) standbyNeeded() time.Duration {
	never := time.Duration(1<<63 - 1)
	lost := m.lostSpans()
	var moments []time.Duration
	for _, s := range m.steps {
		moments = append(moments, s.begun)
	}
	slices.Sort(moments)
	primaries := m.target.primaries()
	if len(primaries) == 0 {
		return 0 // there is nobody else
	}
	for _, at := range moments {
		all := true
		for _, edge := range primaries {
			all = all && slices.ContainsFunc(lost[edge], func(s span) bool { return s.from <= at && at < s.to })
		}
		if all {
			return at
		}
	}
	return never
}

// quantile is the smallest value of a sorted list that a share q of it does not
// exceed (nearest rank); 0 for an empty one.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// buckets is the time line of the run.
func (m *measured) buckets() []report.Bucket {
	if len(m.outcomes) == 0 {
		return nil
	}
	last := m.outcomes[len(m.outcomes)-1].intended
	all := make([]report.Bucket, last/report.BucketWidth+1)
	latencies := make([][]time.Duration, len(all))
	for i := range m.outcomes {
		o := &m.outcomes[i]
		n := int(o.intended / report.BucketWidth)
		b := &all[n]
		b.Requests++
		switch {
		case o.failure != "":
			b.Errors++
		case o.wrong != "":
			b.Wrong++
		}
		if o.zone >= 0 {
			if b.Zones == nil {
				b.Zones = make(map[string]int)
			}
			b.Zones[m.target.Edges[o.zone].Zone]++
		}
		b.Late = max(b.Late, o.late)
		latencies[n] = append(latencies[n], o.latency())
	}
	for n := range all {
		b, sorted := &all[n], latencies[n]
		slices.Sort(sorted)
		b.Start = time.Duration(n) * report.BucketWidth
		b.P50, b.P95, b.P99, b.Max = quantile(sorted, 0.5), quantile(sorted, 0.95), quantile(sorted, 0.99), quantile(sorted, 1)
	}
	return slices.DeleteFunc(all, func(b report.Bucket) bool { return b.Requests == 0 })
}

// recoveries says of each step that was broken how long it was felt, until it
// was mended or the next step began. A request counts by the moment at which it
// was meant to enter: from a recovery on, all that enter are well. What was
// under way before has its latency, and is in the totals when it was lost.
func (m *measured) recoveries() []report.Recovery {
	steps := slices.Clone(m.steps)
	slices.SortStableFunc(steps, func(a, b brokenStep) int { return cmp.Compare(a.begun, b.begun) })
	lost := m.lostSpans()
	var list []report.Recovery
	for i, s := range steps {
		to := m.end
		if s.mended > 0 {
			to = min(to, s.mended)
		}
		for _, next := range steps[i+1:] {
			if next.begun > s.begun {
				to = min(to, next.begun)
				break
			}
		}
		list = append(list, m.recovery(s.name, span{s.begun, to}, lost))
	}
	return list
}

func (m *measured) recovery(name string, during span, lost [][]span) report.Recovery {
	r := report.Recovery{Fault: name, Begun: during.from, Found: true}
	quiet := max(during.from, during.to-min(calm, (during.to-during.from)/2))
	for i := range m.outcomes {
		o := &m.outcomes[i]
		// What was under way at the fault was touched by it, too.
		if o.done <= during.from || o.intended >= during.to {
			continue
		}
		bad := o.failure != "" || o.wrong != ""
		// A server of DNS that is silent is waited for before anything enters.
		if o.byDNS() && (bad || o.resolved > m.slow) {
			r.DNS = max(r.DNS, o.intended-during.from)
			r.Found = r.Found && o.intended < quiet
		}
		if (bad || o.took()-o.resolved > m.slow) && !inDead(o, lost) {
			r.InBand = max(r.InBand, o.intended-during.from)
			r.Found = r.Found && o.intended < quiet
		}
	}
	return r
}
