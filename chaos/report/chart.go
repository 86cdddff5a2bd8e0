package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Measures of a chart, in units of its viewBox.
const (
	chartWidth  = 1000.0
	chartLeft   = 66.0
	chartRight  = 14.0
	chartTop    = 20.0 // of it, the numbers of faults take all
	chartBottom = 24.0
	plotHeight  = 150.0
	laneHeight  = 36.0
)

// chart is one SVG, ready to be written: all texts are plain, and escaped by
// the template.
type chart struct {
	ID, Title, Description string
	Unit                   string // of the vertical axis
	Width, Height          float64
	Left, Right, Top, Base float64 // of the plot
	Xs, Ys                 []tick
	Bands                  []band
	Series                 []series
	Labels                 []label
	Lanes                  []lane
}

type tick struct {
	At   float64
	Text string
}

// PlotHeight is for the template.
func (c chart) PlotHeight() float64 { return c.Base - c.Top }

// band is when a fault was broken.
type band struct {
	X, Width float64
	Numbers  string // of the faults that begin here; "" when the band before has it
}

// series is a line, or an area when it is Filled.
type series struct {
	Name, Class, Path string
	Filled            bool
}

type label struct {
	X, Y float64
	Text string
}

// lane is a fault's own line: its bar, the part of it during which it was
// felt, and who noticed first.
type lane struct {
	Number          int
	Text            string
	Y, X, Width     float64
	Felt            float64 // width; 0: not at all, or unknown
	Noticed         float64 // X; 0: by nobody
	TextX, TextY    float64
	End             bool // the text ends at TextX
	BarY, BarHeight float64
}

// frame is a chart without its series.
func (t *timeline) frame(id, title, unit string, height float64, faults []fault) chart {
	c := chart{
		ID: id, Title: title, Unit: unit, Width: chartWidth, Height: chartTop + height + chartBottom,
		Left: chartLeft, Right: chartWidth - chartRight, Top: chartTop, Base: chartTop + height,
	}
	step := niceStep(t.end.Seconds()/10, true)
	for n := 0; float64(n)*step <= t.end.Seconds()*1.000001; n++ {
		at := float64(n) * step
		c.Xs = append(c.Xs, tick{t.x(time.Duration(at * float64(time.Second))), strconv.FormatFloat(at, 'f', -1, 64) + " s"})
	}
	const room = 14 // for a number
	first := 0
	for n, f := range faults {
		b := band{X: t.x(f.begun), Numbers: strconv.Itoa(f.Number)}
		b.Width = round1(max(t.x(f.until)-b.X, 1.5))
		if n > 0 && math.Abs(b.X-c.Bands[first].X) < room {
			c.Bands[first].Numbers += ", " + b.Numbers
			b.Numbers = ""
		} else {
			first = n
		}
		c.Bands = append(c.Bands, b)
	}
	return c
}

func (t *timeline) x(at time.Duration) float64 {
	part := float64(min(max(at, 0), t.end)) / float64(t.end)
	return round1(chartLeft + part*(chartWidth-chartLeft-chartRight))
}

// middle is where a column's value is drawn.
func (t *timeline) middle(c *column) float64 {
	return t.x(c.start + min(t.width, t.end-c.start)/2)
}

// niceStep is the next of 1, 2, 5, 10, ... times a power of ten; for seconds
// not below a tenth.
func niceStep(atLeast float64, time bool) float64 {
	if time {
		atLeast = max(atLeast, 0.1)
	}
	power := math.Pow(10, math.Floor(math.Log10(atLeast)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= atLeast*0.999999 {
			return factor * power
		}
	}
	return 10 * power
}

// linear sets the vertical axis from 0 to at least top.
func (c *chart) linear(top float64) (y func(float64) float64) {
	step := niceStep(max(top, 4)/4, false)
	top = math.Ceil(max(top, step)/step) * step
	y = func(value float64) float64 { return round1(c.Base - value/top*(c.Base-c.Top)) }
	for n := 0; float64(n)*step <= top*1.000001; n++ {
		c.Ys = append(c.Ys, tick{y(float64(n) * step), count(int(math.Round(float64(n) * step)))})
	}
	return y
}

// logarithmic sets the vertical axis to whole powers of ten, in milliseconds.
func (c *chart) logarithmic(low, high time.Duration) (y func(time.Duration) float64) {
	milliseconds := func(d time.Duration) float64 { return float64(max(d, time.Microsecond)) / float64(time.Millisecond) }
	from, to := math.Floor(math.Log10(milliseconds(low))), math.Ceil(math.Log10(milliseconds(high)))
	if to <= from {
		to = from + 1
	}
	y = func(d time.Duration) float64 {
		part := (math.Log10(milliseconds(d)) - from) / (to - from)
		return round1(c.Base - min(max(part, 0), 1)*(c.Base-c.Top))
	}
	for power := from; power <= to; power++ {
		value := math.Pow(10, power)
		c.Ys = append(c.Ys, tick{y(time.Duration(value * float64(time.Millisecond))), strconv.FormatFloat(value, 'f', -1, 64)})
	}
	return y
}

// line draws value over columns; where shown is false it breaks off.
func (t *timeline) line(value func(*column) float64, shown func(*column) bool) string {
	var path strings.Builder
	pen := "M"
	for n := range t.all {
		col := &t.all[n]
		if !shown(col) {
			pen = "M"
			continue
		}
		x := t.middle(col)
		fmt.Fprintf(&path, "%s%s %s", pen, short(x), short(value(col)))
		if pen == "M" && (n+1 == len(t.all) || !shown(&t.all[n+1])) {
			fmt.Fprintf(&path, "L%s %s", short(round1(x+1)), short(value(col))) // a point that stands alone
		}
		pen = "L"
	}
	return path.String()
}

// area is between two heights, over the columns that are shown.
func (t *timeline) area(low, high func(*column) float64, shown func(*column) bool) string {
	var path strings.Builder
	for n := 0; n < len(t.all); n++ {
		if !shown(&t.all[n]) {
			continue
		}
		first := n
		for n+1 < len(t.all) && shown(&t.all[n+1]) {
			n++
		}
		left, right := t.x(t.all[first].start), t.x(t.all[n].start+t.width)
		pen := "M" + short(left) + " " + short(high(&t.all[first]))
		path.WriteString(pen)
		for at := first; at <= n; at++ {
			fmt.Fprintf(&path, "L%s %s", short(t.middle(&t.all[at])), short(high(&t.all[at])))
		}
		fmt.Fprintf(&path, "L%s %sL%s %s", short(right), short(high(&t.all[n])), short(right), short(low(&t.all[n])))
		for at := n; at >= first; at-- {
			fmt.Fprintf(&path, "L%s %s", short(t.middle(&t.all[at])), short(low(&t.all[at])))
		}
		fmt.Fprintf(&path, "L%s %sZ", short(left), short(low(&t.all[first])))
	}
	return path.String()
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

func short(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
