// Package health turns probes and what requests experience into evidence on
// endpoints. Evidence is kept per endpoint, whatever route the requests came
// by.
//
// Requests report to a [Tracker], without locks; what they complete counts from
// that instant on (see [Tracker.Ejected]). The [Monitor] probes the endpoints
// of its own zone and those that requests went to in the last minute, moves
// each endpoint through its states, and tells its sink.
package health

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/federation"
)

const (
	urgentPause  = 200 * time.Millisecond // between probes asked for by failures
	flushPause   = 100 * time.Millisecond // how long repeated records gather
	flushSize    = 512
	longDown     = 10 // failed probes, then the pause grows
	longDownMost = 5  // times the interval, at most
)

// Monitor watches endpoints. Its methods are safe for concurrent use.
type Monitor struct {
	opts    Options
	probe   func(context.Context, *federation.Instance, Check) error
	close   func()
	metrics *metrics
	checks  atomic.Pointer[map[string]Check] // by service
	wake    chan struct{}                    // 1-buffered
	results chan result

	epoch   time.Time    // moment 0
	tracked atomic.Int64 // trackers that are not closed

	mu      sync.Mutex
	waiting []*Tracker // mu; each at most once, so bounded by the trackers

	// What follows belongs to the goroutine of Run.
	schedule schedule
	ready    [2][]*Tracker // due and waiting for a slot: well, failing
	running  [2]int        // probes under way, of the same
	batch    []federation.HealthRecord
	urgent   bool      // the batch holds a change
	batchAt  time.Time // when its first record was put in
	seq      uint64
}

type result struct {
	tracker *Tracker
	began   moment
	class   int
	err     error
}

// NewMonitor checks the options and returns a monitor that does nothing yet.
func NewMonitor(opts Options) (*Monitor, error) {
	if opts.Probing.Path == "" {
		opts.Probing.Path = "/healthz"
	}
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	m := &Monitor{
		opts:    opts,
		wake:    make(chan struct{}, 1),
		results: make(chan result, opts.Probing.Concurrency),
		probe:   opts.probe,
		close:   func() {},
		epoch:   time.Now().Add(-time.Hour),
	}
	if m.probe == nil {
		p := newProber(opts.Probing)
		m.probe, m.close = p.probe, p.close
	}
	var err error
	if m.metrics, err = newMetrics(opts.Registerer, m); err != nil {
		return nil, fmt.Errorf("register health metrics: %w", err)
	}
	return m, nil
}

// Tracker begins to watch an instance. It neither blocks nor calls out. There is
// one tracker for an instance and address: the caller keeps it as long as the
// endpoint lives and closes it then.
func (m *Monitor) Tracker(i *federation.Instance) *Tracker {
	t := &Tracker{monitor: m}
	t.instance.Store(i)
	m.tracked.Add(1)
	if i.Zone == m.opts.Zone {
		m.enqueue(t)
	}
	return t
}

// moment is now on the monitor's clock.
func (m *Monitor) moment(now time.Time) moment { return moment(now.Sub(m.epoch)) }

// Tracked is a runtime that keeps the tracker of its endpoint.
type Tracked interface {
	Tracker() *Tracker
}

// Update brings facts up to date that may change while an endpoint and its
// tracker live: its zone and its health path. It takes what a catalog's
// subscription gives: the names of changed services, or all. Trackers are found
// by the endpoints' runtimes, which are to be [Tracked].
func (m *Monitor) Update(snap *federation.Snapshot, changed []string, all bool) {
	if all {
		changed = snap.Services()
	}
	for _, name := range changed {
		view := snap.Service(name)
		if view == nil {
			continue
		}
		for _, e := range view.Endpoints {
			if rt, ok := e.Runtime.(Tracked); ok {
				m.update(rt.Tracker(), e.Instance)
			}
		}
	}
}

func (m *Monitor) update(t *Tracker, i *federation.Instance) {
	was := t.instance.Load()
	if was == i {
		return
	}
	t.instance.Store(i)
	if was.Zone != i.Zone {
		m.enqueue(t)
	}
}

