package chaos

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/report"
)

const ms = time.Millisecond

// request is an outcome: entered an edge, or by DNS, at a moment, for so long.
func request(entry int, at, took time.Duration, failure string) outcome {
	return outcome{job: job{edge: entry}, entry: entry, zone: entry, intended: at, done: at + took, failure: failure}
}

func byDNS(entry int, at, took time.Duration, failure string) outcome {
	o := request(entry, at, took, failure)
	o.edge = -1
	return o
}

func TestSums(t *testing.T) {
	post := request(1, 3050*ms, ms, "connection reset")
	post.post = true
	wrong := request(1, 3060*ms, ms, "")
	wrong.wrong = "answered by version v9 instead of v1"
	fallback := request(1, 3070*ms, ms, "")
	fallback.fallback = true
	m := &measured{
		target: testTarget("az1", "az2", "az3"), slow: 100 * ms, end: 10 * time.Second,
		steps: []brokenStep{{name: "x", loses: []int{0}, begun: 3 * time.Second, mended: 5 * time.Second, back: 6 * time.Second}},
		outcomes: []outcome{
			request(0, 1*time.Second, ms, "early"),             // before the fault: lost
			request(0, 2990*ms, 20*ms, "in flight"),            // under way in the edge that dies
			request(0, 2990*ms, 5*ms, ""),                      // answered before it
			request(0, 4*time.Second, ms, "refused"),           // in the dead edge
			request(0, 6*time.Second+2999*ms, ms, "returning"), // mended, and on its way back
			request(0, 9*time.Second, ms, "late"),              // is to be back: lost
			request(1, 4*time.Second, 150*ms, ""),              // slow
			byDNS(-1, 4*time.Second, 900*ms, "dns: no server answers"),
			byDNS(0, 4*time.Second, 900*ms, "no answer in time"),
			byDNS(2, 4*time.Second, ms, ""), // a standby without need
			post, wrong, fallback,
		},
	}
	s := m.sum()
	want := report.Totals{Requests: 13, Surviving: 9, Idempotent: 8, Lost: 4, LostIdempotent: 3, InDeadEdge: 4, Wrong: 1, Premature: 1, Reasons: map[string]int{
		"early": 1, "late": 1, "dns: no server answers": 1, "POST: connection reset": 1, wrong.wrong: 1,
		"in a lost edge: in flight": 1, "in a lost edge: refused": 1, "in a lost edge: returning": 1, "in a lost edge: no answer in time": 1,
	}}
	if !maps.Equal(s.Reasons, want.Reasons) {
		t.Errorf("reasons %v, want %v", s.Reasons, want.Reasons)
	}
	s.Reasons, want.Reasons = nil, nil
	if s.Requests != want.Requests || s.Idempotent != want.Idempotent || s.Lost != want.Lost || s.LostIdempotent != want.LostIdempotent ||
		s.InDeadEdge != want.InDeadEdge || s.Wrong != want.Wrong || s.Premature != want.Premature {
		t.Errorf("totals %+v, want %+v", s.Totals, want)
	}
	if s.Surviving != want.Surviving || s.fallbacks != 1 || s.tooSlow != 2 || s.slowest != 900*ms {
		t.Errorf("sums %+v", s)
	}
}

