package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// maxReasons bounds the reasons of failures that the page lists.
const maxReasons = 40

// none stands where there is no figure.
const none = "–"

// page is what the template shows: words and drawings, decided.
type page struct {
	*Run
	Outcome   string
	Sign      string
	Class     string
	Started   string
	Rate      string
	Length    string
	Cards     []card
	Checks    []Check
	Charts    []chart
	Faults    []faultRow
	Signs     []signRow
	Totals    []card
	Reasons   []card
	Rows      []row
	RowZones  []string
	RowWidth  string
	Merged    string // how much time a point of the charts covers
	Recovered []recoveryRow
}

type card struct{ Name, Value, Note string }

type faultRow struct {
	Number                       int
	Fault, Begun, Broken, Mended string
	First, Error                 string
}

type signRow struct{ At, By, Edge, Of, What string }

type recoveryRow struct {
	Fault, InBand, DNS string
	Found              bool
}

type row struct {
	Start, Rate, Errors, Wrong string
	P50, P95, P99, Max         string
	Zones                      []string
}

// WriteHTML writes run as one page that asks for nothing else: no script, no
// font, no picture from anywhere.
func WriteHTML(w io.Writer, run *Run) error {
	if err := run.validate(); err != nil {
		return fmt.Errorf("a page of this run: %w", err)
	}
	t, err := template.New("page.html").Parse(pageText)
	if err != nil {
		return fmt.Errorf("the page's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, newPage(run.printable())); err != nil {
		return fmt.Errorf("page of drill %s: %w", run.Drill, err)
	}
	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("write the page of drill %s: %w", run.Drill, err)
	}
	return nil
}

// printable is the run with every text from outside made plain. Bytes that no
// page may hold would make it ill-formed.
func (r *Run) printable() *Run {
	p := *r
	for _, text := range []*string{&p.Drill, &p.About, &p.Target, &p.Version, (*string)(&p.Verdict), &p.Reason, &p.Load.Mix} {
		*text = plain(*text)
	}
	p.Checks, p.Faults = slices.Clone(r.Checks), slices.Clone(r.Faults)
	p.Detections, p.Recoveries, p.Buckets = slices.Clone(r.Detections), slices.Clone(r.Recoveries), slices.Clone(r.Buckets)
	for n := range p.Checks {
		c := &p.Checks[n]
		c.Name, c.Goal, c.Measured = plain(c.Name), plain(c.Goal), plain(c.Measured)
	}
	p.NotJudged = slices.Clone(r.NotJudged)
	for n := range p.NotJudged {
		p.NotJudged[n] = plain(p.NotJudged[n])
	}
	for n := range p.Faults {
		p.Faults[n].Fault, p.Faults[n].Error = plain(p.Faults[n].Fault), plain(p.Faults[n].Error)
	}
	for n := range p.Detections {
		d := &p.Detections[n]
		d.By, d.Edge, d.Of, d.What = plain(d.By), plain(d.Edge), plain(d.Of), plain(d.What)
	}
	for n := range p.Recoveries {
		p.Recoveries[n].Fault = plain(p.Recoveries[n].Fault)
	}
	for n := range p.Buckets {
		p.Buckets[n].Zones = printableKeys(p.Buckets[n].Zones)
	}
	p.Totals.Reasons = printableKeys(p.Totals.Reasons)
	return &p
}

func printableKeys(counts map[string]int) map[string]int {
	plainly := make(map[string]int, len(counts))
	for name, n := range counts {
		plainly[plain(name)] += n
	}
	return plainly
}

