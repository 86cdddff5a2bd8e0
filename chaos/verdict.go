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

// findings are what a run is judged by.
type findings struct {
	*sums
	recoveries []report.Recovery
	detections []report.Detection // by At
	begun      time.Duration      // of the first fault
	dns        bool               // the target has DNS
}

// Checks of what goes by DNS.
const (
	standbyWithoutNeed = "answers of a standby without need"
	recoveryByDNS      = "recovery by DNS"
)

// checks judges a run by what the drill demands.
func (d *Drill) checks(f *findings) []report.Check {
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
	atMost := func(name string, goal, measured time.Duration) {
		if goal > 0 { // what was measured of no request is 0
			add(name, "at most "+goal.String(), round(measured), measured > 0 && measured <= goal)
		}
	}
	share("idempotent requests lost", f.LostIdempotent, f.Idempotent, d.SLO.LostIdempotent)
	share("requests lost", f.Lost, f.Surviving, d.SLO.Lost)
	add("answers of a wrong version", "0", fmt.Sprint(f.Wrong), f.Wrong == 0)
	if d.Load.byDNS() && f.dns {
		add(standbyWithoutNeed, "0", fmt.Sprint(f.Premature), f.Premature == 0)
	}
	if d.SLO.Fallbacks != nil {
		add("permissive requests answered by the baseline", fmt.Sprintf("at most %d", *d.SLO.Fallbacks), fmt.Sprint(f.fallbacks), f.fallbacks <= *d.SLO.Fallbacks)
	}
	atMost("p99 latency", d.SLO.P99, f.p99)
	atMost("p99 latency of untagged requests", d.SLO.P99Untagged, f.p99Plain)
	var inBand, byDNS time.Duration
	found := len(f.recoveries) > 0
	for _, r := range f.recoveries {
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
	if d.SLO.DNS > 0 && f.dns {
		recovery(recoveryByDNS, d.SLO.DNS, byDNS)
	}
	if d.SLO.Detected.Within > 0 {
		list = append(list, d.SLO.Detected.judge(f))
	}
	return list
}

// judge finds the first sign that counts.
func (d *Detected) judge(f *findings) report.Check {
	c := report.Check{Name: "detected by an edge", Goal: d.goal(), Measured: "by nobody"}
	for _, seen := range f.detections {
		if seen.At >= f.begun && d.counts(&seen) {
			c.Measured = fmt.Sprintf("after %s by %s of %s: %s", round(seen.At-f.begun), seen.By, seen.Edge, seen.What)
			c.OK = seen.At-f.begun <= d.Within
			break
		}
	}
	return c
}

// notJudged names what a drill judges by DNS and a target without it leaves out.
func (d *Drill) notJudged(dns bool) []string {
	if dns || !d.Load.byDNS() {
		return nil
	}
	names := []string{standbyWithoutNeed}
	if d.SLO.DNS > 0 {
		names = append(names, recoveryByDNS)
	}
	for i := range names {
		names[i] += ": the target has no DNS"
	}
	return names
}

// round leaves of a duration what people read.
func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
