package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"
)

const (
	proxyReady = 20 * time.Second
	// An origin is one thread; above this share of a processor it may be what
	// limits the proxy.
	originBusy = 0.9
	// Goals of grayfed's: CPU a request, to nginx's and to that with few routes.
	loadGoal   = 1.0
	h2Goal     = 1.5
	routesGoal = 1.1
)

// peerGoals are grayfed's CPU a request to nginx's by mode.
func peerGoals() map[string]float64 {
	return map[string]float64{modeLoad: loadGoal, modeTLS: loadGoal, modeH2: h2Goal}
}

// judgeRatios holds grayfed's rows against their goals. An invalid row has no
// ratio to judge.
func (r *report) judgeRatios() {
	goals := peerGoals()
	for _, row := range r.Rows {
		what := fmt.Sprintf("%s at %s, CPU to that of %s", row.Name, r.load(row), row.Baseline)
		switch {
		case row.Ratio == 0 || row.Name == row.Baseline:
		case row.Name == peerGrayfed && goals[r.Mode] > 0:
			r.judged(what, row.Ratio, goals[r.Mode], "times")
		case row.Name == peerGrayfed:
			r.figure(what, row.Ratio, "times")
		case r.Mode == modeRoutes && row.Name == worstRoutes():
			r.figure(what, row.Ratio, "times")
		case r.Mode == modeRoutes:
			r.judged(what, row.Ratio, routesGoal, "times")
		}
	}
}

