package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan returns what a run would do, for people: the load, the time line with
// the real parts that it would hit, and what must hold. It checks what [Run]
// checks, but for the target's state, and does nothing.
func Plan(o Options) (string, error) {
	if err := o.validate(); err != nil {
		return "", err
	}
	faults, err := o.build(0)
	if err != nil {
		return "", err
	}
	d, rate := o.Drill, o.rate()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("drill   %s: %s", d.Name, d.About)
	line("target  %s: %s", o.Target.Name, o.Target.zones())
	for _, note := range o.Target.Notes {
		line("        %s", note)
	}
	line("steady  %s: no request lost, at most 1%% over %s%s; else nothing is broken", d.Steady.For, d.Steady.Slow, noFallbacks(d))
	line("load    %d requests/s for %s, %d in all: %s", rate, d.Load.Duration,
		requests(rate, d.Load.Duration), d.Load.describe(o.Target))
	type entry struct {
		at   time.Duration
		text string
	}
	var entries []entry
	for i, s := range d.Faults {
		for _, f := range faults[i] {
			text := "break " + f.String()
			if len(s.Loses) > 0 {
				text += " (what enters " + strings.Join(s.Loses, ", ") + " is counted apart)"
			}
			entries = append(entries, entry{s.At, text})
			entries = append(entries, entry{s.end(d.Load.Duration), "mend  " + f.String()})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	for _, e := range entries {
		line("%7s %s", e.at, e.text)
	}
	line("budget  stops and mends when %g%% of the requests are lost or answered wrongly", d.Budget)
	dns := len(o.Target.DNS.Servers) > 0
	for _, c := range d.checks(&findings{sums: new(sums), dns: dns}) {
		line("must    %s: %s", c.Name, c.Goal)
	}
	line("must    %s: within %s", steadyAgain, settleAgain)
	for _, what := range d.notJudged(dns) {
		line("not judged: %s", what)
	}
	return b.String(), nil
}

func noFallbacks(d *Drill) string {
	if d.SLO.Fallbacks == nil {
		return ""
	}
	return ", no permissive request answered by the baseline"
}
