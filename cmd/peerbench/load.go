package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// loadHang is for a load generator that hangs: they end by themselves.
const loadHang = 30 * time.Second

// load is one run of a load generator.
type load struct {
	To          netip.AddrPort
	Protocol    protocol
	Script      string // wrk's
	Connections int
	Streams     int           // of HTTP/2, on each connection at once
	Duration    time.Duration // whole seconds
}

// drive runs the load generator of the protocol and returns what it reported.
// It must be called from the main thread.
func drive(ctx context.Context, l load) (loadResult, error) {
	if l.Protocol.HTTP2 {
		return driveH2load(ctx, l)
	}
	return driveWrk(ctx, l)
}

func loadCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// loadResult is what one run of a load generator reports; h2load knows no percentiles.
type loadResult struct {
	Requests  int64         // completed
	Elapsed   time.Duration // as the generator measured it, to 10 ms
	PerSecond float64       // requests
	P50, P99  time.Duration // of closed-loop load: not corrected for waiting clients
	ReadBytes float64       // of bodies, and by wrk of heads; rounded by wrk to three or more digits
	BadStatus int64         // responses that are neither 2xx nor 3xx
	// Socket errors.
	ConnectErrors, ReadErrors, WriteErrors, Timeouts int64
}

// faults says what went wrong in the run; "" when nothing did.
func (r loadResult) faults() string {
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

func (r loadResult) errors() int64 {
	return r.BadStatus + r.ConnectErrors + r.ReadErrors + r.WriteErrors + r.Timeouts
}

// plus sums up generators that ran at once.
func (r loadResult) plus(other loadResult) loadResult {
	return loadResult{
		Requests: r.Requests + other.Requests, Elapsed: max(r.Elapsed, other.Elapsed), PerSecond: r.PerSecond + other.PerSecond,
		ReadBytes: r.ReadBytes + other.ReadBytes, BadStatus: r.BadStatus + other.BadStatus,
		ReadErrors: r.ReadErrors + other.ReadErrors, Timeouts: r.Timeouts + other.Timeouts,
	}
}
