// Package dns finds the instances behind upstreams that are URLs: it resolves
// their hosts, again at each TTL, without asking for anybody else's cache.
//
// It asks by itself, because the standard library's resolver does not tell
// TTLs. It goes by hosts(5) and resolv.conf(5) as that one does: nameservers,
// search list, ndots, timeout and attempts; other sources of nsswitch.conf are
// not asked.
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Resolver keeps the catalog's instances of URL upstreams up to date.
type Resolver struct {
	opts    Options
	metrics *metrics
	slots   chan struct{} // one a lookup under way
	changed chan struct{}

	// What tests steer.
	pause    func(ctx context.Context, d time.Duration) bool
	routable func(addr netip.Addr) bool

	literals map[string]Upstream // by service; of the caller of SetUpstreams

	mu    sync.Mutex
	names map[string]Upstream // guarded by mu: by service, as they shall be
}

// New returns a resolver without upstreams. [Resolver.Run] does its work.
func New(o Options) (*Resolver, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register DNS metrics: %w", err)
	}
	return &Resolver{
		opts:     o,
		metrics:  m,
		slots:    make(chan struct{}, o.Concurrency),
		changed:  make(chan struct{}, 1),
		pause:    pause,
		routable: routable,
	}, nil
}

// SetUpstreams makes these the upstreams there are. Those whose host is an IP
// address are in the catalog when it returns; names follow while [Resolver.Run]
// runs, and what is no upstream any more leaves the catalog. It is called by
// one goroutine at a time, before or during Run.
func (r *Resolver) SetUpstreams(upstreams []Upstream) {
	names, literals := make(map[string]Upstream), make(map[string]Upstream)
	for _, u := range upstreams {
		addr, err := netip.ParseAddr(u.Host)
		if err != nil {
			names[u.Service()] = u
			continue
		}
		literals[u.Service()] = u
		if r.literals[u.Service()] != u {
			r.setLiteral(u, addr.Unmap())
		}
	}
	for service, u := range r.literals {
		if _, still := literals[service]; !still {
			r.opts.Sink.ReplaceLocal(u.source(), nil)
		}
	}
	r.literals = literals

	r.mu.Lock()
	r.names = names
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default: // Run has yet to look at the change before
	}
}

func (r *Resolver) setLiteral(u Upstream, addr netip.Addr) {
	addrs := []netip.Addr{addr}
	if err := r.opts.Policy.Check(netip.AddrPortFrom(addr, u.Port).String()); err != nil {
		r.opts.Log.Warn("address of an upstream refused", "upstream", u.Service(), "error", err)
		r.metrics.refused.Add(1)
		addrs = nil
	}
	r.opts.Sink.ReplaceLocal(u.source(), u.instances(addrs, r.opts.Locality, r.opts.Owner))
}

// follower is the goroutine that looks after one name.
type follower struct {
	upstream Upstream
	stop     context.CancelFunc
	ended    chan struct{}
}

// end waits for it; what it found stays.
func (f *follower) end() {
	f.stop()
	<-f.ended
}

// Run resolves until ctx ends. It returns nil; what was found stays in the
// catalog. It is called once.
func (r *Resolver) Run(ctx context.Context) error {
	followers := make(map[string]*follower)
	defer func() {
		for _, f := range followers {
			f.end()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		}
		r.mu.Lock()
		names := r.names
		r.mu.Unlock()
		for service, f := range followers {
			if names[service] != f.upstream {
				f.end()
				delete(followers, service)
				if _, still := names[service]; !still {
					r.opts.Sink.ReplaceLocal(f.upstream.source(), nil)
				}
			}
		}
		for service, u := range names {
			if followers[service] == nil {
				followers[service] = r.start(ctx, u)
			}
		}
	}
}

func (r *Resolver) start(ctx context.Context, u Upstream) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{upstream: u, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		r.follow(ctx, u)
	}()
	return f
}

// follow looks a name up at every TTL and brings what changes to the catalog.
func (r *Resolver) follow(ctx context.Context, u Upstream) {
	log := r.opts.Log.With("upstream", u.Service())
	known := held{opts: &r.opts}
	var published []netip.Addr
	for {
		select {
		case <-ctx.Done():
			return
		case r.slots <- struct{}{}:
		}
		found := r.lookup(ctx, u)
		<-r.slots
		if ctx.Err() != nil {
			return
		}
		before := known
		wait := known.take(found)
		r.tell(log, &before, &known, found)
		if addrs := r.choose(&known); !slices.Equal(addrs, published) {
			published = addrs
			log.Info("addresses of an upstream changed", "addresses", addrs)
			r.opts.Sink.ReplaceLocal(u.source(), u.instances(addrs, r.opts.Locality, r.opts.Owner))
		}
		if !r.pause(ctx, wait) {
			return
		}
	}
}

// tell counts an outcome, and logs when it is another one than before.
func (r *Resolver) tell(log *slog.Logger, before, after *held, found answers) {
	switch {
	case after.failures > before.failures:
		r.metrics.failed.Add(1)
		if before.failures == 0 {
			log.Warn("upstream cannot be resolved, what is known of it stays", "error", found.err())
		}
	case after.absences > before.absences:
		r.metrics.absent.Add(1)
		if before.empty() && after.absences == 1 || !before.empty() && after.empty() {
			log.Warn("upstream has no address", "answers", after.absences)
		}
	default:
		r.metrics.found.Add(1)
		if before.failures > 0 || before.absences >= r.opts.Confirmations {
			log.Info("upstream is resolved again")
		}
	}
}

// choose returns the addresses to use, sorted. Of a name with addresses of both
// families, those of IPv6 are left out while this machine has no route there:
// they would only count as unhealthy instances.
func (r *Resolver) choose(known *held) []netip.Addr {
	addrs := slices.Clone(known.addrs[ipv4])
	for _, addr := range known.addrs[ipv6] {
		if len(known.addrs[ipv4]) == 0 || r.routable(addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// pause waits for d and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// jitter returns between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
