package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func pageOf(t testing.TB, run *Run) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := WriteHTML(&out, run); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// found is what a page has, as a reader of XML sees it: the page is well-formed
// as that, too.
type found struct {
	elements map[string]int
	texts    []string
	ids      map[string]bool
	refers   []string // to ids
	paths    int      // characters of drawings
}

// inspect parses a page and fails unless it is well-formed and asks for
// nothing from anywhere.
func inspect(t testing.TB, page []byte) *found {
	t.Helper()
	f := &found{elements: make(map[string]int), ids: make(map[string]bool)}
	decoder := xml.NewDecoder(bytes.NewReader(page))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			f.element(t, token)
		case xml.CharData:
			f.texts = append(f.texts, string(token))
		case xml.Comment, xml.ProcInst:
			t.Errorf("a comment or an instruction: %q", token)
		}
	}
	for _, id := range f.refers {
		if !f.ids[id] {
			t.Errorf("nothing has the id %q", id)
		}
	}
	return f
}

func (f *found) element(t testing.TB, e xml.StartElement) {
	allowed := []string{
		"html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "p", "strong", "span", "br", "dl", "div", "dt", "dd",
		"table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary", "svg", "desc", "line", "text", "path", "rect",
	}
	f.elements[e.Name.Local]++
	if !slices.Contains(allowed, e.Name.Local) {
		t.Errorf("element %s", e.Name.Local)
	}
	for _, a := range e.Attr {
		switch name := a.Name.Local; {
		case strings.HasPrefix(name, "on"), slices.Contains([]string{"href", "src", "srcset", "action", "style", "background", "data", "poster", "cite"}, name):
			t.Errorf("attribute %s=%q of %s", name, a.Value, e.Name.Local)
		case name == "id":
			if f.ids[a.Value] {
				t.Errorf("id %q twice", a.Value)
			}
			f.ids[a.Value] = true
		case name == "aria-labelledby":
			f.refers = append(f.refers, strings.Fields(a.Value)...)
		case name == "d":
			f.paths += len(a.Value)
			fallthrough
		case e.Name.Local != "meta":
			if strings.Contains(a.Value, "//") || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.Contains(a.Value, "e+") {
				t.Errorf("%s of %s is %q", name, e.Name.Local, a.Value)
			}
		}
	}
}

func (f *found) says(text string) bool {
	return slices.ContainsFunc(f.texts, func(found string) bool { return strings.Contains(found, text) })
}

func TestPage(t *testing.T) {
	page := pageOf(t, azLoss())
	golden(t, "page.html", page)
	f := inspect(t, page)
	for name, want := range map[string]int{"html": 1, "h1": 1, "figure": 5, "script": 0, "details": 1} {
		if f.elements[name] != want {
			t.Errorf("%d elements %s, want %d", f.elements[name], name, want)
		}
	}
	if len(f.refers) != 10 {
		t.Errorf("drawings refer to %q, want a title and a description each", f.refers)
	}
	for _, text := range []string{
		"az-loss on lab", "✓ passed", "213 ms", "1.92 s", "0.002%", "38 ms after fault 1", "requests at az2, after 38 ms",
		"recovery in band", "at most 1 s", "1 kill az1/edge", "connection refused", "2,000", "edge az1-edge is dead", "after 12 ms", "v0.4.0",
	} {
		if !f.says(text) {
			t.Errorf("it does not say %q", text)
		}
	}
	for _, text := range []string{"url(", "@import", "http:", "https:", "javascript"} {
		if bytes.Contains(page, []byte(text)) {
			t.Errorf("it has %q", text)
		}
	}
	if !bytes.Contains(page, []byte(`content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;"`)) &&
		!bytes.Contains(page, []byte(`content="default-src 'none'; style-src 'unsafe-inline'"`)) {
		t.Error("no policy keeps it from asking")
	}
}

