package report

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// fault is a mark on the time line as the page shows it.
type fault struct {
	Mark
	Number       int
	begun, until time.Duration // until it was mended, or the run ended
	first        *Detection
	recovery     *Recovery
}

// faults pairs each fault with what it led to: its recovery, and the first sign
// of it before the next fault began. Faults that begin together are one.
func (r *Run) faults() []fault {
	all := make([]fault, len(r.Faults))
	end := r.end()
	for n := range r.Faults {
		f := fault{Mark: r.Faults[n], Number: n + 1, begun: r.Faults[n].Begun, until: end}
		if f.Mended > 0 {
			f.until = max(f.begun, f.Mended)
		}
		before := f.until
		for m := range r.Faults {
			if begun := r.Faults[m].Begun; begun > f.begun+BucketWidth {
				before = min(before, begun)
			}
		}
		for m := range r.Detections {
			d := &r.Detections[m]
			if d.At >= f.begun && d.At <= before && (f.first == nil || d.At < f.first.At) {
				f.first = d
			}
		}
		for m := range r.Recoveries {
			if from := r.Recoveries[m].Begun; f.begun >= from-BucketWidth && f.begun <= from+BucketWidth {
				f.recovery = &r.Recoveries[m]
				break
			}
		}
		all[n] = f
	}
	return all
}

// charts are those of the page, one above the other over the same time.
func (r *Run) charts(faults []fault) []chart {
	t := r.timeline(maxColumns)
	charts := []chart{t.rates(r, faults), t.failures(faults), t.latencies(faults)}
	if len(t.zones) > 0 {
		charts = append(charts, t.shares(faults))
	}
	if len(faults) > 0 {
		charts = append([]chart{t.lanes(faults)}, charts...)
	}
	return charts
}

// lanes show each fault by name.
func (t *timeline) lanes(faults []fault) chart {
	c := t.frame("faults", "Faults", "", laneHeight*float64(len(faults)), nil)
	for n, f := range faults {
		top := chartTop + laneHeight*float64(n)
		l := lane{Number: f.Number, Text: f.Fault, X: t.x(f.begun), TextY: top + 13, BarY: top + 19, BarHeight: 9, Y: top + 23.5}
		l.Width = round1(max(t.x(f.until)-l.X, 1.5))
		if f.recovery != nil && f.recovery.InBand > 0 {
			l.Felt = round1(max(t.x(f.begun+f.recovery.InBand)-l.X, 1.5))
		}
		if f.first != nil {
			l.Noticed = t.x(f.first.At)
		}
		// The name begins where the bar does, or ends where the chart does.
		const letter = 6.6
		if l.TextX = l.X; l.X+letter*float64(utf8.RuneCountInString(f.Fault)+3) > c.Right {
			l.TextX, l.End = c.Right, true
		}
		c.Lanes = append(c.Lanes, l)
	}
	c.Description = fmt.Sprintf("When each of %d faults was broken, how long it was felt in band, and when it was first noticed. The table of faults says the same.", len(faults))
	return c
}

func always(*column) bool { return true }

// rates are requests/s, as meant and as sent.
func (t *timeline) rates(r *Run, faults []fault) chart {
	c := t.frame("requests", "Requests", "requests/s", plotHeight, faults)
	low, high := math.Inf(1), 0.0
	for n := range t.all {
		rate := t.perSecond(&t.all[n], t.all[n].requests)
		low, high = min(low, rate), max(high, rate)
	}
	y := c.linear(max(high, r.Load.Rate))
	answered := func(col *column) float64 {
		return y(t.perSecond(col, max(0, col.requests-col.errors)))
	}
	c.Series = []series{
		{"answered", "answered", t.area(func(*column) float64 { return c.Base }, answered, always), true},
		{"sent", "sent", t.line(func(col *column) float64 { return y(t.perSecond(col, col.requests)) }, always), false},
	}
	c.Description = fmt.Sprintf("Requests per second over %s: between %.0f and %.0f were sent, %.0f were meant to be.", seconds(t.end), low, high, r.Load.Rate)
	return c
}

