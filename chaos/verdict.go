package chaos

import (
	"fmt"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

// Bounds on the load generator itself: beyond them a run measured this machine
// and not the target.
const (
	lateP99 = 50 * time.Millisecond
	lateMax = 500 * time.Millisecond
)

// tooLate says how late the generator was; "" when that was within bounds.
func (s *sums) tooLate() string {
	if s.lateP99 <= lateP99 && s.late <= lateMax {
		return ""
	}
	return fmt.Sprintf("the load generator itself was late: p99 %s (at most %s), max %s (at most %s); repeat on an idle machine or with a lower --rate",
		round(s.lateP99), lateP99, round(s.late), lateMax)
}

// checks judges a run by what the drill demands.
func (d *Drill) checks(s *sums, recoveries []report.Recovery, detections []report.Detection, begun time.Duration, dns bool) []report.Check {
	var list []report.Check
	add := func(name, goal, measured string, ok bool) {
		list = append(list, report.Check{Name: name, Goal: goal, Measured: measured, OK: ok})
	}
	share := func(name string, lost, of int, goal *float64) {
		if goal == nil {
			return
		}
		percent := 0.0
		if of > 0 {
			percent = 100 * float64(lost) / float64(of)
		}
		add(name, fmt.Sprintf("at most %g%%", *goal), fmt.Sprintf("%d of %d (%.4g%%)", lost, of, percent), of > 0 && percent <= *goal)
	}
	share("idempotent requests lost", s.LostIdempotent, s.Idempotent, d.SLO.LostIdempotent)
	share("requests lost", s.Lost, s.Surviving, d.SLO.Lost)
	add("answers of a wrong version", "0", fmt.Sprint(s.Wrong), s.Wrong == 0)
	if dns {
		add("answers of a standby without need", "0", fmt.Sprint(s.Premature), s.Premature == 0)
	}
	if d.SLO.Fallbacks != nil {
		add("permissive requests answered by the baseline", fmt.Sprintf("at most %d", *d.SLO.Fallbacks), fmt.Sprint(s.fallbacks), s.fallbacks <= *d.SLO.Fallbacks)
	}
	if d.SLO.P99 > 0 {
		add("p99 latency", "at most "+d.SLO.P99.String(), round(s.p99), s.p99 <= d.SLO.P99)
	}
	var inBand, byDNS time.Duration
	found := len(recoveries) > 0
	for _, r := range recoveries {
		inBand, byDNS, found = max(inBand, r.InBand), max(byDNS, r.DNS), found && r.Found
	}
	recovery := func(name string, goal, took time.Duration) {
		measured := round(took)
		if !found {
			measured = "not within the run (" + measured + " and on)"
		}
		add(name, "at most "+goal.String(), measured, found && took <= goal)
	}
	if d.SLO.InBand > 0 {
		recovery("recovery in band", d.SLO.InBand, inBand)
	}
	if d.SLO.DNS > 0 && dns {
		recovery("recovery by DNS", d.SLO.DNS, byDNS)
	}
	if d.SLO.Detected > 0 {
		measured, ok := "by nobody", false
		for _, seen := range detections {
			if seen.Edge != "" && seen.At >= begun {
				measured = fmt.Sprintf("after %s by %s of %s: %s", round(seen.At-begun), seen.By, seen.Edge, seen.What)
				ok = seen.At-begun <= d.SLO.Detected
				break
			}
		}
		add("detected by an edge", "within "+d.SLO.Detected.String(), measured, ok)
	}
	return list
}

// round leaves of a duration what people read.
func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
