package report

import (
	"math"
	"time"
)

const ms = time.Millisecond

// azLoss is a run as a drill measures it: 30 s of 2,000 requests/s, a zone lost
// from 10 s to 20 s.
func azLoss() *Run {
	run := &Run{
		Drill: "az-loss", About: "Kills every process of az1 and starts them again after 10 s.", Target: "lab", Version: "v0.4.0",
		Started: time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC),
		Load:    Load{Rate: 2000, Duration: 30 * time.Second, Mix: "half tagged v2-beta, 80% idempotent, by DNS and straight to each edge"},
		Verdict: Passed,
		Checks: []Check{
			{"recovery in band", "at most 1 s", "213 ms", true},
			{"recovery by DNS", "at most 5 s", "1.92 s", true},
			{"idempotent requests lost", "at most 0.01%", "0.002%", true},
			{"wrong version", "0", "0", true},
			{"premature standby", "0", "0", true},
		},
		Faults: []Mark{
			{Fault: "kill az1/edge, az1/etcd, az1/consul, az1/user-service v1, az1/user-service v2-beta", Begun: 10 * time.Second, Broken: 10*time.Second + 12*ms, Mended: 20 * time.Second},
			{Fault: "40% errors: az3/user-service v1", Begun: 24 * time.Second, Broken: 24*time.Second + 4*ms, Mended: 27 * time.Second},
		},
		Detections: []Detection{
			{10*time.Second + 38*ms, "requests", "az2", "az1", "zone az1 demoted"},
			{10*time.Second + 640*ms, "gossip", "az3", "az1", "edge az1-edge is dead"},
			{11*time.Second + 210*ms, "load", "", "", "answered after 420 ms"},
			{24*time.Second + 350*ms, "health", "az2", "az3", "instance az3-v1 ejected"},
		},
		Recoveries: []Recovery{
			{Fault: "kill az1/edge, az1/etcd, az1/consul, az1/user-service v1, az1/user-service v2-beta", Begun: 10 * time.Second, InBand: 213 * ms, DNS: 1920 * ms, Found: true},
			{Fault: "40% errors: az3/user-service v1", Begun: 24 * time.Second, InBand: 180 * ms, Found: true},
		},
		Totals: Totals{
			Requests: 60_000, Surviving: 55_000, Idempotent: 44_000, Lost: 9, LostIdempotent: 1, InDeadEdge: 41,
			Reasons: map[string]int{"connection refused": 38, "no answer within 1 s": 8, "503 no-endpoint": 4},
		},
	}
	for n := range 300 {
		at := time.Duration(n) * BucketWidth
		b := Bucket{
			Start: at, Requests: 200, P50: 900*time.Microsecond + wave(n, 7, 200), P95: 3*ms + wave(n, 11, 900), P99: 6*ms + wave(n, 5, 2000),
			Max: 11*ms + wave(n, 3, 6000), Zones: map[string]int{"az1": 96, "az2": 98, "az3": 6}, Late: 40 * time.Microsecond,
		}
		switch {
		case n >= 100 && n < 102:
			b.Errors, b.Max, b.P99, b.P95 = 23-n%100, 420*ms, 310*ms, 90*ms
			b.Zones = map[string]int{"az2": 160, "az3": 15}
		case n >= 102 && n < 200:
			b.Zones = map[string]int{"az2": 184, "az3": 16}
		case n >= 240 && n < 242:
			b.Errors, b.P99 = 3, 60*ms
		}
		run.Buckets = append(run.Buckets, b)
	}
	return run
}

// wave is a number of microseconds that goes up and down.
func wave(n, period, height int) time.Duration {
	return time.Duration(float64(height)*(1+math.Sin(float64(n)/float64(period)))/2) * time.Microsecond
}
