// Package consul publishes one edge's entry in Consul and reads those of all
// edges.
//
// An edge writes its own entry and no other, through the agent beside it, so an
// edge that is cut off cannot demote the rest. What it reads counts only as far
// as a leader has just proven itself: an agent without one still answers, but
// from the past.
package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
)

// LeaderFor is how long a view counts after a leader confirmed it. In peace
// one is confirmed every half second and is at most some 1.1 s old, so this
// leaves time for an election among servers with raft_multiplier 1.
const LeaderFor = 3 * time.Second

var errStarted = errors.New("consul publisher was run before")

// View is what a Consul leader says of all edges. It is not changed after it
// was given out.
type View struct {
	// Entries are those of all edges, this one's too, by edge id. What could
	// not be read is left out.
	Entries []Reported
	// Confirmed is when the question was asked that a leader answered with
	// this, so the view is that old at most; zero: never. It carries Go's
	// monotonic clock: [time.Since] tells its age whatever becomes of the
	// wall clock.
	Confirmed time.Time
}

// Reported is one edge's entry as Consul holds it.
type Reported struct {
	failover.Entry
	// Passing says that Consul's DNS would give it out: the edge holds itself
	// in, its HTTP check and its node's are not critical.
	Passing bool
}

// Status is how the publishing goes, for people.
type Status struct {
	// Registered says that the agent took the entry and answered since.
	Registered bool
	// Leader says that one confirmed the view within [LeaderFor].
	Leader bool
	// Confirmed is [View].Confirmed of the last view.
	Confirmed time.Time
	// Error is what keeps it from being registered or from reading, or "".
	Error string
}

// Publisher keeps one edge's entry in Consul. Its methods are safe for
// concurrent use.
type Publisher struct {
	opts      Options
	id        string // of the service, and the beginning of its checks' ids
	token     *token
	transport *http.Transport
	client    *api.Client
	counters  counters

	started  atomic.Bool
	decision atomic.Pointer[failover.Decision]
	// changed wakes the keeper: there is another decision, or the entry must
	// be put right.
	changed chan struct{}
	// wrong says that Consul holds another entry than was published.
	wrong atomic.Bool
	// published is what the agent took last; nil while it is not known to
	// hold any.
	published atomic.Pointer[publication]

	// cleared says that checks of an earlier life, of other options, are gone.
	// Later ones are the operator's, as maintenance is, and stay. It belongs
	// to the goroutine of Run, as unanswered does: the agent may take the last
	// registration yet.
	cleared, unanswered bool

	mu       sync.Mutex
	view     View  // guarded by mu
	keepErr  error // guarded by mu
	watchErr error // guarded by mu
}

// publication is what the agent holds of this edge.
type publication struct {
	in      bool
	weight  int
	token   string    // that it was registered with
	changed time.Time // when it became that
}

// New returns a publisher that does nothing before it is run. It reads the
// files of the options and fails when they cannot be used; Consul need not be
// there.
func New(opts Options) (*Publisher, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	sent, err := newToken(opts.TokenFile, opts.Log)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	transport, client, err := opts.connect(sent)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		opts:      opts,
		id:        serviceID(opts.Service, opts.Edge),
		token:     sent,
		transport: transport,
		client:    client,
		changed:   make(chan struct{}, 1),
	}
	p.decision.Store(&failover.Decision{Weight: opts.Entry.Weight})
	if err := newMetrics(opts.Registerer, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Set has the entry be what d says, soon; of several, the latest counts. It
// never blocks. A weight outside 1 to [failover.MaxWeight] is brought into it.
// Before the first, the entry is out.
func (p *Publisher) Set(d failover.Decision) {
	d.Weight = min(max(d.Weight, 1), failover.MaxWeight)
	if old := p.decision.Swap(&d); *old != d {
		p.wake()
	}
}

func (p *Publisher) wake() {
	select {
	case p.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// Status returns how it goes now.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Registered: p.published.Load() != nil,
		Leader:     p.confirmedLocked(),
		Confirmed:  p.view.Confirmed,
	}
	var texts []string
	for _, err := range []error{p.keepErr, p.watchErr} {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	s.Error = strings.Join(texts, "; ")
	return s
}

func (p *Publisher) confirmedLocked() bool {
	return !p.view.Confirmed.IsZero() && time.Since(p.view.Confirmed) <= LeaderFor
}

// Run registers the entry, keeps it as [Publisher.Set] says and watches those
// of all edges until ctx ends; then it removes its own, for at most two
// seconds, and returns nil. A registration that is under way then is waited for
// before, for up to ten seconds: the agent takes it in whether anybody waits or
// not. Consul being away is no error: it is tried for ever, at most two seconds
// apart, and what it lost is registered again. Run can be called once.
func (p *Publisher) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errStarted
	}
	defer p.transport.CloseIdleConnections()
	var wg sync.WaitGroup
	wg.Go(func() { p.watch(ctx) })
	p.keep(ctx)
	wg.Wait()
	p.leave(context.WithoutCancel(ctx))
	return nil
}