// Probe asks an instance once, bounded by the probe timeout, without any effect
// on what is known of it. It returns nil when the instance is well.
func (m *Monitor) Probe(ctx context.Context, i *federation.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, m.opts.Probing.Timeout)
	defer cancel()
	return m.probe(ctx, i, m.check(i))
}

// SetChecks says what instances that declare no path are asked, by service. An
// empty path is that of the options.
func (m *Monitor) SetChecks(checks map[string]Check) { m.checks.Store(&checks) }

// enqueue has the loop look at a tracker.
func (m *Monitor) enqueue(t *Tracker) {
	if !t.queued.CompareAndSwap(false, true) {
		return
	}
	m.mu.Lock()
	m.waiting = append(m.waiting, t)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Run watches until ctx ends, and returns nil once its probes have ended.
func (m *Monitor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer m.close()
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			for _, t := range m.takeWaiting() {
				m.attend(t, time.Now())
			}
		case r := <-m.results:
			m.running[r.class]--
			m.conclude(r, time.Now())
		case <-timer.C:
		}
		now := time.Now()
		m.advance(now)
		m.start(ctx, &wg, now)
		m.flush(now)
		timer.Reset(m.untilNext(now))
	}
}

func (m *Monitor) takeWaiting() []*Tracker {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.waiting
	m.waiting = nil
	return waiting
}

// attend looks at a tracker that asked for it.
func (m *Monitor) attend(t *Tracker, now time.Time) {
	t.queued.Store(false) // before looking: what comes later asks again
	if t.closed.Load() {
		if t.state != nil {
			m.unlist(t)
			m.withdraw(t, now)
		}
		return
	}
	at := m.moment(now)
	if !t.listed.Load() {
		if !m.cares(t, now) {
			return
		}
		t.listed.Store(true)
		if t.state == nil {
			t.state = &state{index: -1}
		}
		// A random phase, so that a thousand new endpoints are not probed
		// at once.
		t.state.next = at.add(time.Duration(m.opts.Rand() * float64(m.opts.Probing.Interval)))
		m.schedule.put(t, t.state.next)
	}
	s := t.state
	if c := cause(t.out.Load()); c != causeNone && s.status != federation.Unhealthy {
		s.eject(c, &m.opts.Ejection, at)
		m.metrics.ejected(c)
		m.changed(t, now)
	}
	if t.urgent.Load() && !s.probing {
		s.next = max(s.began.add(urgentPause), at)
	}
	m.reschedule(t)
}

// cares reports whether the endpoint is this edge's to watch: of its zone, in
// use, or held out by its evidence.
func (m *Monitor) cares(t *Tracker, now time.Time) bool {
	s := t.state
	return t.instance.Load().Zone == m.opts.Zone || t.used(now.UnixNano()) ||
		s != nil && (s.status == federation.Unhealthy || s.status == federation.Recovering)
}

// unlist stops watching.
func (m *Monitor) unlist(t *Tracker) {
	t.listed.Store(false)
	m.schedule.remove(t)
}

// advance handles every tracker whose time has come.
func (m *Monitor) advance(now time.Time) {
	at := m.moment(now)
	for {
		t := m.schedule.first()
		if t == nil || m.schedule.times[0] > at {
			return
		}
		s := t.state
		if !m.cares(t, now) && !s.probing {
			m.unlist(t)
			// A request that came meanwhile saw it listed and did not ask.
			if !t.used(now.UnixNano()) {
				t.state = nil
				continue
			}
			t.listed.Store(true)
		}
		m.move(t, func() { s.pass(&m.opts, at) }, now)
		if !s.probing && s.next <= at {
			s.probing = true
			class := s.class()
			m.ready[class] = append(m.ready[class], t)
		}
		if s.status != federation.HealthUnknown && at.sub(s.reported) >= m.opts.RefreshInterval {
			m.report(t, now)
		}
		m.reschedule(t)
	}
}

