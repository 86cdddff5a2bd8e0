package report

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// maxColumns bounds the points of a chart: more than it has dots apart.
	maxColumns = 480
	// maxRows bounds the table behind the charts.
	maxRows = 60
	// maxZones bounds what is told apart; the rest are "other zones".
	maxZones = 6
	other    = "other zones"
)

// column is buckets taken together: counts added, the worst of the latencies.
type column struct {
	start            time.Duration
	requests         int
	errors, wrong    int
	p50, p95, p99    time.Duration
	max, late        time.Duration
	zones            []int // by timeline.zones
	answered, filled int   // answers by zone; buckets
}

// timeline is a run in columns of one width, without holes.
type timeline struct {
	end   time.Duration
	width time.Duration // a multiple of BucketWidth
	zones []string      // those with the most answers first, then other
	all   []column
}

// end is when the last thing of a run happened, at least one bucket.
func (r *Run) end() time.Duration {
	end := max(r.Load.Duration, BucketWidth)
	for n := range r.Buckets {
		end = max(end, r.Buckets[n].Start+BucketWidth)
	}
	for n := range r.Faults {
		end = max(end, r.Faults[n].Begun, r.Faults[n].Broken)
	}
	return end
}

// timeline takes buckets together so that there are at most as many columns.
func (r *Run) timeline(columns int) *timeline {
	t := &timeline{end: r.end(), zones: r.zones()}
	buckets := int((t.end + BucketWidth - 1) / BucketWidth)
	t.width = time.Duration((buckets+columns-1)/columns) * BucketWidth
	t.all = make([]column, int((t.end+t.width-1)/t.width))
	for n := range t.all {
		t.all[n].start = time.Duration(n) * t.width
		t.all[n].zones = make([]int, len(t.zones))
	}
	for n := range r.Buckets {
		b := &r.Buckets[n]
		c := &t.all[min(int(b.Start/t.width), len(t.all)-1)]
		c.requests += b.Requests
		c.errors += b.Errors
		c.wrong += b.Wrong
		c.p50, c.p95, c.p99 = max(c.p50, b.P50), max(c.p95, b.P95), max(c.p99, b.P99)
		c.max, c.late = max(c.max, b.Max), max(c.late, b.Late)
		c.filled++
		for zone, answers := range b.Zones {
			at := slices.Index(t.zones, zone)
			if at < 0 {
				at = len(t.zones) - 1
			}
			c.zones[at] += answers
			c.answered += answers
		}
	}
	return t
}

// zones are those that answered, by name; of too many, those that answered
// most, and other.
func (r *Run) zones() []string {
	answers := make(map[string]int)
	for n := range r.Buckets {
		for zone, count := range r.Buckets[n].Zones {
			answers[zone] += count
		}
	}
	names := slices.SortedFunc(maps.Keys(answers), func(a, b string) int {
		return cmp.Or(cmp.Compare(answers[b], answers[a]), cmp.Compare(a, b))
	})
	if len(names) <= maxZones {
		slices.Sort(names)
		return names
	}
	names = names[:maxZones]
	slices.Sort(names)
	return append(names, other)
}

// perSecond is a column's count as a rate. The last column may be shorter.
func (t *timeline) perSecond(c *column, count int) float64 {
	return float64(count) / max(BucketWidth, min(t.width, t.end-c.start)).Seconds()
}
