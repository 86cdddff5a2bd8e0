package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Modes.
const (
	modeLoad      = "load"
	modeIdle      = "idle"
	modeTLS       = "tls"
	modeH2        = "h2"
	modeH2C       = "h2c"
	modeRoutes    = "routes"
	modeRegister  = "register"
	modeKill      = "kill"
	modeInstances = "instances"
)

func modes() []string {
	return []string{modeLoad, modeTLS, modeH2, modeH2C, modeRoutes, modeIdle, modeRegister, modeKill, modeInstances}
}

// speaks is the protocol of a mode's load.
func (s settings) speaks() protocol {
	return map[string]protocol{modeTLS: {TLS: true}, modeH2: {TLS: true, HTTP2: true}, modeH2C: {HTTP2: true}}[s.Mode]
}

// comparesPeers: the mode measures all proxies under load.
func comparesPeers(mode string) bool {
	return slices.Contains([]string{modeLoad, modeTLS, modeH2, modeH2C}, mode)
}

// openFilesWanted covers the idle mode on either side of a connection.
const openFilesWanted = 65536

// bench is one run of the program: its folder, its origins and what it found.
type bench struct {
	settings  settings
	progress  io.Writer
	dir       string
	programs  map[string]string // path by name
	openFiles int
	settle    time.Duration // before memory is read, see idleSettle
	stable    *backend
	canary    *backend
	cert      certificate
}

// newBench checks what the run needs; it starts nothing.
func newBench(s settings, progress io.Writer) (*bench, error) {
	b := &bench{settings: s, progress: progress, settle: idleSettle, programs: make(map[string]string)}
	for _, name := range neededPrograms(s) {
		find := name
		if name == peerGrayfed {
			find = s.Grayfed
			if filepath.Base(find) == find {
				find = "./" + find
			}
		}
		path, err := findProgram(find)
		if err != nil {
			return nil, err
		}
		b.programs[name] = path
	}
	var err error
	if b.openFiles, err = raiseOpenFiles(openFilesWanted); err != nil {
		return nil, err
	}
	if need := s.Idle + 1000; s.Mode == modeIdle && b.openFiles < need {
		return nil, fmt.Errorf("%d idle connections need %d open files a process, and the limit is %d: raise it with ulimit -n", s.Idle, need, b.openFiles)
	}
	return b, nil
}

// neededPrograms lists what has to be installed for a run.
func neededPrograms(s settings) []string {
	var list []string
	for _, peer := range peersOf(s.Mode) {
		if peer != peerDirect && peer != peerStock && s.wants(peer) {
			list = append(list, peer)
		}
	}
	switch {
	case s.speaks().HTTP2:
		list = append(list, "h2load")
	case comparesPeers(s.Mode) || s.Mode == modeRoutes:
		list = append(list, "wrk")
	}
	return list
}

// peersOf lists what takes part in a mode, in the order of the rows.
func peersOf(mode string) []string {
	switch {
	case mode == modeIdle:
		return []string{peerNginx, peerGrayfed}
	case comparesPeers(mode):
		return peerNames()
	default:
		return []string{peerGrayfed}
	}
}

// raiseOpenFiles raises this process's limit, which children inherit, as far
// towards want as the system lets it, and returns the limit reached.
func raiseOpenFiles(want uint64) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Max < want {
		// Only a privileged process may raise the hard limit.
		raised := syscall.Rlimit{Cur: want, Max: want}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return int(want), nil
		}
	}
	limit.Cur = min(limit.Max, want)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("raise the limit of open files: %w", err)
	}
	return int(limit.Cur), nil
}

// run starts the origins, measures, and returns the report.
func (b *bench) run(ctx context.Context) (*report, error) {
	var err error
	if b.dir, err = os.MkdirTemp("", "peerbench-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if b.cert, err = newCertificate(b.dir); err != nil {
		return nil, err
	}
	if b.stable, err = startOrigin(b.dir, stableRelease); err != nil {
		return nil, err
	}
	if b.canary, err = startOrigin(b.dir, canaryRelease); err != nil {
		return nil, err
	}
	r := &report{Mode: b.settings.Mode, Settings: b.settings, Started: time.Now().UTC(), Machine: readMachine(ctx, b.programs)}
	switch b.settings.Mode {
	case modeIdle:
		err = b.idle(ctx, r)
	case modeRoutes:
		err = b.routes(ctx, r)
	case modeRegister:
		err = b.register(ctx, r)
	case modeKill:
		err = b.kill(ctx, r)
	case modeInstances:
		err = b.instances(ctx, r)
	default:
		err = b.compare(ctx, r)
	}
	if err == nil && len(r.Rows)+len(r.Idle)+len(r.Figures) == 0 {
		err = fmt.Errorf("nothing to measure: mode %s has none of %v", b.settings.Mode, b.settings.Only)
	}
	return r, err
}

