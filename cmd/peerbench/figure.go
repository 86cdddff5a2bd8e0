package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figure is one measured value beside its goal.
type figure struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit,omitempty"`
	Measured float64 `json:"measured"`
	Goal     *goal   `json:"goal,omitempty"` // nil: shown, not judged
	Missed   bool    `json:"missed,omitempty"`
}

// goal is the highest value that meets it.
type goal struct {
	AtMost float64 `json:"at_most"`
}

// figure adds a value that no goal is set for.
func (r *report) figure(name string, measured float64, unit string) {
	r.Figures = append(r.Figures, figure{Name: name, Unit: unit, Measured: measured})
}

// judged adds a value that is to be at most atMost.
func (r *report) judged(name string, measured, atMost float64, unit string) {
	r.Figures = append(r.Figures, figure{Name: name, Unit: unit, Measured: measured, Goal: &goal{atMost}, Missed: measured > atMost})
}

// fault makes the report's figures invalid.
func (r *report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// note adds what a reader of the figures has to know.
func (r *report) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

// figuresText prints goals and measured values side by side, and says in words
// which are missed.
func (r *report) figuresText(out *strings.Builder) {
	if len(r.Figures) > 0 {
		table := textTable{header: []string{"", "goal", "measured", ""}}
		for _, f := range r.Figures {
			table.rows = append(table.rows, f.cells(len(r.Faults) > 0))
		}
		out.WriteString("\n")
		table.write(out)
	}
	for _, text := range r.Faults {
		fmt.Fprintf(out, "INVALID: %s\n", text)
	}
	if len(r.Figures) > 0 && len(r.Faults) == 0 {
		out.WriteString("\n")
		r.verdict(out)
	}
	for _, text := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", text)
	}
}

func (f figure) cells(invalid bool) []string {
	cells := []string{f.Name, "-", number(f.Measured, f.Unit), ""}
	if f.Goal != nil {
		cells[1] = "<= " + number(f.Goal.AtMost, f.Unit)
		if f.Goal.AtMost == 0 {
			cells[1] = number(0, f.Unit)
		}
		switch {
		case invalid:
			cells[3] = "INVALID"
		case f.Missed:
			cells[3] = "MISSED"
		default:
			cells[3] = "met"
		}
	}
	return cells
}

func (r *report) verdict(out *strings.Builder) {
	judged, missed := 0, 0
	for _, f := range r.Figures {
		if f.Goal == nil {
			continue
		}
		judged++
		if f.Missed {
			missed++
			fmt.Fprintf(out, "missed: %s is %s, the goal is at most %s\n", f.Name, number(f.Measured, f.Unit), number(f.Goal.AtMost, f.Unit))
		}
	}
	switch {
	case missed > 0:
		fmt.Fprintf(out, "%d of %d goals are missed\n", missed, judged)
	case judged > 0:
		out.WriteString("all goals are met\n")
	}
}

// number prints whole values as such, and others with one or two decimals.
func number(value float64, unit string) string {
	text := strconv.FormatFloat(value, 'f', 2, 64)
	switch {
	case value == math.Trunc(value):
		text = strconv.FormatFloat(value, 'f', 0, 64)
	case math.Abs(value) >= 10:
		text = strconv.FormatFloat(value, 'f', 1, 64)
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

// milliseconds is the unit of most figures.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread sums durations up.
type spread struct {
	Name  string        `json:"name"`
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func newSpread(name string, values []time.Duration) spread {
	s := spread{Name: name, Count: len(values)}
	if len(values) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(values))
	s.P50, s.P99, s.Max = rank(sorted, 50), rank(sorted, 99), sorted[len(sorted)-1]
	return s
}

// rank is the nearest-rank percentile: the smallest value that percent of all
// values are not above.
func rank(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

func (r *report) spreadText(out *strings.Builder) {
	if len(r.Spreads) == 0 {
		return
	}
	table := textTable{header: []string{"", "count", "p50", "p99", "max"}}
	for _, s := range r.Spreads {
		table.rows = append(table.rows, []string{s.Name, fmt.Sprint(s.Count), latency(s.P50), latency(s.P99), latency(s.Max)})
	}
	out.WriteString("\n")
	table.write(out)
}