func newPage(run *Run) *page {
	faults := run.faults()
	p := &page{
		Run:     run,
		Outcome: or(string(run.Verdict), "unfinished"),
		Sign:    "✗",
		Class:   "bad",
		Rate:    count(int(run.Load.Rate)),
		Length:  seconds(run.Load.Duration),
		Checks:  run.Checks,
		Charts:  run.charts(faults),
		Cards:   run.cards(faults),
		Totals:  run.totals(),
		Reasons: run.reasons(),
		Merged:  span(run.timeline(maxColumns).width),
	}
	if run.Verdict == Passed {
		p.Sign, p.Class = "✓", "good"
	}
	if !run.Started.IsZero() {
		p.Started = run.Started.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	for _, f := range faults {
		p.Faults = append(p.Faults, f.row())
	}
	for _, d := range run.Detections {
		p.Signs = append(p.Signs, signRow{seconds(d.At), d.By, or(d.Edge, none), or(d.Of, none), d.What})
	}
	for _, r := range run.Recoveries {
		dns := none
		if r.DNS > 0 {
			dns = span(r.DNS)
		}
		p.Recovered = append(p.Recovered, recoveryRow{r.Fault, span(r.InBand), dns, r.Found})
	}
	t := run.timeline(maxRows)
	p.RowWidth, p.RowZones = span(t.width), t.zones
	for n := range t.all {
		p.Rows = append(p.Rows, t.row(&t.all[n]))
	}
	return p
}

// cards are the figures that a drill is about.
func (r *Run) cards(faults []fault) []card {
	t := &r.Totals
	inBand, dns, found := worst(r)
	cards := []card{{"Recovered in band", span(inBand), "last request touched, after the fault"}}
	if dns > 0 {
		cards = append(cards, card{"Recovered by DNS", span(dns), "clients answered for good, after the fault"})
	}
	if !found {
		cards = []card{{"Recovered", "not seen", "the run ended before"}}
	}
	if len(r.Recoveries) == 0 {
		cards = []card{{"Recovered", none, "nothing to recover from"}}
	}
	cards = append(cards,
		card{"Idempotent requests lost", share(t.LostIdempotent, t.Idempotent), count(t.LostIdempotent) + " of " + count(t.Idempotent) + ", entering surviving edges"},
		card{"Wrong version", count(t.Wrong), "answers"},
		card{"Premature standby", count(t.Premature), "answers by DNS"},
	)
	for _, f := range faults {
		if f.first != nil {
			return append(cards, card{"First noticed by", or(f.first.By, "?"), span(f.first.At-f.begun) + " after fault " + fmt.Sprint(f.Number)})
		}
	}
	if len(faults) > 0 {
		cards = append(cards, card{"First noticed by", "nobody", "no sign was seen"})
	}
	return cards
}

func (r *Run) totals() []card {
	t := &r.Totals
	return []card{
		{"Requests", count(t.Requests), ""},
		{"Entered a surviving edge", count(t.Surviving), share(t.Surviving, t.Requests)},
		{"of these idempotent", count(t.Idempotent), share(t.Idempotent, t.Surviving)},
		{"Lost, having entered a surviving edge", count(t.Lost), share(t.Lost, t.Surviving)},
		{"of these idempotent", count(t.LostIdempotent), share(t.LostIdempotent, t.Idempotent)},
		{"Failed inside a broken edge", count(t.InDeadEdge), share(t.InDeadEdge, t.Requests)},
		{"Answered by a wrong version", count(t.Wrong), share(t.Wrong, t.Requests)},
		{"Answers by DNS of a standby, prematurely", count(t.Premature), ""},
	}
}

// reasons are those of failures, the most frequent first.
func (r *Run) reasons() []card {
	names := slices.SortedFunc(maps.Keys(r.Totals.Reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Totals.Reasons[b], r.Totals.Reasons[a]), strings.Compare(a, b))
	})
	var cards []card
	more := 0
	for n, name := range names {
		if n < maxReasons {
			cards = append(cards, card{name, count(r.Totals.Reasons[name]), ""})
		} else {
			more += r.Totals.Reasons[name]
		}
	}
	if more > 0 {
		cards = append(cards, card{fmt.Sprintf("%d other reasons", len(names)-maxReasons), count(more), ""})
	}
	return cards
}

func (f *fault) row() faultRow {
	row := faultRow{Number: f.Number, Fault: f.Fault, Begun: seconds(f.Begun), Broken: after(f.Broken, f.Begun), Mended: "no", First: "nobody", Error: f.Error}
	if f.Mended > 0 {
		row.Mended = seconds(f.Mended)
	}
	if f.first != nil {
		row.First = fmt.Sprintf("%s, after %s", f.first.By, span(f.first.At-f.begun))
		if f.first.Edge != "" {
			row.First = fmt.Sprintf("%s at %s, after %s", f.first.By, f.first.Edge, span(f.first.At-f.begun))
		}
	}
	return row
}

func after(at, since time.Duration) string {
	if at == 0 {
		return "no"
	}
	return "after " + span(max(0, at-since))
}

func (t *timeline) row(c *column) row {
	r := row{
		Start: seconds(c.start), Rate: fmt.Sprintf("%.0f", t.perSecond(c, c.requests)), Errors: count(c.errors), Wrong: count(c.wrong),
		P50: none, P95: none, P99: none, Max: none,
	}
	if c.requests > 0 {
		r.P50, r.P95, r.P99, r.Max = span(c.p50), span(c.p95), span(c.p99), span(c.max)
	}
	for _, answers := range c.zones {
		part := none
		if c.answered > 0 {
			part = fmt.Sprintf("%.0f%%", 100*float64(answers)/float64(c.answered))
		}
		r.Zones = append(r.Zones, part)
	}
	return r
}