// close ends the origins and removes the folder.
func (b *bench) close() error {
	var err error
	for _, o := range []*backend{b.stable, b.canary} {
		if o != nil {
			err = errors.Join(err, o.end())
		}
	}
	if b.dir == "" {
		return err
	}
	if b.settings.Keep {
		b.say("kept %s", b.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// say tells the user how far the run is.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", args...) // progress is a courtesy
}

// contestant is one row of a table: how to start what it measures.
type contestant struct {
	name     string
	peer     string
	baseline string                                    // the contestant its ratio is taken to, "" for none
	script   string                                    // wrk's
	sample   string                                    // a path of the load, for the check before it
	start    func(ctx context.Context) (*proxy, error) // nil: straight to the origin
}

// contest measures all contestants at one number of connections, in rounds
// that go over all of them, so that drift of the machine meets all alike.
func (b *bench) contest(ctx context.Context, r *report, contestants []contestant, connections int) error {
	rows := make([]*row, len(contestants))
	for i, c := range contestants {
		rows[i] = &row{Name: c.name, Protocol: b.settings.speaks().String(), Connections: connections, baseline: c.baseline}
	}
	for round := range b.settings.Rounds {
		for i, c := range contestants {
			if len(rows[i].Faults) > 0 {
				continue // it is invalid already: its time is better spent on the others
			}
			s, err := b.measure(ctx, c, connections)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				rows[i].Faults = append(rows[i].Faults, err.Error())
				b.say("%d connections, round %d/%d, %s: %v", connections, round+1, b.settings.Rounds, c.name, err)
				continue
			}
			s.Round = round + 1
			rows[i].Samples = append(rows[i].Samples, s)
			if s.Faults != "" {
				rows[i].Faults = append(rows[i].Faults, s.Faults)
			}
			b.say("%d connections, round %d/%d, %-18s %s", connections, round+1, b.settings.Rounds, c.name, s.summary())
		}
	}
	finish(rows)
	for _, row := range rows {
		r.Rows = append(r.Rows, *row)
	}
	return nil
}

// compare measures all proxies side by side, on the protocol of the mode.
func (b *bench) compare(ctx context.Context, r *report) error {
	script := filepath.Join(b.dir, "mixed.lua")
	if err := renderTo(script, "mixed.lua.tmpl", loadScript{Host: loadHost, PathPrefix: pathPrefix, TagHeader: tagHeader, Tag: canaryRelease}); err != nil {
		return err
	}
	speaks := b.settings.speaks()
	nginx := func(log bool) func(context.Context) (*proxy, error) {
		return func(ctx context.Context) (*proxy, error) { return b.startNginx(ctx, speaks, log) }
	}
	grayfed := func(log bool) func(context.Context) (*proxy, error) {
		return func(ctx context.Context) (*proxy, error) { return b.startGrayfed(ctx, speaks, log, plainRoutes()) }
	}
	with := func(start func(context.Context, protocol) (*proxy, error)) func(context.Context) (*proxy, error) {
		return func(ctx context.Context) (*proxy, error) { return start(ctx, speaks) }
	}
	all := []contestant{
		{name: "direct", peer: peerDirect},
		{name: "nginx", peer: peerNginx, baseline: "nginx", start: nginx(false)},
		{name: "nginx" + withLog, peer: peerNginx, baseline: "nginx" + withLog, start: nginx(true)},
		{name: "haproxy", peer: peerHAProxy, baseline: "nginx", start: with(b.startHAProxy)},
		{name: "caddy", peer: peerCaddy, baseline: "nginx", start: with(b.startCaddy)},
		{name: peerStock, peer: peerStock, baseline: "nginx", start: with(b.startStock)},
		{name: "grayfed", peer: peerGrayfed, baseline: "nginx", start: grayfed(false)},
		{name: "grayfed" + withLog, peer: peerGrayfed, baseline: "nginx" + withLog, start: grayfed(true)},
	}
	all = slices.DeleteFunc(all, func(c contestant) bool {
		// The origins speak h1 alone, and what a log costs does not depend on
		// the protocol.
		plainOnly := c.peer == peerDirect || strings.HasSuffix(c.name, withLog)
		return !b.settings.wants(c.peer) || plainOnly && speaks != protocol{}
	})
	for i := range all {
		all[i].script, all[i].sample = script, pathPrefix+"42"
	}
	for _, connections := range b.settings.Connections {
		if err := b.contest(ctx, r, all, connections); err != nil {
			return err
		}
	}
	r.judgeRatios()
	return nil
}

// withLog ends the names of rows with an access log.
const withLog = " +log"

// loadScript fills the Lua scripts; the last three fields are of the routes'.
type loadScript struct {
	Host, PathPrefix, TagHeader, Tag string
	Routes, Bucket                   int
	PathFormat                       string
}