// failures are errors/s and wrong answers/s.
func (t *timeline) failures(faults []fault) chart {
	c := t.frame("failures", "Failures", "failures/s", plotHeight*0.7, faults)
	high, errors, wrong := 0.0, 0, 0
	for n := range t.all {
		col := &t.all[n]
		high = max(high, t.perSecond(col, col.errors), t.perSecond(col, col.wrong))
		errors += col.errors
		wrong += col.wrong
	}
	y := c.linear(high)
	base := func(*column) float64 { return c.Base }
	failed := func(of func(*column) int) string {
		return t.area(base, func(col *column) float64 { return y(t.perSecond(col, of(col))) }, func(col *column) bool { return of(col) > 0 })
	}
	c.Series = []series{
		{"failed", "failed", failed(func(col *column) int { return col.errors }), true},
		{"wrong version", "wrong", failed(func(col *column) int { return col.wrong }), true},
	}
	if errors == 0 && wrong == 0 {
		c.Labels = []label{{round1((c.Left + c.Right) / 2), round1((c.Top+c.Base)/2 + 4), "none"}}
	}
	c.Description = fmt.Sprintf("Failures per second over %s: %s requests failed, %s were answered by a wrong version.", seconds(t.end), count(errors), count(wrong))
	return c
}

// latencies are percentiles, over a logarithmic axis.
func (t *timeline) latencies(faults []fault) chart {
	c := t.frame("latency", "Latency", "milliseconds", plotHeight*1.2, faults)
	low, high := time.Duration(math.MaxInt64), time.Duration(0)
	for n := range t.all {
		if col := &t.all[n]; col.requests > 0 {
			low, high = min(low, col.p50), max(high, col.max)
		}
	}
	y := c.logarithmic(min(low, max(high, time.Millisecond)), max(high, time.Millisecond))
	for _, s := range []struct {
		name string
		of   func(*column) time.Duration
	}{
		{"max", func(col *column) time.Duration { return col.max }},
		{"p99", func(col *column) time.Duration { return col.p99 }},
		{"p95", func(col *column) time.Duration { return col.p95 }},
		{"p50", func(col *column) time.Duration { return col.p50 }},
	} {
		path := t.line(func(col *column) float64 { return y(s.of(col)) }, func(col *column) bool { return col.requests > 0 })
		c.Series = append(c.Series, series{s.name, s.name, path, false})
	}
	c.Description = fmt.Sprintf("Latency percentiles over %s, on a logarithmic axis; the highest of all is %s.", seconds(t.end), span(high))
	return c
}

// shares are the answers of each zone's instances, of all.
func (t *timeline) shares(faults []fault) chart {
	c := t.frame("zones", "Answers by zone", "percent", plotHeight, faults)
	c.Description = fmt.Sprintf("Of the answers, the share of each zone's instances over %s.", seconds(t.end))
	for percent := 0; percent <= 100; percent += 25 {
		c.Ys = append(c.Ys, tick{c.share(float64(percent) / 100), fmt.Sprint(percent)})
	}
	below := func(col *column, zones int) float64 {
		sum := 0
		for _, answers := range col.zones[:zones] {
			sum += answers
		}
		return float64(sum) / float64(max(1, col.answered))
	}
	for n, name := range t.zones {
		path := t.area(func(col *column) float64 { return c.share(below(col, n)) },
			func(col *column) float64 { return c.share(below(col, n+1)) },
			func(col *column) bool { return col.answered > 0 })
		c.Series = append(c.Series, series{name, fmt.Sprintf("zone%d", n), path, true})
		if at := t.widest(n); at != nil {
			c.Labels = append(c.Labels, label{t.middle(at), round1((c.share(below(at, n))+c.share(below(at, n+1)))/2 + 4), name})
		}
	}
	return c
}

func (c *chart) share(part float64) float64 { return round1(c.Base - part*(c.Base-c.Top)) }

// widest is the column to write a zone's name in: the middle of the longest
// stretch where its share is about the largest; nil where there is no room.
func (t *timeline) widest(zone int) *column {
	part := func(n int) float64 { return float64(t.all[n].zones[zone]) / float64(max(1, t.all[n].answered)) }
	large := 0.13 // what a line of text takes
	for n := range t.all {
		large = max(large, part(n)*0.7)
	}
	from, longest := 0, 0
	for n := 0; n < len(t.all); n++ {
		first := n
		for n < len(t.all) && part(n) > large {
			n++
		}
		if n-first > longest {
			from, longest = first, n-first
		}
	}
	if longest == 0 {
		return nil
	}
	return &t.all[from+longest/2]
}