// sample is one measurement of one contestant.
type sample struct {
	Round     int           `json:"round"`
	Requests  int64         `json:"requests"`
	PerSecond float64       `json:"requests_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	CPU       float64       `json:"cpu_us_per_request,omitempty"`        // of the proxy
	OriginCPU float64       `json:"origin_cpu_us_per_request,omitempty"` // of both origins
	Memory    memory        `json:"memory"`
	Errors    int64         `json:"errors"`
	Foreign   float64       `json:"foreign_cpu"` // share of the machine that others used, 0 to 1
	Steal     float64       `json:"stolen_cpu"`  // share that the hypervisor gave away, 0 to 1
	Faults    string        `json:"faults,omitempty"`
	Notes     []string      `json:"notes,omitempty"`
}

func (s sample) summary() string {
	text := fmt.Sprintf("%8.0f requests/s", s.PerSecond)
	if s.CPU > 0 {
		text += fmt.Sprintf(", %6.2f us CPU a request", s.CPU)
	}
	if s.Faults != "" {
		text += ", INVALID: " + s.Faults
	}
	return text
}

// measure starts one contestant afresh, checks that it does its job, loads it
// and ends it. A fresh process each time keeps peak memory per measurement,
// leaves nothing of the others running, and averages over process layouts.
func (b *bench) measure(ctx context.Context, c contestant, connections int) (s sample, err error) {
	target, pid := b.stable.addr, 0
	var sent int64 // to warm up
	var p *proxy
	if c.start != nil {
		if p, err = c.start(ctx); err != nil {
			return sample{}, err
		}
		defer func() {
			lines, stopErr := p.discard()
			if err = errors.Join(err, stopErr); err == nil && p.accessLog != "" {
				s.logged(lines, sent+s.Requests)
			}
		}()
		check := func() error { return verify(ctx, p.entrance, c.sample) }
		if err := waitFor(ctx, proxyReady, p.root, check); err != nil {
			return sample{}, err
		}
		target, pid = p.listen, p.root.pid
	}
	l := load{To: target, Protocol: b.settings.speaks(), Script: c.script, Connections: connections,
		Streams: b.settings.Streams, Duration: b.settings.Warmup}
	if l.Duration > 0 {
		warm, err := drive(ctx, l)
		if err != nil {
			return sample{}, fmt.Errorf("warm up: %w", err)
		}
		sent = warm.Requests
	}

	l.Duration = b.settings.Duration
	before, err := b.observe(ctx, pid)
	if err != nil {
		return sample{}, err
	}
	result, err := drive(ctx, l)
	if err != nil {
		return sample{}, err
	}
	after, err := b.observe(ctx, pid)
	if err != nil {
		return sample{}, err
	}
	if p != nil {
		if err := p.root.alive(); err != nil {
			return sample{}, err
		}
	}
	return judge(result, before, after, pid != 0, connections), nil
}

// observation is the state of everything at one moment.
type observation struct {
	at      time.Time
	proxy   usage
	origins [2]usage
	self    time.Duration // this process and its ended children: wrk is one
	machine machineTimes
	stats   [2]originStats
}

func (b *bench) observe(ctx context.Context, pid int) (observation, error) {
	var o observation
	var err error
	for i, origin := range []*backend{b.stable, b.canary} {
		if err := origin.alive(); err != nil {
			return observation{}, err
		}
		if o.stats[i], err = readOriginStats(ctx, origin.addr); err != nil {
			return observation{}, err
		}
	}
	// Everything that costs anything is done: what follows is read close together.
	if pid != 0 {
		if o.proxy, err = treeUsage("/proc", pid); err != nil {
			return observation{}, err
		}
	}
	for i, origin := range []*backend{b.stable, b.canary} {
		if o.origins[i], err = treeUsage("/proc", origin.pid); err != nil {
			return observation{}, err
		}
	}
	if o.self, err = selfCPU(); err != nil {
		return observation{}, err
	}
	if o.machine, err = readMachineTimes(); err != nil {
		return observation{}, err
	}
	o.at = time.Now()
	return o, nil
}

// judge makes a sample of a run and what was observed around it.
func judge(result loadResult, before, after observation, proxied bool, connections int) sample {
	s := sample{
		Requests: result.Requests, PerSecond: result.PerSecond, P50: result.P50, P99: result.P99,
		Memory: after.proxy.Memory, Errors: result.errors(),
	}
	perRequest := func(d time.Duration) float64 {
		if result.Requests == 0 {
			return 0
		}
		return float64(d) / float64(time.Microsecond) / float64(result.Requests)
	}
	proxyCPU := after.proxy.CPU - before.proxy.CPU
	s.CPU = perRequest(proxyCPU)
	ours := proxyCPU + after.self - before.self
	var served, accepted, wrong int64
	for i := range after.origins {
		cpu := after.origins[i].CPU - before.origins[i].CPU
		ours += cpu
		s.OriginCPU += perRequest(cpu)
		if wall := after.at.Sub(before.at); wall > 0 && float64(cpu)/float64(wall) > originBusy {
			s.Notes = append(s.Notes, "an origin was busy all the time and may be what limited requests/s")
		}
		served += after.stats[i].Requests - before.stats[i].Requests
		accepted += after.stats[i].Accepted - before.stats[i].Accepted
		wrong += after.stats[i].WrongLane - before.stats[i].WrongLane
	}
	if total := after.machine.Total - before.machine.Total; total > 0 {
		s.Foreign = max(0, float64(after.machine.Busy-before.machine.Busy-ours)/float64(total))
		s.Steal = float64(after.machine.Steal-before.machine.Steal) / float64(total)
	}

	if text := result.faults(); text != "" {
		s.fault(text)
	}
	if proxied {
		if wrong > 0 {
			s.fault(fmt.Sprintf("%d requests reached the wrong release", wrong))
		}
		if served < result.Requests {
			s.fault(fmt.Sprintf("only %d of %d requests reached an origin", served, result.Requests))
		}
		// Each side may open its connections once, and a few more while pools grow.
		if limit := int64(8*connections + 256); accepted > limit && accepted > served/100 {
			s.fault(fmt.Sprintf("%d connections to the origins for %d requests: upstream connections are not kept alive", accepted, served))
		}
	}
	return s
}

// discard ends a proxy and removes its access log, which may hold hundreds of
// megabytes. It returns the number of lines that the log had.
func (p *proxy) discard() (lines int64, err error) {
	err = p.stop()
	if p.accessLog == "" {
		return 0, err
	}
	lines, countErr := countLines(p.accessLog)
	return lines, errors.Join(err, countErr, os.Remove(p.accessLog))
}

func countLines(path string) (lines int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("count the access log's lines: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	chunk := make([]byte, 256<<10)
	for {
		n, err := file.Read(chunk)
		lines += int64(bytes.Count(chunk[:n], []byte("\n")))
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, fmt.Errorf("count the access log's lines: %w", err)
		}
	}
}

// logged holds the access log of a run against its requests. A log without
// lines means that a row claims to log and does not; one that drops lines is
// cheaper than one that does not, which the reader should know.
func (s *sample) logged(lines, requests int64) {
	switch {
	case lines == 0:
		s.fault("access log is on and nothing was written to it")
	case lines < requests-requests/1000:
		s.Notes = append(s.Notes, fmt.Sprintf("the access log lacks %.1f%% of the requests", 100*(1-float64(lines)/float64(requests))))
	}
}

func (s *sample) fault(text string) {
	if s.Faults != "" {
		s.Faults += "; "
	}
	s.Faults += text
}

func selfCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, fmt.Errorf("read own times: %w", err)
	}
	stat, err := parseStat(string(text))
	return stat.CPU, err
}

// readOriginStats asks an origin what it has seen.
func readOriginStats(ctx context.Context, addr netip.AddrPort) (originStats, error) {
	var stats originStats
	err := getJSON(ctx, &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
		"http://"+addr.String()+"/"+statsQuery, &stats)
	if err != nil {
		return originStats{}, fmt.Errorf("read the counts of an origin: %w", err)
	}
	return stats, nil
}

func getJSON(ctx context.Context, client *http.Client, target string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", target, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
