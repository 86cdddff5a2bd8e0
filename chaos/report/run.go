// Package report holds what a drill measured, and says it: as JSON, as one
// self-contained HTML page, as a verdict line, as live lines in a terminal, and
// as a table that compares runs.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// Schema is the version of the JSON that this package writes: 2 since
	// idempotent requests are counted of those that entered surviving edges.
	Schema = 2
	// BucketWidth is the time that one [Bucket] covers.
	BucketWidth = 100 * time.Millisecond
	// maxJSON bounds a report that is read, in bytes: an hour of buckets with
	// sixteen zones, several times over.
	maxJSON = 256 << 20
)

// Outcome is how a run ended.
type Outcome string

// Outcomes; the zero value means that the run has not ended.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"  // a check did not hold
	Aborted Outcome = "aborted" // stopped before its end: Ctrl-C, or the error budget burned
	Broken  Outcome = "broken"  // could not be run, or could not be mended
)

// Run is one run of a drill. Offsets are nanoseconds since its load began.
type Run struct {
	Schema  int       `json:"schema"` // set by WriteJSON
	Drill   string    `json:"drill"`
	About   string    `json:"about,omitempty"` // one sentence: what the drill breaks and what it proves
	Target  string    `json:"target"`
	Version string    `json:"version,omitempty"` // of the program that ran the drill
	Started time.Time `json:"started"`           // when the load began
	Load    Load      `json:"load"`

	Verdict Outcome `json:"verdict"`
	// Reason says why a run was aborted or broken; what failed is in Checks.
	Reason string `json:"reason,omitempty"`

	Checks []Check `json:"checks"`
	// NotJudged names what the drill judges and this target gives no way to,
	// each with the reason.
	NotJudged []string `json:"not_judged,omitempty"`

	Buckets    []Bucket    `json:"buckets"` // by Start, one every BucketWidth; those without requests may be left out
	Faults     []Mark      `json:"faults"`
	Detections []Detection `json:"detections"` // by At
	Recoveries []Recovery  `json:"recoveries"`
	Totals     Totals      `json:"totals"`
}

// Load is what was sent.
type Load struct {
	Rate     float64       `json:"rate"` // requests/s meant to be sent, at a constant rate
	Duration time.Duration `json:"duration_ns"`
	Mix      string        `json:"mix,omitempty"` // in words: "50% tagged v2-beta, 80% idempotent"
}

// Check is one thing that had to hold.
type Check struct {
	Name     string `json:"name"`
	Goal     string `json:"goal"`
	Measured string `json:"measured"`
	OK       bool   `json:"ok"`
}

// Bucket is what became of the requests that were meant to be sent in one
// BucketWidth. Latencies count from when a request was meant to be sent, so
// that waiting for a stalled target counts (coordinated omission); those of
// failed requests count as well.
type Bucket struct {
	Start    time.Duration  `json:"start_ns"`
	Requests int            `json:"requests"`
	Errors   int            `json:"errors,omitempty"`
	Wrong    int            `json:"wrong,omitempty"` // answered by a version that was not asked for
	P50      time.Duration  `json:"p50_ns"`
	P95      time.Duration  `json:"p95_ns"`
	P99      time.Duration  `json:"p99_ns"`
	Max      time.Duration  `json:"max_ns"`
	Zones    map[string]int `json:"zones,omitempty"`   // answers by zone of the instance that answered
	Late     time.Duration  `json:"late_ns,omitempty"` // how late the load generator itself sent, at most
}

// Mark is a fault on the time line. A zero Broken or Mended has not happened.
type Mark struct {
	Fault  string        `json:"fault"`
	Begun  time.Duration `json:"begun_ns"`            // breaking began
	Broken time.Duration `json:"broken_ns,omitempty"` // it was broken
	Mended time.Duration `json:"mended_ns,omitempty"` // it was mended
	Error  string        `json:"error,omitempty"`     // of breaking or mending, or that it had no effect
}

// Detection is a sign that somebody noticed a fault.
type Detection struct {
	At   time.Duration `json:"at_ns"`
	By   string        `json:"by"`             // gossip, failover, requests, health, registry, configuration; or load
	Edge string        `json:"edge,omitempty"` // zone of the edge that noticed; empty: the load generator
	Of   string        `json:"of,omitempty"`   // zone that it is about; empty: not known
	What string        `json:"what"`
}