// TestStandbyIsNeeded only once all primaries are lost together; then it may
// stay while they return.
func TestStandbyIsNeeded(t *testing.T) {
	second := time.Second
	for _, c := range []struct {
		name  string
		steps []brokenStep
		at    time.Duration
		want  int
	}{
		{"nothing broken", nil, 5 * second, 1},
		{"one primary lost", []brokenStep{{loses: []int{0}, begun: second}}, 5 * second, 1},
		{"one after the other", []brokenStep{{loses: []int{0}, begun: second, mended: 2 * second, back: 2 * second}, {loses: []int{1}, begun: 20 * second}}, 21 * second, 1},
		{"both lost", []brokenStep{{loses: []int{0, 1}, begun: second}}, 5 * second, 0},
		{"both lost by two faults", []brokenStep{{loses: []int{1}, begun: 2 * second}, {loses: []int{0}, begun: second}}, 5 * second, 0},
		{"before they were lost", []brokenStep{{loses: []int{0, 1}, begun: 6 * second}}, 5 * second, 1},
		{"while they return", []brokenStep{{loses: []int{0, 1}, begun: second, mended: 2 * second, back: 3 * second}}, 30 * second, 0},
	} {
		m := &measured{target: testTarget("az1", "az2", "az3"), steps: c.steps, outcomes: []outcome{byDNS(2, c.at, ms, ""), request(2, c.at, ms, "")}}
		if got := m.sum().Premature; got != c.want {
			t.Errorf("%s: %d premature, want %d", c.name, got, c.want)
		}
	}
}

func TestStandbysAlone(t *testing.T) {
	m := &measured{target: testTarget("az3"), outcomes: []outcome{byDNS(0, 0, ms, "")}}
	if got := m.sum().Premature; got != 0 {
		t.Errorf("%d premature where there is no primary", got)
	}
}

func resolvedIn(d time.Duration, o outcome) outcome {
	o.resolved = d
	return o
}

func sentLate(d time.Duration, o outcome) outcome {
	o.late = d
	return o
}

func TestRecoveries(t *testing.T) {
	second := time.Second
	lost := brokenStep{name: "x", loses: []int{0}, begun: 3 * second, mended: 8 * second, back: 9 * second}
	for _, c := range []struct {
		name     string
		steps    []brokenStep
		outcomes []outcome
		want     []report.Recovery
	}{
		{"not felt", []brokenStep{lost}, []outcome{request(1, 4*second, ms, "")}, []report.Recovery{{Fault: "x", Begun: 3 * second, Found: true}}},
		{"until the last touched entered", []brokenStep{lost}, []outcome{
			request(1, 3*second-10*ms, 300*ms, ""), request(1, 3100*ms, 900*ms, ""), request(1, 3200*ms, 20*ms, "x"), request(1, 3500*ms, 100*ms, ""),
		}, []report.Recovery{{Fault: "x", Begun: 3 * second, InBand: 200 * ms, Found: true}}},
		{"what was over before is not its doing", []brokenStep{lost}, []outcome{request(1, 2*second, 900*ms, "x")},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, Found: true}}},
		{"the dead edge's clients are apart", []brokenStep{lost}, []outcome{request(0, 5*second, second, "x")},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, Found: true}}},
		{"by DNS they count", []brokenStep{lost}, []outcome{byDNS(0, 5*second, second, "x"), byDNS(1, 5100*ms, ms, "")},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, DNS: 2 * second, Found: true}}},
		{"a silent DNS server is DNS's", []brokenStep{lost}, []outcome{resolvedIn(300*ms, byDNS(1, 4*second, 302*ms, ""))},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, DNS: second, Found: true}}},
		{"a slow edge behind it is not", []brokenStep{lost}, []outcome{resolvedIn(50*ms, byDNS(1, 4*second, 302*ms, ""))},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, InBand: second, Found: true}}},
		{"the generator's own lateness is not felt", []brokenStep{lost}, []outcome{sentLate(250*ms, request(1, 4*second, 300*ms, "")), sentLate(250*ms, request(1, 5*second, 360*ms, ""))},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, InBand: 2 * second, Found: true}}},
		{"a wrong answer is no recovery", []brokenStep{lost}, []outcome{{job: job{edge: 1}, entry: 1, intended: 4 * second, done: 4*second + ms, wrong: "v9"}},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, InBand: second, Found: true}}},
		{"never", []brokenStep{lost}, []outcome{request(1, 7500*ms, ms, "x")},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, InBand: 4500 * ms, Found: false}}},
		{"mending is not the fault's", []brokenStep{lost}, []outcome{request(1, 8100*ms, ms, "x")},
			[]report.Recovery{{Fault: "x", Begun: 3 * second, Found: true}}},
		{"each its own", []brokenStep{{name: "b", begun: 6 * second}, {name: "a", begun: 3 * second}}, []outcome{
			request(1, 4*second, ms, "x"), request(1, 7*second, ms, "x"),
		}, []report.Recovery{{Fault: "a", Begun: 3 * second, InBand: second, Found: true}, {Fault: "b", Begun: 6 * second, InBand: second, Found: true}}},
	} {
		m := &measured{target: testTarget("az1", "az2", "az3"), slow: 100 * ms, steps: c.steps, outcomes: c.outcomes, end: 10 * second}
		got := m.recoveries()
		if len(got) != len(c.want) {
			t.Fatalf("%s: %+v", c.name, got)
		}
		for n := range got {
			if got[n] != c.want[n] {
				t.Errorf("%s: %+v, want %+v", c.name, got[n], c.want[n])
			}
		}
	}
}

