package edge

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul"
	"github.com/grayfed/grayfed/failover/dns"
	"github.com/grayfed/grayfed/federation/gossip"
)

// dnsFailover decides at each heartbeat about this edge's entry in DNS, has it
// published by gossip and, where it is configured, in Consul, and keeps what
// DNS answers up to date.
type dnsFailover struct {
	edge      *Edge
	options   failover.Options
	entry     failover.Entry    // this edge's, with its full weight
	publisher *consul.Publisher // nil: no Consul
	server    *dns.Server       // nil: no DNS

	view    atomic.Pointer[consul.View] // the last that a leader confirmed
	news    chan struct{}               // 1-buffered: gossip or Consul know something new
	leaving chan struct{}               // closed by leave
	left    chan struct{}               // closed when nobody is sent here any more
	shown   atomic.Pointer[picture]     // nil before the first heartbeat

	// What only the goroutine of run uses.
	state     failover.State
	probes    *dataProbes
	sightings *sightings
	capacity  *zoneCapacity
}

// picture is what the last heartbeat, or news since, came to.
type picture struct {
	decision failover.Decision
	since    time.Time           // when it went in or out, wall clock
	turns    uint64              // how often it did
	entries  []failover.Sighting // of all edges, by edge
	shares   []failover.Share
	// capacity is that of this edge's zone and healthy what of it is usable, in
	// hundredths of a weight.
	capacity, healthy int64
}

// newFailover prepares what the settings ask for; without a failover section
// that is nothing.
func (e *Edge) newFailover(ctx context.Context, reg prometheus.Registerer) error {
	c := e.process.Failover
	if c == nil {
		return nil
	}
	role, err := failover.ParseRole(c.Role)
	if err != nil {
		return err
	}
	f := &dnsFailover{
		edge: e,
		options: failover.Options{
			Zone: e.self.Zone, Role: role, Weight: c.Weight, Primaries: c.Primaries, Heartbeat: c.Heartbeat,
			Misses: c.Misses, Hold: c.Hold, Steps: c.Steps, StepEvery: c.StepEvery,
		}.WithDefaults(),
		news:     make(chan struct{}, 1),
		leaving:  make(chan struct{}),
		left:     make(chan struct{}),
		capacity: newZoneCapacity(e.self.Zone),
	}
	if err := f.options.Validate(); err != nil {
		return err
	}
	var usable bool
	if f.entry, usable = entryOf(&e.self); !usable {
		return errors.New("failover: the edge knows no address for its entry")
	}
	// A probe has ended when the next heartbeat comes.
	f.probes = newDataProbes(f.options.Heartbeat*9/10, f.options.Misses)
	f.sightings = newSightings(e.self.ID, f.probes, f.hears, gossipTiming(e.process.Gossip).MeetWithin())
	if err := f.newPublisher(reg); err != nil {
		return err
	}
	if err := f.newServer(ctx, reg); err != nil {
		return err
	}
	e.failover = f
	return nil
}

func (f *dnsFailover) newPublisher(reg prometheus.Registerer) error {
	c := f.edge.process.Consul
	if c == nil {
		return nil
	}
	var err error
	f.publisher, err = consul.New(consul.Options{
		Address: c.Address, TokenFile: c.TokenFile,
		CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile,
		Service: c.Service, Edge: f.edge.self.ID, Entry: f.entry,
		CheckURL: f.checkURL(),
		// The admin certificate is for those who manage the edge; the agent
		// beside it asks for a sign of life.
		CheckSkipVerify: true,
		OnView: func(v consul.View) {
			f.view.Store(&v)
			wake(f.news)
		},
		Log: f.edge.log, Registerer: reg,
	})
	return err
}

// checkURL is what the Consul agent asks whether this edge lives.
func (f *dnsFailover) checkURL() string {
	const path = "/v1/failover/check"
	e := f.edge
	if url := e.process.Consul.CheckURL; url != "" {
		return url
	}
	if health := e.admin.HealthAddress(); health != nil {
		host, _, _ := net.SplitHostPort(e.process.Gossip.Advertise) // validated
		return "http://" + advertised(health, host) + path
	}
	return e.self.Admin + path
}

func (f *dnsFailover) newServer(ctx context.Context, reg prometheus.Registerer) error {
	c := f.edge.process.DNS
	if c == nil {
		return nil
	}
	var err error
	f.server, err = dns.New(ctx, dns.Options{
		Address: c.Address, Domain: c.Domain, TTL: c.TTL, Nameservers: c.Nameservers,
		HTTPS: f.edge.process.Listen.TLS != nil, Log: f.edge.log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	f.edge.opened.push("dns sockets", func() error {
		if err := f.server.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // it has been run
	})
	return nil
}

// startFailover runs what newFailover made.
func (e *Edge) startFailover(g *group, running *stops) {
	f := e.failover
	if f == nil {
		return
	}
	if f.publisher != nil {
		g.start(running, "consul", f.publisher.Run)
	}
	if f.server != nil {
		g.start(running, "dns", f.server.Run)
	}
	g.start(running, "failover", f.run)
}

// wake wakes who waits on a 1-buffered channel.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is woken already
	}
}

