package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Never is the recovery time of a run that did not recover while it was
// watched.
const Never = time.Duration(math.MaxInt64)

// Summary compares the runs of one drill on one target. Runs that were aborted or
// could not be run count as Unfinished and for nothing else.
type Summary struct {
	Drill      string `json:"drill"`
	Target     string `json:"target"`
	Passed     int    `json:"passed"`
	Failed     int    `json:"failed"`
	Unfinished int    `json:"unfinished"`

	InBand Spread `json:"in_band"`
	DNS    Spread `json:"dns"`

	Requests       int `json:"requests"`
	Idempotent     int `json:"idempotent"`
	LostIdempotent int `json:"lost_idempotent"`
	InDeadEdge     int `json:"in_dead_edge"`
	Wrong          int `json:"wrong"`
	Premature      int `json:"premature"`
}

// Spread is how recovery times of runs lie; a run of several faults counts
// with its longest. Percentiles are by nearest rank, [Never] above all others.
type Spread struct {
	Times []time.Duration `json:"times_ns"` // in the order of the runs
	P50   time.Duration   `json:"p50_ns"`
	P95   time.Duration   `json:"p95_ns"`
	Max   time.Duration   `json:"max_ns"`
	// Steady is P95 at most twice P50.
	Steady bool `json:"steady"`
}

func newSpread(times []time.Duration) Spread {
	s := Spread{Times: times}
	if len(times) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(times))
	rank := func(percent int) time.Duration { return sorted[(len(sorted)*percent+99)/100-1] }
	s.P50, s.P95, s.Max = rank(50), rank(95), sorted[len(sorted)-1]
	s.Steady = s.P95 != Never && s.P95 <= 2*s.P50
	return s
}

// Summarize compares runs, a summary for each drill on each target, by name.
func Summarize(runs []*Run) []Summary {
	type key struct{ drill, target string }
	all := make(map[key]*Summary)
	for _, run := range runs {
		k := key{run.Drill, run.Target}
		if all[k] == nil {
			all[k] = &Summary{Drill: run.Drill, Target: run.Target}
		}
		all[k].add(run)
	}
	summaries := make([]Summary, 0, len(all))
	for _, s := range all {
		s.InBand, s.DNS = newSpread(s.InBand.Times), newSpread(s.DNS.Times)
		summaries = append(summaries, *s)
	}
	slices.SortFunc(summaries, func(a, b Summary) int {
		return cmp.Or(strings.Compare(a.Drill, b.Drill), strings.Compare(a.Target, b.Target))
	})
	return summaries
}

func (s *Summary) add(run *Run) {
	// These are wrong in whatever came to no verdict, too.
	s.Wrong += run.Totals.Wrong
	s.Premature += run.Totals.Premature
	switch run.Verdict {
	case Passed:
		s.Passed++
	case Failed:
		s.Failed++
	default:
		s.Unfinished++
		return
	}
	if len(run.Recoveries) > 0 {
		inBand, dns, found := worst(run)
		if !found {
			inBand = Never
			if dns > 0 {
				dns = Never
			}
		}
		s.InBand.Times = append(s.InBand.Times, inBand)
		s.DNS.Times = append(s.DNS.Times, dns)
	}
	t := &run.Totals
	s.Requests += t.Requests
	s.Idempotent += t.Idempotent
	s.LostIdempotent += t.LostIdempotent
	s.InDeadEdge += t.InDeadEdge
}

// Compare writes what [Summarize] finds as a table, with each recovery time.
func Compare(w io.Writer, runs []*Run) error {
	if len(runs) == 0 {
		return errors.New("there are no runs to compare")
	}
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "DRILL\tPASSED\tRECOVERY\tP50\tP95\tMAX\tP95 <= 2 x P50\tLOST IDEMPOTENT\tIN DEAD EDGE\tWRONG\tPREMATURE")
	var lists []string
	targets := slices.ContainsFunc(runs, func(run *Run) bool { return run.Target != runs[0].Target })
	for _, s := range Summarize(runs) {
		s.Drill = plain(s.Drill)
		if targets {
			s.Drill += " on " + plain(s.Target)
		}
		lost, dead := "-", "-"
		if s.Passed+s.Failed > 0 {
			lost = fmt.Sprintf("%s of %s (%s)", count(s.LostIdempotent), count(s.Idempotent), share(s.LostIdempotent, s.Idempotent))
			dead = count(s.InDeadEdge)
		}
		passed := fmt.Sprintf("%d of %d", s.Passed, s.Passed+s.Failed)
		if s.Unfinished > 0 {
			passed += fmt.Sprintf(", %d unfinished", s.Unfinished)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\tin band\t%s\t%s\t%s\t%s\t%s\n", s.Drill, passed, s.InBand.row(), lost, dead,
			count(s.Wrong), count(s.Premature))
		lists = append(lists, s.Drill+", in band: "+s.InBand.list())
		if s.DNS.Max > 0 {
			_, _ = fmt.Fprintf(table, "\t\tby DNS\t%s\t\t\t\t\n", s.DNS.row())
			lists = append(lists, s.Drill+", by DNS: "+s.DNS.list())
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(out.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return fmt.Errorf("write the comparison: %w", err)
		}
	}
	_, err := fmt.Fprintln(w, "\nRecovery times in seconds, run by run\n"+strings.Join(lists, "\n"))
	if err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

func (s *Spread) row() string {
	if len(s.Times) == 0 {
		return "-\t-\t-\t-"
	}
	steady := "no"
	if s.Steady {
		steady = "yes"
	}
	return strings.Join([]string{recovery(s.P50), recovery(s.P95), recovery(s.Max), steady}, "\t")
}

func recovery(d time.Duration) string {
	if d == Never {
		return "never"
	}
	return span(d)
}

func (s *Spread) list() string {
	if len(s.Times) == 0 {
		return "none"
	}
	times := make([]string, len(s.Times))
	for n, d := range s.Times {
		times[n] = "never"
		if d != Never {
			times[n] = strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
		}
	}
	return strings.Join(times, " ")
}
