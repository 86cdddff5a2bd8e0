package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	takeoverGoal = time.Second
	// instanceThink keeps requests under way at the moment of the kill.
	instanceThink = 5 * time.Millisecond
	// canariesPerZone are killed at once, where there are any.
	canariesPerZone = 2
	// generatorLate is how late the generator may send before a reader has to
	// know: what it adds to a latency is not the edge's.
	generatorLate = 50 * time.Millisecond
)

// killRow is one round of mode kill.
type killRow struct {
	Name     string        `json:"name"`
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"` // idempotent requests
	Wrong    int           `json:"wrong_version"`
	Posts    int           `json:"posts"`
	Lost     int           `json:"failed_posts"`            // any
	LostLate int           `json:"failed_posts_after_kill"` // sent when the killed were gone already
	Before   time.Duration `json:"p99_before_ns"`
	Takeover time.Duration `json:"takeover_ns"` // from the kill until the other zone answered everything
	Worst    time.Duration `json:"worst_ns"`    // latency of what was to be answered after the kill
	UnderWay int           `json:"under_way"`   // requests, at the kill
	Reasons  []string      `json:"reasons"`     // of failures, with their number
	Late     time.Duration `json:"late_ns"`     // the generator, at worst
	Fault    string        `json:"fault,omitempty"`
}

// kill is the mode of that name: all canaries of a zone die at a random moment
// under load, and the other zone's take over.
func (b *bench) kill(ctx context.Context, r *report) error {
	for _, posts := range []bool{false, true} {
		name := "GET"
		if posts {
			name = "GET and POST"
		}
		for round := range b.settings.Rounds {
			b.say("%s, round %d/%d", name, round+1, b.settings.Rounds)
			row, err := b.killOnce(ctx, posts)
			if err != nil {
				return err
			}
			row.Name = fmt.Sprintf("%s, round %d", name, round+1)
			r.Kills = append(r.Kills, row)
		}
	}
	r.judgeKills()
	return nil
}

func (b *bench) killOnce(ctx context.Context, posts bool) (_ killRow, err error) {
	f, err := b.startFederation(ctx, threeZones(), releaseDocuments(plainRoutes()))
	if err != nil {
		return killRow{}, err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	canaries, err := f.populate(ctx)
	if err != nil {
		return killRow{}, err
	}
	home := f.edges[0]
	if err := waitFor(ctx, grayfedReady, home.child, func() error { return serving(home) }); err != nil {
		return killRow{}, err
	}

	load := openLoop{To: home.Listen, Rate: b.settings.Rate, Posts: posts,
		Count: int(b.settings.Duration/time.Second) * b.settings.Rate}
	result := make(chan []outcome, 1)
	begun := make(chan time.Time, 1)
	go func() { result <- load.run(ctx, func(at time.Time) { begun <- at }) }()
	// Somewhere in the second quarter: there is a before, and a longer after.
	quarter := b.settings.Duration / 4
	moment := (<-begun).Add(quarter + rand.N(quarter))
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(moment)):
	}
	killed, gone, killErr := killAll(canaries[home.Zone])
	outcomes := <-result
	if err := errors.Join(ctx.Err(), killErr, f.alive()); err != nil {
		return killRow{}, err
	}
	return judgeKill(outcomes, home.Zone, killed, gone), nil
}

// populate starts a stable instance in each zone and canaries in those of the
// first region, registers each with its zone's edge, and returns the canaries
// by zone.
func (f *federation) populate(ctx context.Context) (map[string][]*child, error) {
	canaries := make(map[string][]*child)
	for _, m := range f.edges {
		versions := []string{stableRelease}
		if m.Region == f.edges[0].Region {
			versions = append(versions, slices.Repeat([]string{canaryRelease}, canariesPerZone)...)
		}
		for n, version := range versions {
			id := fmt.Sprintf("%s-%s-%d", m.Zone, version, n)
			instance, err := startInstance(f.dir, instanceName{Version: version, Zone: m.Zone, Instance: id}, instanceThink)
			if err != nil {
				return nil, err
			}
			f.others = append(f.others, instance.child)
			if version == canaryRelease {
				canaries[m.Zone] = append(canaries[m.Zone], instance.child)
			}
			body := registration{Zone: m.Zone, Region: m.Region, Address: instance.addr.String(), Version: version, TTL: registerTTL}
			if err := f.registrar(m).put(ctx, benchService, id, body); err != nil {
				return nil, err
			}
		}
	}
	return canaries, f.complete(ctx, benchService, len(f.others))
}

