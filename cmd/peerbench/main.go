// Command peerbench measures grayfed's edge beside nginx, HAProxy, Caddy and the
// reverse proxy of Go's standard library on this machine, each doing the same job on the same load, and prints what a
// request costs with each of them. Further modes measure what a federation of
// such edges promises, beside its goals.
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

	if len(os.Args) > 1 {
		backends := map[string]func([]string, io.Writer) error{originCommand: originMain, instanceCommand: instanceMain, stockCommand: stockMain}
		if serve := backends[os.Args[1]]; serve != nil {
			if err := serve(os.Args[2:], os.Stdout); err != nil {
				fmt.Fprintf(os.Stderr, "peerbench %s: %v\n", os.Args[1], err)
				os.Exit(1)
			}
			return
		}
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
	Streams     int           `json:"streams"`
	Only        []string      `json:"only,omitempty"`
	Workers     int           `json:"workers"`
	Bucket      int           `json:"bucket"`
	Idle        int           `json:"idle_connections"`
	Grayfed     string        `json:"grayfed"`

	Registrations    int `json:"registrations"`
	RegistrationRate int `json:"registration_rate"`
	Rate             int `json:"rate"`
	Instances        int `json:"instances"`

	Output string `json:"-"`
	Keep   bool   `json:"-"`
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var connections, only string
	flags := flag.NewFlagSet("peerbench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.Mode, "mode", "load", "what to measure: load (cost per request beside the peers), tls, h2 and h2c (the same over TLS, over HTTP/2 on TLS and on cleartext), routes (cost of many routes), idle (memory of idle connections and edges), register (time until all edges serve a new instance), kill (death of a zone's canaries under load), instances (starts and memory with very many)")
	flags.IntVar(&s.Rounds, "rounds", 5, "measured rounds; in modes kill and instances kills and starts of each kind")
	flags.DurationVar(&s.Duration, "duration", 4*time.Second, "length of one measurement, whole seconds; 10s for mode kill unless given")
	flags.DurationVar(&s.Warmup, "warmup", time.Second, "load before each measurement, whole seconds, 0 for none")
	flags.StringVar(&connections, "connections", "", "connection counts, comma separated (default 64,512 for load, 64 for routes and tls, 32 for h2 and h2c)")
	flags.IntVar(&s.Streams, "streams", 10, "modes h2 and h2c: requests at once on each connection")
	flags.StringVar(&only, "only", "", "measure only these, comma separated: "+strings.Join(peerNames(), ", "))
	flags.IntVar(&s.Workers, "workers", 2, "worker processes or threads of each proxy")
	flags.IntVar(&s.Bucket, "bucket", 100, "mode routes: most routes that share one literal path prefix")
	flags.IntVar(&s.Idle, "idle", 10000, "mode idle: keep-alive connections to hold open")
	flags.IntVar(&s.Registrations, "registrations", 1000, "mode register: registrations at each edge")
	flags.IntVar(&s.RegistrationRate, "registration-rate", 100, "mode register: registrations a second")
	flags.IntVar(&s.Rate, "rate", 2000, "mode kill: requests a second")
	flags.IntVar(&s.Instances, "instances", 100000, "mode instances: instances to register")
	flags.StringVar(&s.Grayfed, "grayfed", "bin/grayfed", "the grayfed binary to measure")
	flags.StringVar(&s.Output, "o", "table", "output: table or json")
	flags.BoolVar(&s.Keep, "keep", false, "keep the folder with generated configurations and logs, and say where it is")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if s.Mode == modeKill && !given["duration"] {
		s.Duration = 10 * time.Second
	}
	if connections == "" {
		connections = "64,512"
		switch s.Mode {
		case modeRoutes, modeTLS:
			connections = "64"
		case modeH2, modeH2C:
			connections = "32"
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
	case !slices.Contains(modes(), s.Mode):
		return fmt.Errorf("-mode %q: want one of %s", s.Mode, strings.Join(modes(), ", "))
	case s.Rounds < 1 || s.Rounds > 100:
		return fmt.Errorf("-rounds %d: want 1 to 100", s.Rounds)
	case s.Duration < time.Second || s.Duration > 10*time.Minute || s.Duration%time.Second != 0:
		return fmt.Errorf("-duration %v: want whole seconds from 1s to 10m", s.Duration)
	case s.Warmup < 0 || s.Warmup > time.Minute || s.Warmup%time.Second != 0:
		return fmt.Errorf("-warmup %v: want whole seconds from 0s to 1m", s.Warmup)
	case s.Workers < 1 || s.Workers > 256:
		return fmt.Errorf("-workers %d: want 1 to 256", s.Workers)
	case s.Streams < 1 || s.Streams > 100:
		return fmt.Errorf("-streams %d: want 1 to 100", s.Streams)
	case s.Bucket < 1 || s.Bucket > 10000:
		return fmt.Errorf("-bucket %d: want 1 to 10000", s.Bucket)
	case s.Idle < 1 || s.Idle > 30000:
		return fmt.Errorf("-idle %d: want 1 to 30000", s.Idle)
	case s.Registrations < 1 || s.Registrations > 20000:
		return fmt.Errorf("-registrations %d: want 1 to 20000", s.Registrations)
	case s.RegistrationRate < 1 || s.RegistrationRate > 10000:
		return fmt.Errorf("-registration-rate %d: want 1 to 10000", s.RegistrationRate)
	case s.Rate < 1 || s.Rate > 50000:
		return fmt.Errorf("-rate %d: want 1 to 50000", s.Rate)
	case s.Instances < instanceServices || s.Instances > 1000000:
		return fmt.Errorf("-instances %d: want %d to 1000000", s.Instances, instanceServices)
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
		return fmt.Errorf("%d of the measurements are invalid: their reasons are in the report", n)
	}
	return nil
}
