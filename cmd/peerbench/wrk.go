package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// loadThreads is how many threads wrk gets; it refuses fewer connections.
const loadThreads = 2

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

func parseWrk(text string) (loadResult, error) {
	var r loadResult
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
		return loadResult{}, fmt.Errorf("%w: no totals in %q", errWrkOutput, text)
	}
	r.Requests, r.Elapsed = number(total[1]), duration(total[2])
	var err error
	if r.ReadBytes, err = parseWrkBytes(total[3]); err != nil {
		return loadResult{}, err
	}
	if r.PerSecond, err = strconv.ParseFloat(perSecond[1], 64); err != nil || math.IsNaN(r.PerSecond) {
		return loadResult{}, fmt.Errorf("%w: requests per second %q", errWrkOutput, perSecond[1])
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
		return loadResult{}, fmt.Errorf("%w: %d of the percentiles 50 and 99", errWrkOutput, seen)
	}
	if match := p.status.FindStringSubmatch(text); match != nil {
		r.BadStatus = number(match[1])
	}
	if match := p.socket.FindStringSubmatch(text); match != nil {
		r.ConnectErrors, r.ReadErrors = number(match[1]), number(match[2])
		r.WriteErrors, r.Timeouts = number(match[3]), number(match[4])
	}
	if parseErr != nil {
		return loadResult{}, fmt.Errorf("%w: %w", errWrkOutput, parseErr)
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

// driveWrk must be called from the main thread.
func driveWrk(ctx context.Context, l load) (loadResult, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Duration+loadHang)
	defer cancel()
	cmd := loadCommand(ctx, "wrk",
		"--threads", strconv.Itoa(loadThreads),
		"--connections", strconv.Itoa(l.Connections),
		"--duration", fmt.Sprintf("%ds", int(l.Duration.Seconds())),
		"--timeout", "5s",
		"--latency",
		"--script", l.Script,
		l.Protocol.Scheme()+"://"+l.To.String())
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return loadResult{}, fmt.Errorf("run wrk: %w", ctx.Err())
	}
	if err != nil {
		return loadResult{}, fmt.Errorf("run wrk: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return parseWrk(string(output))
}
