package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

var errH2loadOutput = errors.New("unexpected output of h2load")

// h2loadPatterns match the lines of h2load's report.
type h2loadPatterns struct {
	finished, requests, status, traffic *regexp.Regexp
}

func newH2loadPatterns() h2loadPatterns {
	return h2loadPatterns{
		finished: regexp.MustCompile(`(?m)^finished in (\S+), (\S+) req/s, `),
		requests: regexp.MustCompile(`(?m)^requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, \d+ errored, (\d+) timeout$`),
		status:   regexp.MustCompile(`(?m)^status codes: \d+ 2xx, \d+ 3xx, (\d+) 4xx, (\d+) 5xx$`),
		traffic:  regexp.MustCompile(`(?m)^traffic: .* \((\d+)\) data$`),
	}
}

// parseH2load reads the report of one run against what speaks as given.
func parseH2load(text string, speaks protocol) (loadResult, error) {
	if err := checkH2loadWire(text, speaks); err != nil {
		return loadResult{}, err
	}
	p := newH2loadPatterns()
	var parseErr error
	numbers := func(pattern *regexp.Regexp) []int64 {
		values := make([]int64, pattern.NumSubexp())
		match := pattern.FindStringSubmatch(text)
		if match == nil {
			parseErr = errors.Join(parseErr, fmt.Errorf("nothing like %s", pattern))
			return values
		}
		for i, field := range match[1:] {
			var err error
			values[i], err = strconv.ParseInt(field, 10, 64)
			parseErr = errors.Join(parseErr, err)
		}
		return values
	}
	requests, status, traffic := numbers(p.requests), numbers(p.status), numbers(p.traffic)
	done, failed, timeouts, badStatus := requests[0], requests[1], requests[2], status[0]+status[1]
	r := loadResult{
		Requests: done, ReadBytes: float64(traffic[0]), BadStatus: badStatus, Timeouts: timeouts,
		// Answers of a bad status and requests without any count as failed too.
		ReadErrors: max(0, failed-badStatus-timeouts),
	}
	if finished := p.finished.FindStringSubmatch(text); finished == nil {
		parseErr = errors.Join(parseErr, errors.New("no time and rate"))
	} else {
		var err, rateErr error
		r.Elapsed, err = parseWrkDuration(finished[1]) // they write it alike
		if r.PerSecond, rateErr = strconv.ParseFloat(finished[2], 64); rateErr == nil && math.IsNaN(r.PerSecond) {
			rateErr = fmt.Errorf("rate %s", finished[2])
		}
		parseErr = errors.Join(parseErr, err, rateErr)
	}
	if parseErr != nil {
		return loadResult{}, fmt.Errorf("%w: %w in %q", errH2loadOutput, parseErr, text)
	}
	return r, nil
}

// checkH2loadWire holds what h2load says of its connections against what the
// row claims.
func checkH2loadWire(text string, speaks protocol) error {
	want := []string{"Application protocol: h2c\n"}
	if speaks.TLS {
		want = []string{"Application protocol: h2\n", "TLS Protocol: TLSv1.3\n", "Cipher: " + tls.CipherSuiteName(wireSuite) + "\n"}
	}
	for _, line := range want {
		if !strings.Contains(text, line) {
			return fmt.Errorf("%w: no %q in %q", errH2loadOutput, strings.TrimSpace(line), text)
		}
	}
	return nil
}

// driveH2load runs one h2load for the requests without a tag and one for those
// with it, as one sends the same fields with all its requests: each has one
// thread and half of the connections. It must be called from the main thread.
func driveH2load(ctx context.Context, l load) (loadResult, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Duration+loadHang)
	defer cancel()
	type half struct {
		cmd    *exec.Cmd
		output bytes.Buffer
	}
	var halves [2]half
	for i := range halves {
		h := &halves[i]
		h.cmd = loadCommand(ctx, "h2load", h2loadArgs(l, (l.Connections+i)/2, i == 1)...)
		h.cmd.Stdout, h.cmd.Stderr = &h.output, &h.output
	}
	var errs []error
	for i := range halves {
		if err := halves[i].cmd.Start(); err != nil {
			errs = append(errs, err)
			cancel() // the other half is of no use alone
			halves[i].cmd = nil
		}
	}
	for i := range halves {
		h := &halves[i]
		if h.cmd == nil {
			continue
		}
		if err := h.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s", err, strings.TrimSpace(h.output.String())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return loadResult{}, fmt.Errorf("run h2load: %w", errors.Join(ctx.Err(), err))
	}
	var sum loadResult
	for i := range halves {
		r, err := parseH2load(halves[i].output.String(), l.Protocol)
		if err != nil {
			return loadResult{}, err
		}
		sum = sum.plus(r)
	}
	return sum, nil
}

func h2loadArgs(l load, connections int, tagged bool) []string {
	args := []string{
		"--threads=1",
		"--clients=" + strconv.Itoa(connections),
		"--max-concurrent-streams=" + strconv.Itoa(l.Streams),
		"--duration=" + strconv.Itoa(int(l.Duration.Seconds())),
		"--connection-inactivity-timeout=5",
		"--connect-to=" + l.To.String(),
		"--header=user-agent: peerbench",
		"--header=accept: application/json",
	}
	if tagged {
		args = append(args, "--header="+tagHeader+": "+canaryRelease)
	}
	for n := range 32 {
		args = append(args, fmt.Sprintf("%s://%s%s%d", l.Protocol.Scheme(), loadHost, pathPrefix, 1001+n))
	}
	return args
}
