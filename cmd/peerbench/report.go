package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is the outcome of a run.
type report struct {
	Mode     string    `json:"mode"`
	Started  time.Time `json:"started"`
	Settings settings  `json:"settings"`
	Machine  machine   `json:"machine"`
	Rows     []row     `json:"rows,omitempty"`
	Idle     []idleRow `json:"idle,omitempty"`
	Kills    []killRow `json:"kills,omitempty"`
	Spreads  []spread  `json:"spreads,omitempty"`
	Figures  []figure  `json:"figures,omitempty"`
	Faults   []string  `json:"faults,omitempty"` // any makes the figures invalid
	Notes    []string  `json:"notes,omitempty"`
}

// row is one contestant at one number of connections: medians over its rounds.
type row struct {
	Name        string        `json:"name"`
	Protocol    string        `json:"protocol"` // of clients
	Connections int           `json:"connections"`
	CPU         float64       `json:"cpu_us_per_request,omitempty"`
	OriginCPU   float64       `json:"origin_cpu_us_per_request"`
	Baseline    string        `json:"baseline,omitempty"` // row that Ratio is to
	Ratio       float64       `json:"ratio,omitempty"`    // median of the rounds' ratios of CPU, 0 for none
	PerSecond   float64       `json:"requests_per_second"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
	Peak        int64         `json:"peak_bytes,omitempty"`         // highest of the rounds, summed over processes
	PeakLargest int64         `json:"peak_largest_bytes,omitempty"` // the same of the largest process
	Requests    int64         `json:"requests"`                     // all rounds
	Errors      int64         `json:"errors"`                       // all rounds
	Faults      []string      `json:"faults,omitempty"`             // any makes the row invalid
	Samples     []sample      `json:"samples"`

	baseline string
}

// finish computes the rows' medians and their ratios to each other.
func finish(rows []*row) {
	byName := make(map[string]*row, len(rows))
	for _, r := range rows {
		byName[r.Name] = r
		r.CPU = medianOf(r.Samples, func(s sample) float64 { return s.CPU })
		r.OriginCPU = medianOf(r.Samples, func(s sample) float64 { return s.OriginCPU })
		r.PerSecond = medianOf(r.Samples, func(s sample) float64 { return s.PerSecond })
		r.P50 = time.Duration(medianOf(r.Samples, func(s sample) float64 { return float64(s.P50) }))
		r.P99 = time.Duration(medianOf(r.Samples, func(s sample) float64 { return float64(s.P99) }))
		for _, s := range r.Samples {
			r.Peak = max(r.Peak, s.Memory.Peak)
			r.PeakLargest = max(r.PeakLargest, s.Memory.PeakLargest)
			r.Requests += s.Requests
			r.Errors += s.Errors
		}
	}
	for _, r := range rows {
		base, ok := byName[r.baseline]
		if !ok || len(base.Faults) > 0 || len(r.Faults) > 0 {
			continue
		}
		// Ratios are taken within a round: the machine's drift over the run is
		// then in both of the figures.
		var ratios []float64
		for _, mine := range r.Samples {
			for _, theirs := range base.Samples {
				if mine.Round == theirs.Round && theirs.CPU > 0 {
					ratios = append(ratios, mine.CPU/theirs.CPU)
				}
			}
		}
		r.Baseline, r.Ratio = r.baseline, median(ratios)
	}
}

func medianOf(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return median(values)
}

// median of no values is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// invalid counts the rows whose figures must not be used, and the reasons why
// those of the whole run must not.
func (r *report) invalid() int {
	n := len(r.Faults)
	for _, row := range r.Rows {
		if len(row.Faults) > 0 {
			n++
		}
	}
	for _, row := range r.Idle {
		if row.Fault != "" {
			n++
		}
	}
	return n
}

func (r *report) write(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	_, err := io.WriteString(w, r.text())
	return err
}

func (r *report) text() string {
	var out strings.Builder
	switch r.Mode {
	case modeLoad, modeTLS, modeH2, modeH2C, modeRoutes:
		r.loadText(&out)
	case modeIdle:
		r.idleText(&out)
	default:
		r.killText(&out)
		r.spreadText(&out)
	}
	r.figuresText(&out)
	out.WriteString("\n")
	fmt.Fprintf(&out, "machine   %d processors, %s, %s, load %s before the run\n",
		r.Machine.Processors, r.Machine.Model, r.Machine.Kernel, r.Machine.LoadAvg)
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Machine.Versions)) {
		versions = append(versions, name+" "+r.Machine.Versions[name])
	}
	fmt.Fprintf(&out, "versions  %s\n", strings.Join(versions, ", "))
	return out.String()
}

func (r *report) loadText(out *strings.Builder) {
	last := ""
	var table textTable
	flush := func() {
		if len(table.rows) == 0 {
			return
		}
		fmt.Fprintf(out, "\n%s\n", last)
		table.write(out)
	}
	for _, row := range r.Rows {
		if load := row.Protocol + ", " + r.load(row); load != last {
			flush()
			last = load
			table = textTable{header: []string{"", "CPU us/req", "ratio", "requests/s", "p50", "p99", "peak MB", "largest MB", "errors"}}
		}
		table.rows = append(table.rows, row.cells())
	}
	flush()
	faults, notes := r.remarks()
	for _, list := range [][]string{faults, notes} {
		for _, line := range list {
			fmt.Fprintf(out, "%s\n", line)
		}
	}
	fmt.Fprintf(out, "\nmedians of %d rounds of %v; ", r.Settings.Rounds, r.Settings.Duration)
	if r.Mode == modeRoutes {
		fmt.Fprintf(out, "ratio: CPU to that of %d routes in the same round; at most %d routes share a literal prefix\nunless the row says otherwise; hits are uniform\n",
			routeCounts()[0], r.Settings.Bucket)
	} else {
		out.WriteString("ratio: CPU to nginx's in the same round, \"+log\" rows to \"nginx +log\"\n")
	}
	if r.Settings.speaks().TLS {
		fmt.Fprintf(out, "every proxy ends TLS 1.3 with %s and a certificate on P-256\n", tls.CipherSuiteName(wireSuite))
	}
	out.WriteString("CPU: user and system time of all the proxy's processes; latency: closed loop at full load;\n" +
		"peak: highest resident memory, summed over the proxy's processes, and of the largest one\n")
}

// load is how much load a row was measured at.
func (r *report) load(of row) string {
	text := fmt.Sprintf("%d connections", of.Connections)
	if r.Settings.speaks().HTTP2 {
		text += fmt.Sprintf(" by %d streams", r.Settings.Streams)
	}
	return text
}

func (r *row) cells() []string {
	cpu, ratio, peak, largest, p50, p99 := "-", "-", "-", "-", "-", "-"
	if r.CPU > 0 {
		cpu = fmt.Sprintf("%.2f", r.CPU)
	}
	if r.Ratio > 0 {
		ratio = fmt.Sprintf("%.2f", r.Ratio)
	}
	if r.P99 > 0 {
		p50, p99 = latency(r.P50), latency(r.P99)
	}
	if r.Peak > 0 {
		peak, largest = megabytes(r.Peak), megabytes(r.PeakLargest)
	}
	if len(r.Faults) > 0 {
		ratio = "INVALID"
	}
	if len(r.Samples) == 0 {
		return []string{r.Name, "-", ratio, "-", "-", "-", "-", "-", "-"}
	}
	return []string{r.Name, cpu, ratio, fmt.Sprintf("%.0f", r.PerSecond), p50, p99, peak, largest, fmt.Sprint(r.Errors)}
}

// remarks are what a reader of the table has to know: why rows are invalid,
// and what disturbed the others.
func (r *report) remarks() (faults, notes []string) {
	var foreign, steal float64
	for _, row := range r.Rows {
		where := fmt.Sprintf("%s at %s", row.Name, r.load(row))
		for _, fault := range row.Faults {
			faults = append(faults, "INVALID "+where+": "+fault)
		}
		for _, s := range row.Samples {
			foreign, steal = max(foreign, s.Foreign), max(steal, s.Steal)
			for _, note := range s.Notes {
				if note = "note: " + where + ": " + note; !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
			}
		}
		if row.baseline == "" && len(row.Samples) > 0 {
			notes = append(notes, fmt.Sprintf("note: %s is the load generator straight on one origin, whose own CPU is %.2f us a request", where, row.OriginCPU))
		}
	}
	if foreign > 0.05 || steal > 0.05 {
		notes = append(notes, fmt.Sprintf("note: others used up to %.0f%% of this machine during a measurement, and up to %.0f%% was stolen: repeat on an idle one",
			100*foreign, 100*steal))
	}
	return faults, notes
}

func (r *report) idleText(out *strings.Builder) {
	table := textTable{header: []string{"", "protocol", "idle", "RssAnon before", "after", "more", "RSS before", "after", "more", "processes"}}
	for _, row := range r.Idle {
		if row.Fault != "" {
			table.rows = append(table.rows, []string{row.Name, row.Protocol, "INVALID", "-", "-", "-", "-", "-", "-", "-"})
			continue
		}
		table.rows = append(table.rows, []string{
			row.Name, row.Protocol, fmt.Sprint(row.Connections),
			megabytes(row.Before.Anonymous), megabytes(row.After.Anonymous), megabytes(row.After.Anonymous - row.Before.Anonymous),
			megabytes(row.Before.Resident), megabytes(row.After.Resident), megabytes(row.After.Resident - row.Before.Resident),
			fmt.Sprint(row.After.Processes),
		})
	}
	out.WriteString("\n")
	table.write(out)
	for _, row := range r.Idle {
		if row.Fault != "" {
			fmt.Fprintf(out, "INVALID %s, %s: %s\n", row.Name, row.Protocol, row.Fault)
		}
	}
	out.WriteString("\nMB of 1,000,000 bytes, summed over the proxy's processes; each connection had one request answered\n")
}

// megabytes are of 1,000,000 bytes.
func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

func latency(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

// textTable is a table of plain text: the first column to the left, the others
// to the right.
type textTable struct {
	header []string
	rows   [][]string
}

func (t textTable) write(out *strings.Builder) {
	lines := append([][]string{t.header}, t.rows...)
	widths := make([]int, len(t.header))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, line := range lines {
		for i, cell := range line {
			if i == 0 {
				fmt.Fprintf(out, "%-*s", widths[i], cell)
			} else {
				fmt.Fprintf(out, "  %*s", widths[i], cell)
			}
		}
		out.WriteString("\n")
	}
}
