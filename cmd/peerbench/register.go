package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	registerGoal = 30 * time.Millisecond // p99
	// pollPause is between two rounds of a poller over what it waits for.
	pollPause = 500 * time.Microsecond
	// registerLimit is how long an edge may take to answer from a new instance.
	registerLimit = 10 * time.Second
	// registerTTL outlives the run: heartbeats are not part of this figure.
	registerTTL = "1h"
)

// enrolment is one registration and what came of it. Each poller writes its own
// element of seen, and the goroutine that registers the rest; they are read
// when all of those have ended.
type enrolment struct {
	service  string
	request  []byte // asks the edges for the service
	sent     time.Time
	answered time.Duration   // until the PUT was answered
	seen     []time.Duration // until each edge answered from the instance; 0: it never did
	err      error
}

func newEnrolment(n, edges int) *enrolment {
	service := "s" + strconv.Itoa(n)
	return &enrolment{service: service, request: get("/"+service+"/x", ""), seen: make([]time.Duration, edges)}
}

// serviceRoutes is a route to each of n services.
func serviceRoutes(n int) []grayfedRoute {
	routes := make([]grayfedRoute, n)
	for i := range routes {
		service := "s" + strconv.Itoa(i)
		routes[i] = grayfedRoute{Name: service, Path: "/" + service + "/**", Service: service}
	}
	return routes
}

// register is the mode of that name: from the sending of a registration until
// each of three edges has answered a request from the new instance.
func (b *bench) register(ctx context.Context, r *report) error {
	for _, at := range []int{0, 2} {
		if err := b.registerAt(ctx, r, at); err != nil {
			return err
		}
	}
	r.note("each registration is the only instance of a service of its own; the poller of an edge pauses %v between its requests", pollPause)
	return nil
}