// Recovery is how long a fault was felt.
type Recovery struct {
	Fault string        `json:"fault"`
	Begun time.Duration `json:"begun_ns"` // as that of the faults which it is from, that begin within a BucketWidth
	// InBand is from the fault until the last request entering a surviving
	// edge that failed or was slow. Zero when none was.
	InBand time.Duration `json:"in_band_ns"`
	// DNS is from the fault until clients that go by DNS are answered for
	// good. Zero when none was ever without an answer, or none went by DNS.
	DNS time.Duration `json:"dns_ns,omitempty"`
	// Found is whether the run lasted long enough to see it recover.
	Found bool `json:"found"`
}

// Totals count requests of the whole run.
type Totals struct {
	Requests       int            `json:"requests"`
	Surviving      int            `json:"surviving"`       // of Requests: entered a surviving edge, or none
	Idempotent     int            `json:"idempotent"`      // of Surviving
	Lost           int            `json:"lost"`            // failed, having entered a surviving edge
	LostIdempotent int            `json:"lost_idempotent"` // of Lost
	InDeadEdge     int            `json:"in_dead_edge"`    // failed, having entered an edge that was broken; not in Lost
	Wrong          int            `json:"wrong"`           // answered by a version that was not asked for
	Premature      int            `json:"premature"`       // answers by DNS of a standby while a primary was healthy and within reach
	Reasons        map[string]int `json:"reasons,omitempty"`
}

// WriteJSON writes run, indented.
func WriteJSON(w io.Writer, run *Run) error {
	stamped := *run
	stamped.Schema = Schema
	data, err := json.MarshalIndent(&stamped, "", " ")
	if err != nil {
		return fmt.Errorf("encode the report of drill %s: %w", run.Drill, err)
	}
	if _, err := w.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write the report of drill %s: %w", run.Drill, err)
	}
	return nil
}

// ReadJSON reads what WriteJSON wrote. Fields that it does not know are left
// out; a schema that it does not know is an error.
func ReadJSON(r io.Reader) (*Run, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err != nil {
		return nil, fmt.Errorf("read a drill's report: %w", err)
	}
	if len(data) > maxJSON {
		return nil, fmt.Errorf("a drill's report of more than %d MiB", maxJSON>>20)
	}
	run := new(Run)
	if err := json.Unmarshal(data, run); err != nil {
		return nil, fmt.Errorf("not a drill's report: %w", err)
	}
	if run.Schema != Schema {
		return nil, fmt.Errorf("a drill's report of schema %d, and this program reads %d: the figures of another mean something else, so run the drill again, or use the program that wrote it",
			run.Schema, Schema)
	}
	if err := run.validate(); err != nil {
		return nil, fmt.Errorf("not a drill's report: %w", err)
	}
	return run, nil
}

// maxOffset bounds times in a report: what is more is a slip, or hostile.
const maxOffset = 30 * 24 * time.Hour

// validate refuses what cannot have been measured, so that whoever draws or
// sums need not look out for it.
func (r *Run) validate() error {
	if r.Drill == "" {
		return errors.New("it does not name its drill")
	}
	if !(r.Load.Rate >= 0 && r.Load.Rate <= 1e9) {
		return fmt.Errorf("its load has a rate of %g requests/s", r.Load.Rate)
	}
	times := []time.Duration{r.Load.Duration}
	t := &r.Totals
	counts := []int{t.Requests, t.Surviving, t.Idempotent, t.Lost, t.LostIdempotent, t.InDeadEdge, t.Wrong, t.Premature}
	for _, n := range t.Reasons {
		counts = append(counts, n)
	}
	for n := range r.Buckets {
		b := &r.Buckets[n]
		times = append(times, b.Start, b.P50, b.P95, b.P99, b.Max, b.Late)
		counts = append(counts, b.Requests, b.Errors, b.Wrong)
		for _, answers := range b.Zones {
			counts = append(counts, answers)
		}
	}
	for n := range r.Faults {
		times = append(times, r.Faults[n].Begun, r.Faults[n].Broken, r.Faults[n].Mended)
	}
	for n := range r.Detections {
		times = append(times, r.Detections[n].At)
	}
	for n := range r.Recoveries {
		times = append(times, r.Recoveries[n].Begun, r.Recoveries[n].InBand, r.Recoveries[n].DNS)
	}
	for _, d := range times {
		if d < 0 || d > maxOffset {
			return fmt.Errorf("it has a time of %d ns, allowed are 0 to %s", d, maxOffset)
		}
	}
	for _, n := range counts {
		if n < 0 || n > 1e15 {
			return fmt.Errorf("it has a count of %d", n)
		}
	}
	return nil
}