// complete waits until every edge knows so many instances of a service, and
// finds them usable.
func (f *federation) complete(ctx context.Context, service string, want int) error {
	for _, m := range f.edges {
		err := waitFor(ctx, grayfedReady, m.child, func() error {
			var answer struct {
				Instances []struct {
					Usable bool `json:"usable"`
				} `json:"instances"`
			}
			if err := getJSON(ctx, f.client, m.api("/v1/services/"+service+"/instances"), &answer); err != nil {
				return err
			}
			usable := 0
			for _, i := range answer.Instances {
				if i.Usable {
					usable++
				}
			}
			if usable != want {
				return fmt.Errorf("%s's edge can use %d of %d instances", m.Zone, usable, want)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serving reports an edge that does not answer a tagged request from a canary of
// its own zone.
func serving(m *member) error {
	w := &wire{to: m.Listen, limit: callTimeout}
	var o outcome
	o.ask(w)
	if err := w.close(); err != nil {
		return err
	}
	if o.Failure != "" || o.From.Version != canaryRelease || o.From.Zone != m.Zone {
		return fmt.Errorf("%s's edge answers a tagged request from %+v, %s", m.Zone, o.From, o.Failure)
	}
	return nil
}

// killAll kills processes as kill -9 does, and returns the moments before the
// first signal and after the last of them was gone.
func killAll(list []*child) (killed, gone time.Time, err error) {
	killed = time.Now()
	for _, p := range list {
		err = errors.Join(err, p.alive(), unix.Kill(p.pid, unix.SIGKILL))
	}
	for _, p := range list {
		<-p.exited
	}
	return killed, time.Now(), err
}

// judgeKill sums a round up. Its canaries in zone were killed between the two
// moments.
func judgeKill(outcomes []outcome, zone string, killed, gone time.Time) killRow {
	row := killRow{Requests: len(outcomes)}
	var before []time.Duration
	var firstOther, lastHere time.Time
	reasons := make(map[string]int)
	home := 0
	for n := range outcomes {
		o := &outcomes[n]
		row.Late = max(row.Late, o.Queued.Sub(o.Intended))
		if o.Post {
			row.Posts++
		}
		switch {
		case o.Failure != "" && o.Post:
			row.Lost++
			reasons["POST: "+o.Failure]++
			if o.Sent.After(gone) {
				row.LostLate++
			}
		case o.Failure != "":
			row.Failed++
			reasons["GET: "+o.Failure]++
		case o.From.Version != canaryRelease:
			row.Wrong++
			reasons["answered by version "+o.From.Version]++
		}
		if o.Done.Before(killed) {
			before = append(before, o.latency())
			if o.From.Zone == zone {
				home++
			}
			continue
		}
		row.Worst = max(row.Worst, o.latency())
		if o.Sent.Before(killed) {
			row.UnderWay++
		}
		if other := o.Failure == "" && o.From.Zone != zone; !other && o.Done.After(lastHere) {
			lastHere = o.Done
		} else if other && (firstOther.IsZero() || o.Done.Before(firstOther)) {
			firstOther = o.Done
		}
	}
	row.Before = newSpread("", before).P99
	switch {
	case home == 0:
		row.Fault = "no request was answered in " + zone + " before the kill"
	case len(before) == len(outcomes):
		row.Fault = "no request was answered after the kill"
	case firstOther.IsZero():
		// Nobody took over while it was looked at.
		row.Takeover = lastHere.Sub(killed)
	default:
		for _, moment := range []time.Time{firstOther, lastHere} {
			if !moment.IsZero() {
				row.Takeover = max(row.Takeover, moment.Sub(killed))
			}
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		row.Reasons = append(row.Reasons, fmt.Sprintf("%d times %s", reasons[reason], reason))
	}
	return row
}

// judgeKills makes the figures of all rounds.
func (r *report) judgeKills() {
	var failed, wrong, posts, lost, lostLate, underWay int
	var takeover, worst time.Duration
	for _, row := range r.Kills {
		failed, wrong = failed+row.Failed, wrong+row.Wrong
		posts, lost, lostLate = posts+row.Posts, lost+row.Lost, lostLate+row.LostLate
		underWay += row.UnderWay
		takeover, worst = max(takeover, row.Takeover), max(worst, row.Worst)
		if row.Fault != "" {
			r.fault("%s: %s", row.Name, row.Fault)
		}
		for _, reason := range row.Reasons {
			r.note("%s: %s", row.Name, reason)
		}
		if row.Late > generatorLate {
			r.note("%s: the load generator was up to %v late: repeat on an idle machine", row.Name, row.Late.Round(time.Millisecond))
		}
	}
	r.judged("failed GET requests", float64(failed), 0, "")
	r.judged("answers of another version", float64(wrong), 0, "")
	r.judged("until the other zone answers all, worst", milliseconds(takeover), milliseconds(takeoverGoal), "ms")
	r.figure("latency after the kill, worst", milliseconds(worst), "ms")
	r.figure(fmt.Sprintf("failed POST requests of %d", posts), float64(lost), "")
	r.judged("of them sent when the canaries were gone", float64(lostLate), 0, "")
	r.note("%d requests were under way at the kills; an instance takes %v to answer", underWay, instanceThink)
	r.note("latency counts from the moment a request was meant to be sent; a POST that a dying instance may have read must not be repeated")
}

func (r *report) killText(out *strings.Builder) {
	if len(r.Kills) == 0 {
		return
	}
	table := textTable{header: []string{"", "requests", "failed GET", "wrong version", "POST", "failed", "sent late", "other zone after", "worst after", "p99 before"}}
	for _, row := range r.Kills {
		table.rows = append(table.rows, []string{row.Name, fmt.Sprint(row.Requests), fmt.Sprint(row.Failed), fmt.Sprint(row.Wrong),
			fmt.Sprint(row.Posts), fmt.Sprint(row.Lost), fmt.Sprint(row.LostLate),
			latency(row.Takeover), latency(row.Worst), latency(row.Before)})
	}
	out.WriteString("\n")
	table.write(out)
}