// class separates the endpoints whose last probe failed: they may hold a slot
// for the whole timeout, so they get half of the slots at most.
func (s *state) class() int {
	if s.failures > 0 {
		return 1
	}
	return 0
}

// start begins the probes that are due, as far as there are slots.
func (m *Monitor) start(ctx context.Context, wg *sync.WaitGroup, now time.Time) {
	at := m.moment(now)
	most := m.opts.Probing.Concurrency
	for class := range m.ready {
		for len(m.ready[class]) > 0 && m.running[0]+m.running[1] < most && (class == 0 || m.running[1] < max(most/2, 1)) {
			t := m.ready[class][0]
			m.ready[class][0] = nil
			m.ready[class] = m.ready[class][1:]
			if t.closed.Load() {
				continue
			}
			if at.sub(t.state.next) > m.opts.Probing.Interval {
				m.metrics.late.Add(1)
			}
			t.state.began = at
			t.urgent.Store(false)
			m.running[class]++
			instance, check := t.instance.Load(), m.check(t.instance.Load())
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, m.opts.Probing.Timeout)
				defer cancel()
				err := m.probe(ctx, instance, check)
				m.results <- result{tracker: t, began: at, class: class, err: err} // has room for all
			})
		}
		if len(m.ready[class]) == 0 {
			m.ready[class] = nil
		}
	}
}

// check is what an instance is asked.
func (m *Monitor) check(i *federation.Instance) Check {
	if i.HealthPath != "" {
		return Check{Path: i.HealthPath}
	}
	var check Check
	if checks := m.checks.Load(); checks != nil {
		check = (*checks)[i.Service]
	}
	if check.Path == "" {
		check.Path = m.opts.Probing.Path
	}
	return check
}

// conclude takes the outcome of a probe.
func (m *Monitor) conclude(r result, now time.Time) {
	t := r.tracker
	s, at := t.state, m.moment(now)
	s.probing = false
	m.metrics.probed(r.err == nil)
	if t.closed.Load() || !t.listed.Load() {
		return
	}
	m.move(t, func() { s.probed(r.err == nil, r.began, &m.opts, at) }, now)
	pause := m.opts.Probing.Interval
	if s.failures > longDown {
		pause *= time.Duration(min(s.failures-longDown+1, longDownMost))
	}
	pause = time.Duration(float64(pause) * (0.9 + 0.2*m.opts.Rand()))
	s.next = max(r.began.add(pause), at)
	if t.urgent.Load() {
		m.attend(t, now)
		return
	}
	m.reschedule(t)
}

// move lets the state change and tells of it.
func (m *Monitor) move(t *Tracker, step func(), now time.Time) {
	s := t.state
	was, percent := s.status, s.percent
	step()
	if s.status == was && s.percent == percent {
		return
	}
	if was == federation.Unhealthy {
		// What put it out is over; it is judged by what comes now.
		if w := t.window.Load(); w != nil {
			w.reset()
		}
		t.streak.Store(0)
		t.out.Store(uint32(causeNone))
	}
	m.changed(t, now)
}

// reschedule sets when the tracker is looked at next.
func (m *Monitor) reschedule(t *Tracker) {
	s := t.state
	if !t.listed.Load() {
		return
	}
	const never = moment(math.MaxInt64)
	at := never
	if !s.probing {
		at = min(at, s.next)
	}
	if s.status != federation.HealthUnknown {
		at = min(at, s.reported.add(m.opts.RefreshInterval))
	}
	if due := s.due(&m.opts); due != 0 {
		at = min(at, due)
	}
	if at == never {
		m.schedule.remove(t) // its probe's outcome brings it back
		return
	}
	m.schedule.put(t, at)
}

// untilNext is how long the loop may sleep.
func (m *Monitor) untilNext(now time.Time) time.Duration {
	next := time.Hour
	if m.schedule.first() != nil {
		next = m.schedule.times[0].sub(m.moment(now))
	}
	if len(m.batch) > 0 {
		next = min(next, m.batchAt.Add(flushPause).Sub(now))
	}
	return max(next, 0)
}