// TestPageFails: a run that failed says so, and why.
func TestPageFails(t *testing.T) {
	run := azLoss()
	run.Verdict, run.Reason = Failed, "az2 did not come back"
	run.Checks[0] = Check{"recovery in band", "at most 1 s", "7.10 s", false}
	run.Faults[0].Mended, run.Faults[0].Error = 0, "start az1/etcd: exit status 1"
	run.Recoveries[0].Found = false
	run.Detections = nil
	run.NotJudged = []string{"recovery by DNS: the target has no DNS"}
	f := inspect(t, pageOf(t, run))
	for _, text := range []string{"✗ failed", "az2 did not come back", "7.10 s", "✗ no", "start az1/etcd: exit status 1", "✗ not while it was watched", "not seen", "nobody",
		"Not judged:", "recovery by DNS: the target has no DNS"} {
		if !f.says(text) {
			t.Errorf("it does not say %q", text)
		}
	}
	if f.says("✓ passed") {
		t.Error("it says that it passed")
	}
}

// TestPageHostile: texts that come from a target are shown as they are.
func TestPageHostile(t *testing.T) {
	const evil = `</title></style><script>alert(1)</script><img src="http://evil.example/" onerror='x'>{{.}}]]>&amp;` + "\u202e\x00\ufffe"
	run := azLoss()
	run.Drill, run.About, run.Target, run.Version, run.Reason, run.Load.Mix = evil, evil, evil, evil, evil, evil
	run.Verdict = evil
	run.Checks = []Check{{evil, evil, evil, false}}
	run.Faults[0].Fault, run.Faults[0].Error, run.Recoveries[0].Fault = evil, evil, evil
	run.Detections[0].By, run.Detections[0].Edge, run.Detections[0].Of, run.Detections[0].What = evil, evil, evil, evil
	run.NotJudged = []string{evil}
	run.Totals.Reasons = map[string]int{evil: 1}
	run.Buckets[0].Zones = map[string]int{evil: 100}
	page := pageOf(t, run)
	f := inspect(t, page)
	for _, name := range []string{"script", "img"} {
		if f.elements[name] != 0 || bytes.Contains(page, []byte("<"+name)) {
			t.Errorf("it has %s", name)
		}
	}
	shown := 0
	for _, text := range f.texts {
		shown += strings.Count(text, `</title></style><script>alert(1)</script><img src="http://evil.example/" onerror='x'>{{.}}]]>&amp;`)
	}
	if shown < 20 {
		t.Errorf("the text is shown %d times, want each", shown)
	}
}

// TestPageOfLittle: runs with next to nothing in them.
func TestPageOfLittle(t *testing.T) {
	for name, run := range map[string]*Run{
		"nothing":       {Drill: "d"},
		"one bucket":    {Drill: "d", Buckets: []Bucket{{Requests: 1, P50: ms, P95: ms, P99: ms, Max: ms, Zones: map[string]int{"az1": 1}}}},
		"only failures": {Drill: "d", Buckets: []Bucket{{Start: time.Second, Requests: 1, Errors: 1}}},
		"late fault":    {Drill: "d", Load: Load{Rate: 1, Duration: time.Second}, Faults: []Mark{{Fault: "f", Begun: time.Hour}}},
		"holes":         {Drill: "d", Buckets: []Bucket{{Requests: 5}, {Start: time.Second, Requests: 5}, {Start: time.Minute, Requests: 5}}},
	} {
		if f := inspect(t, pageOf(t, run)); !f.says("unfinished") {
			t.Errorf("%s: no verdict", name)
		}
	}
	if err := WriteHTML(io.Discard, &Run{Drill: "d", Faults: []Mark{{Begun: -1}}}); err == nil {
		t.Error("a time before the beginning is drawn")
	}
}

