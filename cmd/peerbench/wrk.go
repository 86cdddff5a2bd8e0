package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// loadThreads is how many threads wrk gets; it refuses fewer connections.
const loadThreads = 2

// wrkResult is what one run of wrk reports.
type wrkResult struct {
	Requests  int64         // completed
	Elapsed   time.Duration // as wrk measured it, to 10 ms
	PerSecond float64       // requests
	P50, P99  time.Duration // of closed-loop load: not corrected for waiting clients
	ReadBytes float64       // as rounded by wrk to three or more digits
	BadStatus int64         // responses that are neither 2xx nor 3xx
	// Socket errors.
	ConnectErrors, ReadErrors, WriteErrors, Timeouts int64
}

// faults says what went wrong in the run; "" when nothing did.
func (r wrkResult) faults() string {
	var list []string
	add := func(n int64, what string) {
		if n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(r.BadStatus, "bad statuses")
	add(r.ConnectErrors, "connect errors")
	add(r.ReadErrors, "read errors")
	add(r.WriteErrors, "write errors")
	add(r.Timeouts, "timeouts")
	if r.Requests == 0 {
		list = append(list, "no requests completed")
	} else if perRequest := r.ReadBytes / float64(r.Requests); perRequest < bodySize {
		list = append(list, fmt.Sprintf("%.0f bytes read per request, less than the body", perRequest))
	}
	return strings.Join(list, ", ")
}

func (r wrkResult) errors() int64 {
	return r.BadStatus + r.ConnectErrors + r.ReadErrors + r.WriteErrors + r.Timeouts
}

// wrkPatterns match the lines of wrk's report.
type wrkPatterns struct {
	percentile, total, perSecond, status, socket *regexp.Regexp
}

func newWrkPatterns() wrkPatterns {
	return wrkPatterns{
		percentile: regexp.MustCompile(`(?m)^\s+(50|99)(?:\.000)?%\s+(\S+)$`),
		total:      regexp.MustCompile(`(?m)^\s*(\d+) requests in (\S+), (\S+) read$`),
		perSecond:  regexp.MustCompile(`(?m)^Requests/sec:\s+(\S+)$`),
		status:     regexp.MustCompile(`(?m)^\s*Non-2xx or 3xx responses: (\d+)$`),
		socket:     regexp.MustCompile(`(?m)^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`),
	}
}

var errWrkOutput = errors.New("unexpected output of wrk")

func parseWrk(text string) (wrkResult, error) {
	var r wrkResult
	p := newWrkPatterns()
	var parseErr error
	number := func(field string) int64 {
		n, err := strconv.ParseInt(field, 10, 64)
		parseErr = errors.Join(parseErr, err)
		return n
	}
	duration := func(field string) time.Duration {
		d, err := parseWrkDuration(field)
		parseErr = errors.Join(parseErr, err)
		return d
	}

	total := p.total.FindStringSubmatch(text)
	perSecond := p.perSecond.FindStringSubmatch(text)
	if total == nil || perSecond == nil {
		return wrkResult{}, fmt.Errorf("%w: no totals in %q", errWrkOutput, text)
	}
	r.Requests, r.Elapsed = number(total[1]), duration(total[2])
	var err error
	if r.ReadBytes, err = parseWrkBytes(total[3]); err != nil {
		return wrkResult{}, err
	}
	if r.PerSecond, err = strconv.ParseFloat(perSecond[1], 64); err != nil || math.IsNaN(r.PerSecond) {
		return wrkResult{}, fmt.Errorf("%w: requests per second %q", errWrkOutput, perSecond[1])
	}
	seen := 0
	for _, match := range p.percentile.FindAllStringSubmatch(text, -1) {
		seen++
		if match[1] == "50" {
			r.P50 = duration(match[2])
		} else {
			r.P99 = duration(match[2])
		}
	}
	if seen != 2 {
		return wrkResult{}, fmt.Errorf("%w: %d of the percentiles 50 and 99", errWrkOutput, seen)
	}
	if match := p.status.FindStringSubmatch(text); match != nil {
		r.BadStatus = number(match[1])
	}
	if match := p.socket.FindStringSubmatch(text); match != nil {
		r.ConnectErrors, r.ReadErrors = number(match[1]), number(match[2])
		r.WriteErrors, r.Timeouts = number(match[3]), number(match[4])
	}
	if parseErr != nil {
		return wrkResult{}, fmt.Errorf("%w: %w", errWrkOutput, parseErr)
	}
	return r, nil
}

// parseWrkDuration reads "812.00us", "1.23ms", "2.00s", "1.50m" or "1.00h".
func parseWrkDuration(field string) (time.Duration, error) {
	number := strings.TrimRight(field, "umsh")
	unit, ok := map[string]time.Duration{
		"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	}[field[len(number):]]
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(value >= 0 && value < 1e9) {
		return 0, fmt.Errorf("%w: duration %q", errWrkOutput, field)
	}
	return time.Duration(math.Round(value * float64(unit))), nil
}

// parseWrkBytes reads "512.00B", "1.17MB" or "2.00GB": powers of 1024.
func parseWrkBytes(field string) (float64, error) {
	number := strings.TrimRight(field, "KMGTPB")
	scale, ok := map[string]float64{
		"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50,
	}[field[len(number):]]
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(value >= 0) {
		return 0, fmt.Errorf("%w: size %q", errWrkOutput, field)
	}
	return value * scale, nil
}

// load is one run of wrk.
type load struct {
	URL         string
	Script      string
	Connections int
	Duration    time.Duration // whole seconds
}

// drive runs wrk and returns what it reported. It must be called from the main
// thread.
func drive(ctx context.Context, l load) (wrkResult, error) {
	// wrk ends by itself; the limit is for a wrk that hangs.
	ctx, cancel := context.WithTimeout(ctx, l.Duration+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "wrk",
		"--threads", strconv.Itoa(loadThreads),
		"--connections", strconv.Itoa(l.Connections),
		"--duration", fmt.Sprintf("%ds", int(l.Duration.Seconds())),
		"--timeout", "5s",
		"--latency",
		"--script", l.Script,
		l.URL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 2 * time.Second
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return wrkResult{}, fmt.Errorf("run wrk: %w", ctx.Err())
	}
	if err != nil {
		return wrkResult{}, fmt.Errorf("run wrk: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return parseWrk(string(output))
}