func TestInDNS(t *testing.T) {
	for _, c := range []struct {
		outcomes []outcome
		edge     int
		want     bool
	}{
		{[]outcome{byDNS(0, 0, ms, ""), byDNS(1, 0, ms, "")}, 1, true},
		{[]outcome{byDNS(0, 0, ms, ""), request(1, 0, ms, "")}, 1, false},
		{[]outcome{request(0, 0, ms, "")}, 1, true}, // nothing goes by DNS
	} {
		if got := (&measured{outcomes: c.outcomes}).inDNS(c.edge); got != c.want {
			t.Errorf("%+v: %v", c.outcomes, got)
		}
	}
}

func TestBuckets(t *testing.T) {
	m := &measured{target: testTarget("az1", "az2")}
	for n := range 100 {
		m.outcomes = append(m.outcomes, request(0, time.Duration(n)*ms, time.Duration(n+1)*ms, ""))
	}
	m.outcomes = append(m.outcomes, request(1, 350*ms, ms, "x"))
	m.outcomes[100].zone, m.outcomes[100].late = -1, 7*ms
	got := m.buckets()
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	a, b := got[0], got[1]
	if a.Start != 0 || a.Requests != 100 || a.Errors != 0 || a.P50 != 50*ms || a.P95 != 95*ms || a.P99 != 99*ms || a.Max != 100*ms || a.Zones["az1"] != 100 {
		t.Errorf("first %+v", a)
	}
	if b.Start != 300*ms || b.Requests != 1 || b.Errors != 1 || b.Late != 7*ms || len(b.Zones) != 0 {
		t.Errorf("last %+v", b)
	}
}

func TestAnswers(t *testing.T) {
	r := &testTarget().Request
	for _, c := range []struct {
		class    class
		version  string
		wrong    bool
		fallback bool
	}{
		{untagged, "v1", false, false}, {untagged, "v2-beta", true, false},
		{permissive, "v2-beta", false, false}, {permissive, "v1", false, true}, {permissive, "v3", true, false},
		{strict, "v2-beta", false, false}, {strict, "v1", true, false}, {strict, "v3", true, false},
	} {
		o := outcome{job: job{class: c.class}}
		o.answeredBy(c.version, r)
		if (o.wrong != "") != c.wrong || o.fallback != c.fallback {
			t.Errorf("class %d answered by %s: wrong %q, fallback %v", c.class, c.version, o.wrong, o.fallback)
		}
	}
}