// TestPageOfMuch: a day is drawn with as many points as a minute, and many
// zones with as many colours as there are.
func TestPageOfMuch(t *testing.T) {
	run := azLoss()
	run.Load.Duration = 24 * time.Hour
	for n := range 20_000 {
		run.Buckets = append(run.Buckets, Bucket{Start: time.Duration(n) * 4 * time.Second, Requests: 10, Errors: 1, Zones: map[string]int{fmt.Sprintf("zone-%d", n%100): 9}})
	}
	for n := range 100 {
		run.Totals.Reasons[fmt.Sprintf("reason %d", n)] = 1
	}
	f := inspect(t, pageOf(t, run))
	if f.paths > 200_000 {
		t.Errorf("drawings of %d characters", f.paths)
	}
	if !f.says(other) || !f.says("63 other reasons") {
		t.Error("the rest is not summed up")
	}
	if f.elements["tr"] > 200 {
		t.Errorf("%d rows", f.elements["tr"])
	}
}

// TestTimeline: buckets add up, percentiles are the worst, whatever their
// order.
func TestTimeline(t *testing.T) {
	run := azLoss()
	slices.Reverse(run.Buckets)
	for columns, want := range map[int]int{480: 300, 300: 300, 299: 150, 60: 60, 1: 1} {
		line := run.timeline(columns)
		requests, errs, answered := 0, 0, 0
		var worst time.Duration
		for n := range line.all {
			requests += line.all[n].requests
			errs += line.all[n].errors
			answered += line.all[n].answered
			worst = max(worst, line.all[n].p99)
		}
		if len(line.all) != want || requests != 60_000 || errs != 23+22+3+3 || worst != 310*ms {
			t.Errorf("%d columns at most: %d columns, %d requests, %d errors, p99 %s", columns, len(line.all), requests, errs, worst)
		}
		if answered != 298*200+2*175 {
			t.Errorf("%d columns at most: %d answers", columns, answered)
		}
	}
}

// TestHoles: where nothing was sent, there is no latency, and no line.
func TestHoles(t *testing.T) {
	run := &Run{Drill: "d"}
	for _, at := range []int{0, 1, 5, 9} {
		run.Buckets = append(run.Buckets, Bucket{Start: time.Duration(at) * BucketWidth, Requests: 1, P50: ms, P95: ms, P99: ms, Max: 2 * ms})
	}
	for _, s := range run.timeline(maxColumns).latencies(nil).Series {
		if strings.Count(s.Path, "M") != 3 || strings.Count(s.Path, "L") != 3 {
			t.Errorf("%s is drawn as %s", s.Name, s.Path)
		}
	}
}

// TestFaultsAndSigns: a sign belongs to the fault before it, not to one that
// is mended or to the next.
func TestFaultsAndSigns(t *testing.T) {
	run := &Run{
		Drill: "d", Load: Load{Duration: 10 * time.Second},
		Faults: []Mark{
			{Fault: "a", Begun: time.Second, Mended: 2 * time.Second}, {Fault: "b", Begun: 3 * time.Second, Mended: 9 * time.Second},
			{Fault: "c", Begun: 5 * time.Second}, {Fault: "d", Begun: 5*time.Second + 20*ms},
		},
		Detections: []Detection{
			{At: 500 * ms, By: "early"}, {At: 2500 * ms, By: "late"}, {At: 5500 * ms, By: "second"}, {At: 5400 * ms, By: "first"},
		},
		Recoveries: []Recovery{{Fault: "c, then d", Begun: 5*time.Second + 10*ms, InBand: ms}},
	}
	marks := ""
	for _, b := range run.timeline(maxColumns).frame("", "", "", 1, run.faults()).Bands {
		marks += b.Numbers + ";"
	}
	if marks != "1;2;3, 4;;" {
		t.Errorf("bands are marked %s", marks)
	}
	got := ""
	for _, f := range run.faults() {
		by := "nobody"
		if f.first != nil {
			by = f.first.By
		}
		got += fmt.Sprintf("%s %s %s %t; ", f.Fault, f.until, by, f.recovery != nil)
	}
	if want := "a 2s nobody false; b 9s nobody false; c 10s first true; d 10s first true; "; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
