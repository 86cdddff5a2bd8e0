package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// span is a length of time for people: "0 s", "0.35 ms", "213 ms", "1.92 s".
func span(d time.Duration) string {
	switch {
	case d == 0:
		return "0 s"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64) + " ms"
	case d < time.Second:
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 0, 64) + " ms"
	}
	return seconds(d)
}

// seconds is a time on the time line: "12.30 s".
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s" }

// count is a number with its thousands set apart: "118,000".
func count(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// share is a part of a whole in percent, with as many digits as a goal of
// 0.01% takes.
func share(part, whole int) string {
	if whole == 0 {
		return "none sent"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 3, 64) + "%"
}

// plain is text from outside as one line of a terminal, or a page, may show it:
// no control characters, nothing that turns the direction of writing. Joined
// errors are parted by semicolons.
func plain(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// Verdict says in one line how the run ended, and why.
func Verdict(run *Run) string {
	line := fmt.Sprintf("%s: %s on %s", or(string(run.Verdict), "unfinished"), run.Drill, run.Target)
	if run.Verdict == Passed || run.Verdict == Failed {
		t := &run.Totals
		line += ": " + recovered(run) + fmt.Sprintf("; lost %s of %s idempotent requests (%s), wrong version %s, premature standby %s",
			count(t.LostIdempotent), count(t.Idempotent), share(t.LostIdempotent, t.Idempotent), count(t.Wrong), count(t.Premature))
	}
	if run.Reason != "" {
		line += ": " + run.Reason
	}
	var missed []string
	for _, c := range run.Checks {
		if !c.OK {
			missed = append(missed, fmt.Sprintf("%s is %s, goal %s", c.Name, c.Measured, c.Goal))
		}
	}
	if len(missed) > 0 {
		line += "; missed: " + strings.Join(missed, ", ")
	}
	if len(run.NotJudged) > 0 {
		line += "; not judged: " + strings.Join(run.NotJudged, ", ")
	}
	return plain(line)
}

// recovered says how long the run's faults were felt, at worst.
func recovered(run *Run) string {
	if len(run.Recoveries) == 0 {
		return "nothing to recover from"
	}
	inBand, dns, found := worst(run)
	if !found {
		return "not recovered"
	}
	text := "recovered in " + span(inBand) + " in band"
	if dns > 0 {
		text += ", " + span(dns) + " by DNS"
	}
	return text
}

// worst are the longest recoveries of a run, and whether all were found.
func worst(run *Run) (inBand, dns time.Duration, found bool) {
	found = true
	for _, r := range run.Recoveries {
		inBand, dns, found = max(inBand, r.InBand), max(dns, r.DNS), found && r.Found
	}
	return inBand, dns, found
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
