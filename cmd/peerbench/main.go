// Command peerbench measures grayfed's edge beside nginx, HAProxy and Caddy on
// this machine, each doing the same job on the same load, and prints what a
// request costs with each of them.
//
// It imports nothing of grayfed: every proxy, grayfed too, is a child process
// with a generated configuration, so that what is measured is what a user runs.
// Figures are comparable within one run only; that is why the output leads with
// ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// originCommand is the hidden first argument that turns this binary into one
// origin; it is how the benchmark starts its own backends.
const originCommand = "origin"

func main() {
	// Children carry a parent-death signal, which the kernel ties to the thread
	// that forked them: all of them are started from the main thread, which
	// lives as long as the process.
	runtime.LockOSThread()

	if len(os.Args) > 1 && os.Args[1] == originCommand {
		if err := originMain(os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "peerbench origin:", err)
			os.Exit(1)
		}
		return
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case interrupted:
		fmt.Fprintln(os.Stderr, "peerbench: interrupted, everything it started is ended")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "peerbench:", err)
		os.Exit(1)
	}
}

// settings are the flags, checked.
type settings struct {
	Mode        string        `json:"mode"`
	Rounds      int           `json:"rounds"`
	Duration    time.Duration `json:"duration_ns"`
	Warmup      time.Duration `json:"warmup_ns"`
	Connections []int         `json:"connections"`
	Only        []string      `json:"only,omitempty"`
	Workers     int           `json:"workers"`
	Bucket      int           `json:"bucket"`
	Idle        int           `json:"idle_connections"`
	Grayfed     string        `json:"grayfed"`
	Output      string        `json:"-"`
	Keep        bool          `json:"-"`
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var connections, only string
	flags := flag.NewFlagSet("peerbench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.Mode, "mode", "load", "what to measure: load (cost per request beside the peers), idle (memory of idle connections), routes (cost of many routes)")
	flags.IntVar(&s.Rounds, "rounds", 5, "measured rounds; each goes once over all rows, and the median is shown")
	flags.DurationVar(&s.Duration, "duration", 4*time.Second, "length of one measurement, whole seconds")
	flags.DurationVar(&s.Warmup, "warmup", time.Second, "load before each measurement, whole seconds, 0 for none")
	flags.StringVar(&connections, "connections", "", "connection counts, comma separated (default 64,512 for load, 64 for routes)")
	flags.StringVar(&only, "only", "", "measure only these, comma separated: "+strings.Join(peerNames(), ", "))
	flags.IntVar(&s.Workers, "workers", 2, "worker processes or threads of each proxy")
	flags.IntVar(&s.Bucket, "bucket", 100, "mode routes: most routes that share one literal path prefix")
	flags.IntVar(&s.Idle, "idle", 10000, "mode idle: keep-alive connections to hold open")
	flags.StringVar(&s.Grayfed, "grayfed", "bin/grayfed", "the grayfed binary to measure")
	flags.StringVar(&s.Output, "o", "table", "output: table or json")
	flags.BoolVar(&s.Keep, "keep", false, "keep the folder with generated configurations and logs, and say where it is")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if connections == "" {
		connections = "64,512"
		if s.Mode == modeRoutes {
			connections = "64"
		}
	}
	for field := range strings.SplitSeq(connections, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < loadThreads || n > 4096 {
			return settings{}, fmt.Errorf("-connections %q: want numbers from %d to 4096", connections, loadThreads)
		}
		s.Connections = append(s.Connections, n)
	}
	if only != "" {
		for field := range strings.SplitSeq(only, ",") {
			name := strings.TrimSpace(field)
			if !slices.Contains(peerNames(), name) {
				return settings{}, fmt.Errorf("-only %q: unknown name %q, want some of %s", only, name, strings.Join(peerNames(), ", "))
			}
			s.Only = append(s.Only, name)
		}
	}
	return s, s.validate()
}

func (s settings) validate() error {
	switch {
	case !slices.Contains([]string{modeLoad, modeIdle, modeRoutes}, s.Mode):
		return fmt.Errorf("-mode %q: want %s, %s or %s", s.Mode, modeLoad, modeIdle, modeRoutes)
	case s.Rounds < 1 || s.Rounds > 100:
		return fmt.Errorf("-rounds %d: want 1 to 100", s.Rounds)
	case s.Duration < time.Second || s.Duration > 10*time.Minute || s.Duration%time.Second != 0:
		return fmt.Errorf("-duration %v: want whole seconds from 1s to 10m", s.Duration)
	case s.Warmup < 0 || s.Warmup > time.Minute || s.Warmup%time.Second != 0:
		return fmt.Errorf("-warmup %v: want whole seconds from 0s to 1m", s.Warmup)
	case s.Workers < 1 || s.Workers > 256:
		return fmt.Errorf("-workers %d: want 1 to 256", s.Workers)
	case s.Bucket < 1 || s.Bucket > 10000:
		return fmt.Errorf("-bucket %d: want 1 to 10000", s.Bucket)
	case s.Idle < 1 || s.Idle > 30000:
		return fmt.Errorf("-idle %d: want 1 to 30000", s.Idle)
	case s.Output != "table" && s.Output != "json":
		return fmt.Errorf("-o %q: want table or json", s.Output)
	}
	return nil
}

// wants says whether -only lets a peer take part.
func (s settings) wants(peer string) bool {
	return len(s.Only) == 0 || slices.Contains(s.Only, peer)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parseSettings(args, stderr)
	if err != nil {
		return err
	}
	b, err := newBench(s, stderr)
	if err != nil {
		return err
	}
	result, err := b.run(ctx)
	if err = errors.Join(err, b.close()); err != nil {
		return err
	}
	if err := result.write(stdout, s.Output); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if n := result.invalid(); n > 0 {
		return fmt.Errorf("%d of the rows are invalid: their reasons are in the report", n)
	}
	return nil
}