// registerAt registers everything with edge number at of a fresh federation.
func (b *bench) registerAt(ctx context.Context, r *report, at int) (err error) {
	count := b.settings.Registrations
	f, err := b.startFederation(ctx, threeZones(), grayfedDocuments{Routes: serviceRoutes(count)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	home := f.edges[at]
	b.say("%d registrations at %s's edge, %d/s", count, home.Zone, b.settings.RegistrationRate)

	list := make([]*enrolment, count)
	for n := range list {
		list[n] = newEnrolment(n, len(f.edges))
	}
	pollers := make([]*poller, len(f.edges))
	for n, m := range f.edges {
		pollers[n] = newPoller(n, &wire{to: m.Listen, limit: callTimeout}, count)
		// A service nobody registered: the edge has its routes, and is not one
		// that answers whatever it is asked.
		if err := waitFor(ctx, grayfedReady, m.child, func() error { return pollers[n].absent(list[0]) }); err != nil {
			return err
		}
	}
	if err := b.enrol(ctx, f.registrar(home), home.place, list, pollers); err != nil {
		return err
	}
	if err := f.alive(); err != nil {
		return err
	}
	zones := make([]string, len(f.edges))
	for n, m := range f.edges {
		zones[n] = m.Zone
	}
	r.enrolments("at "+home.Zone, zones, list)
	for n, p := range pollers {
		if text := p.oddities(); text != "" {
			r.note("registered at %s: while waiting, %s's edge answered %s", home.Zone, zones[n], text)
		}
	}
	return nil
}

// enrol registers at the rate of the settings, whatever the answers take, and
// returns when the pollers have seen everything or given up.
func (b *bench) enrol(ctx context.Context, reg *registrar, at place, list []*enrolment, pollers []*poller) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var polling, putting sync.WaitGroup
	for _, p := range pollers {
		polling.Go(func() { p.run(ctx) })
	}
	body := registration{Zone: at.Zone, Region: at.Region, Address: b.stable.addr.String(), Version: stableRelease, TTL: registerTTL}
	begun := time.Now()
	for n, e := range list {
		pause(time.Until(begun.Add(time.Duration(n) * time.Second / time.Duration(b.settings.RegistrationRate))))
		if ctx.Err() != nil {
			break
		}
		e.sent = time.Now()
		putting.Go(func() {
			e.err = reg.put(ctx, e.service, "i1", body)
			e.answered = time.Since(e.sent)
		})
		for _, p := range pollers {
			p.waitFor <- e // it has room for all
		}
	}
	for _, p := range pollers {
		close(p.waitFor)
	}
	putting.Wait()
	polling.Wait()
	return ctx.Err()
}

// enrolments adds what the registrations of one run came to.
func (r *report) enrolments(where string, zones []string, list []*enrolment) {
	var answered, all []time.Duration
	each := make([][]time.Duration, len(zones))
	lost := 0
	for _, e := range list {
		if e.err != nil {
			r.fault("registered %s: %s: %v", where, e.service, e.err)
			return
		}
		answered = append(answered, e.answered)
		latest, missing := time.Duration(0), false
		for n, d := range e.seen {
			if d == 0 {
				missing = true
				d = registerLimit
			}
			each[n] = append(each[n], d)
			latest = max(latest, d)
		}
		if missing {
			lost++
		}
		all = append(all, latest)
	}
	r.Spreads = append(r.Spreads, newSpread("registered "+where+": answered", answered))
	for n, zone := range zones {
		r.Spreads = append(r.Spreads, newSpread("  served by "+zone, each[n]))
	}
	total := newSpread("  served by all", all)
	r.Spreads = append(r.Spreads, total)
	r.judged("registered "+where+", served by all, p99", milliseconds(total.P99), milliseconds(registerGoal), "ms")
	r.judged(fmt.Sprintf("registered %s, not served by all after %v", where, registerLimit), float64(lost), 0, "")
}

// poller asks one edge, over one connection, for the services that were
// registered and that it has not answered for yet.
type poller struct {
	edge     int
	wire     *wire
	waitFor  chan *enrolment
	statuses map[int]int // answers that were none of the instance's, by status
	failures int         // requests without an answer
}

func newPoller(edge int, w *wire, most int) *poller {
	return &poller{edge: edge, wire: w, waitFor: make(chan *enrolment, most), statuses: make(map[int]int)}
}

// run polls until waitFor is closed and nothing is waited for, or ctx ends.
func (p *poller) run(ctx context.Context) {
	defer func() { _ = p.wire.close() }() // nothing is in flight on it
	var waiting []*enrolment
	open := true
	for ctx.Err() == nil && (open || len(waiting) > 0) {
		for more := open; more; {
			var e *enrolment
			if len(waiting) == 0 {
				select {
				case e, open = <-p.waitFor:
				case <-ctx.Done():
					return
				}
			} else {
				select {
				case e, open = <-p.waitFor:
				default:
				}
			}
			if more = e != nil; more {
				waiting = append(waiting, e)
			}
		}
		kept := waiting[:0]
		for _, e := range waiting {
			served := p.poll(e)
			since := time.Since(e.sent)
			if served {
				e.seen[p.edge] = since
			} else if since < registerLimit {
				kept = append(kept, e)
			}
		}
		waiting = kept
		pause(pollPause)
	}
}

// poll says whether the instance answers.
func (p *poller) poll(e *enrolment) bool {
	answer, err := p.wire.ask(e.request)
	switch {
	case err != nil:
		p.failures++
		return false
	case answer.Status == http.StatusOK && answer.Header.Get("X-Origin") == stableRelease:
		return true
	default:
		p.statuses[answer.Status]++
		return false
	}
}

// absent reports an edge that does not say 503 of a service without instances.
func (p *poller) absent(e *enrolment) error {
	answer, err := p.wire.ask(e.request)
	if err == nil && answer.Status != http.StatusServiceUnavailable {
		err = fmt.Errorf("a service without instances is answered with %d, want %d: %.200s", answer.Status, http.StatusServiceUnavailable, answer.Body)
	}
	return err
}

// oddities are answers other than that no instance is there.
func (p *poller) oddities() string {
	var list []string
	for status, n := range p.statuses {
		if status != http.StatusServiceUnavailable {
			list = append(list, fmt.Sprintf("%d %d times", status, n))
		}
	}
	sort.Strings(list)
	if p.failures > 0 {
		list = append(list, fmt.Sprintf("nothing %d times", p.failures))
	}
	return strings.Join(list, ", ")
}