// TestChecks: each demand holds at its bound and fails beyond it.
func TestChecks(t *testing.T) {
	one, zero, none := 1.0, 0.0, 0
	d := &Drill{
		Load: Load{Streams: []Stream{{Via: ViaDNS}}},
		SLO: SLO{
			LostIdempotent: &one, Lost: &zero, Fallbacks: &none, InBand: time.Second, DNS: 5 * time.Second, P99: 10 * ms, P99Untagged: 5 * ms,
			Detected: Detected{Within: 2 * time.Second, Of: []string{"az1"}, By: []string{"gossip", "health"}},
		},
	}
	well := func() *findings {
		s := &sums{p99: 10 * ms, p99Plain: 5 * ms}
		s.Surviving, s.Idempotent = 1000, 100
		s.LostIdempotent = 1
		return &findings{
			sums: s, dns: true, begun: time.Second, recoveries: []report.Recovery{{InBand: time.Second, DNS: 5 * time.Second, Found: true}},
			detections: []report.Detection{
				{At: ms, By: "gossip", Edge: "az1", Of: "az1", What: "before"}, {At: 1100 * ms, By: "load", Of: "az1"},
				{At: 3 * time.Second, By: "gossip", Edge: "az2", Of: "az1"},
			},
		}
	}
	failing := func(f *findings) string {
		names := ""
		for _, c := range d.checks(f) {
			if !c.OK {
				names += c.Name + ";"
			}
		}
		return names
	}
	if got := failing(well()); got != "" {
		t.Errorf("at the bounds: %s", got)
	}
	for _, c := range []struct {
		want   string
		break1 func(*findings)
	}{
		{"idempotent requests lost;", func(f *findings) { f.LostIdempotent = 2 }},
		{"requests lost;", func(f *findings) { f.Lost = 1 }},
		{"answers of a wrong version;", func(f *findings) { f.Wrong = 1 }},
		{"answers of a standby without need;", func(f *findings) { f.Premature = 1 }},
		{"permissive requests answered by the baseline;", func(f *findings) { f.fallbacks = 1 }},
		{"p99 latency;", func(f *findings) { f.p99++ }},
		{"p99 latency of untagged requests;", func(f *findings) { f.p99Plain++ }},
		{"p99 latency;p99 latency of untagged requests;", func(f *findings) { f.p99, f.p99Plain = 0, 0 }},
		{"recovery in band;", func(f *findings) { f.recoveries[0].InBand++ }},
		{"recovery by DNS;", func(f *findings) { f.recoveries[0].DNS++ }},
		{"recovery in band;recovery by DNS;", func(f *findings) { f.recoveries[0].Found = false }},
		{"detected by an edge;", func(f *findings) { f.detections[2].At++ }},
		{"detected by an edge;", func(f *findings) { f.detections[2].Of = "az2" }},
		{"detected by an edge;", func(f *findings) { f.detections[2].Of = "" }},
		{"detected by an edge;", func(f *findings) { f.detections[2].By = "registry" }},
		{"detected by an edge;", func(f *findings) { f.detections[2].Edge = "" }},
		{"idempotent requests lost;requests lost;", func(f *findings) { f.Surviving, f.Idempotent = 0, 0 }},
		{"", func(f *findings) { f.dns, f.Premature, f.recoveries[0].DNS = false, 1, time.Hour }},
	} {
		f := well()
		c.break1(f)
		if got := failing(f); got != c.want {
			t.Errorf("failing %q, want %q", got, c.want)
		}
	}
	if d.notJudged(true) != nil || !slices.Equal(d.notJudged(false), []string{
		"answers of a standby without need: the target has no DNS", "recovery by DNS: the target has no DNS",
	}) {
		t.Errorf("not judged are %q", d.notJudged(false))
	}
	d.Load.Streams[0].Via = ViaEdges
	if got := d.notJudged(false); got != nil {
		t.Errorf("of a drill without DNS %q are not judged", got)
	}
}

// TestUntaggedKeepTheirPace: tagged requests do not count, nor those in a lost
// edge.
func TestUntaggedKeepTheirPace(t *testing.T) {
	m := &measured{target: testTarget("az1", "az2"), slow: time.Second, steps: []brokenStep{{loses: []int{0}}}}
	tagged := request(1, 0, 300*ms, "")
	tagged.class = permissive
	for range 100 {
		m.outcomes = append(m.outcomes, request(1, 0, 5*ms, ""), request(0, 0, 900*ms, ""), tagged)
	}
	if s := m.sum(); s.p99Plain != 5*ms || s.p99 != 300*ms {
		t.Errorf("p99 %s untagged and %s in all, want 5ms and 300ms", s.p99Plain, s.p99)
	}
}