// run observes, decides and answers until ctx ends.
func (f *dnsFailover) run(ctx context.Context) error {
	ticker := time.NewTicker(f.options.Heartbeat)
	defer ticker.Stop()
	var probing sync.WaitGroup
	defer probing.Wait()
	results := make(chan map[probeTarget]error, 1)
	underWay := false
	look := func() {
		if underWay {
			return
		}
		underWay = true
		f.observe()
		targets := f.sightings.targets()
		probing.Go(func() { results <- f.probes.look(ctx, targets) })
	}
	look()
	leaving, left := f.leaving, f.left
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			look()
		case found := <-results:
			underWay = false
			f.probes.take(found)
			f.decide()
		case <-f.news:
			f.observe()
			f.answer(f.picture())
		case <-leaving:
			leaving = nil
			f.decide()
		}
		if leaving == nil && left != nil && f.isOut() {
			close(left)
			left = nil
		}
	}
}

// hears reports whether packets of an edge got here of late, even if gossip
// holds it for dead.
func (f *dnsFailover) hears(edge string) bool {
	return time.Since(f.edge.gossip.Heard(edge)) <= time.Duration(f.options.Misses)*max(f.options.Heartbeat, gossip.SignInterval)
}

// picture is the last one, or an empty one before the first.
func (f *dnsFailover) picture() picture {
	if p := f.shown.Load(); p != nil {
		return *p
	}
	return picture{}
}

// leaderView is what a Consul leader says, nil when none said it lately.
func (f *dnsFailover) leaderView() *consul.View {
	if v := f.view.Load(); v != nil && time.Since(v.Confirmed) <= consul.LeaderFor {
		return v
	}
	return nil
}

func (f *dnsFailover) observe() {
	f.sightings.update(f.edge.peers.all(), f.leaderView(), time.Now())
}

// decide folds one heartbeat into the decision and has it published.
func (f *dnsFailover) decide() {
	e := f.edge
	f.observe()
	// Not e.now: holds and steps are no matter of the wall clock, which may
	// leap.
	now := time.Now()
	capacity, healthy := f.capacity.look(e.catalog.Snapshot(), e.config.Load().documents.Services, now)
	observation := failover.Observation{
		At: now, Ready: e.notReady() == nil, Capacity: capacity, Healthy: healthy,
		Leader: f.leaderView() != nil, Others: f.sightings.list(),
	}
	next, first := f.picture(), f.shown.Load() == nil
	next.capacity, next.healthy = capacity, healthy
	before := next.decision
	f.state, next.decision = failover.Next(&f.options, f.state, &observation)
	turned := next.decision.In != before.In
	if turned {
		next.turns++
	}
	if turned || first {
		next.since = e.now()
	}
	if f.publisher != nil {
		f.publisher.Set(next.decision)
	}
	f.answer(next)
	if turned || next.decision.In && next.decision.Weight != before.Weight {
		wake(e.announceNow)
		e.failoverEvent(next.decision)
	}
}

// answer completes a picture with what is known of the others, and has DNS
// answer by it.
func (f *dnsFailover) answer(p picture) {
	p.entries = append(f.sightings.list(), f.reported(p.decision))
	slices.SortFunc(p.entries, func(a, b failover.Sighting) int { return cmp.Compare(a.Edge, b.Edge) })
	seen := append(f.sightings.forAnswer(), f.own(p.decision))
	p.shares = failover.Answer(seen)
	f.shown.Store(&p)
	switch {
	case f.server == nil:
	case failover.Doubtful(seen):
		f.server.SetDoubtful(p.shares)
	default:
		f.server.Set(p.shares)
	}
}

// isOut reports whether nobody is told any more to come here: neither by this
// edge nor, as far as a leader says, by Consul. Without a leader there is nobody
// who could be told.
func (f *dnsFailover) isOut() bool {
	if f.picture().decision.In {
		return false
	}
	view := f.leaderView()
	return view == nil || !passing(view, f.edge.self.ID)
}

// leaveTimeout bounds how long a draining edge waits for being out.
const leaveTimeout = 2 * time.Second

// leave takes a draining edge out of DNS, and returns when that is known and the
// answers of before have run out, so that whoever was sent here has been let in.
func (f *dnsFailover) leave() {
	wasIn := f.picture().decision.In
	close(f.leaving)
	limit := time.NewTimer(leaveTimeout)
	defer limit.Stop()
	select {
	case <-f.left:
	case <-limit.C:
		f.edge.log.Warn("edge drains before it is known to be out of DNS", "edge", f.edge.self.ID)
	}
	if !wasIn {
		return
	}
	kept := time.Second // Consul's answers are not kept, other edges' for that long by default
	if dns := f.edge.process.DNS; dns != nil {
		kept = dns.TTL
	}
	time.Sleep(min(kept, f.edge.process.Shutdown.DrainTimeout))
}
