// Package registrar keeps one instance registered with the federation: it
// registers it, sends its heartbeats, moves on to another edge when one dies,
// and takes it out in the end. It is what a program does beside serving.
package registrar

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

const (
	// beatsPerTTL leaves room for two lost heartbeats.
	beatsPerTTL = 3
	// firstRetry is the pause after all edges failed; it doubles up to the
	// pause between two heartbeats.
	firstRetry = 200 * time.Millisecond
	// idlePoll is between two looks at what is in flight.
	idlePoll = 100 * time.Millisecond
)

// Registrar keeps one instance registered. Its methods are safe for concurrent
// use.
type Registrar struct {
	opts   Options
	edges  []*api.Client
	drains chan drainRequest
	ended  chan struct{} // closed when Run returns

	// What follows belongs to the goroutine of Run, and to Deregister after it.
	current    int  // index of the edge that answered last
	asked      bool // a registration was sent: it may stand even if no answer came
	accepted   bool // the instance was registered once: what it says of itself is right
	registered bool
	leaving    bool // it drains and shall not come back
	trouble    trouble
	retry      time.Duration
}

type drainRequest struct {
	ctx  context.Context
	done chan error // 1-buffered
}

// New checks the options; it neither connects nor starts anything.
func New(opts Options) (*Registrar, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	r := &Registrar{
		opts:   opts,
		edges:  make([]*api.Client, len(opts.Edges)),
		drains: make(chan drainRequest),
		ended:  make(chan struct{}),
		retry:  firstRetry,
	}
	for n, url := range opts.Edges {
		client, err := api.NewClient(api.ClientOptions{
			URL: url, Token: opts.Token, TLS: opts.TLS, Timeout: opts.callTimeout(),
		})
		if err != nil {
			return nil, err
		}
		r.edges[n] = client
	}
	return r, nil
}

// Run registers the instance and keeps it registered until ctx ends; it leaves
// it registered then. An edge that does not answer is left for the next one.
// An edge that forgot the instance is told anew. Where no edge takes it, Run
// goes on trying; only a first registration that an edge refuses for what it
// says, or for its token, is an error. Run is called once.
func (r *Registrar) Run(ctx context.Context) error {
	defer close(r.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case request := <-r.drains:
			r.leaving = true
			request.done <- r.drain(request.ctx)
		case <-timer.C:
			pause, err := r.keep(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			timer.Reset(pause)
		}
	}
}

// Drain tells the edges to send the instance nothing new. It stays registered
// and its heartbeats go on. An instance that is not registered will not be.
func (r *Registrar) Drain(ctx context.Context) error {
	request := drainRequest{ctx: ctx, done: make(chan error, 1)}
	select {
	case r.drains <- request:
		return <-request.done
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain %s: %w", r.opts.Key, ctx.Err())
	}
}

// AwaitIdle waits, after [Registrar.Drain], until all edges that answer know of
// the drain and have no request at the instance any more.
func (r *Registrar) AwaitIdle(ctx context.Context) error {
	ticker := time.NewTicker(idlePoll)
	defer ticker.Stop()
	for !r.idle(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s has no request any more: %w", r.opts.Key, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

func (r *Registrar) idle(ctx context.Context) bool {
	answered := false
	for _, edge := range r.edges {
		list, err := edge.Instances(ctx, r.opts.Key.Service)
		if err != nil {
			continue // an edge that is gone sends nothing
		}
		answered = true
		for _, i := range list.Instances {
			if i.ID == r.opts.Key.ID && (!i.Draining || i.InFlight > 0) {
				return false
			}
		}
	}
	return answered
}

// Deregister takes the instance out. It waits for Run to have returned, which
// would register it anew.
func (r *Registrar) Deregister(ctx context.Context) error {
	select {
	case <-r.ended:
	case <-ctx.Done():
		return fmt.Errorf("deregister %s: %w", r.opts.Key, ctx.Err())
	}
	defer func() {
		for _, edge := range r.edges {
			edge.Close()
		}
	}()
	if !r.asked {
		return nil
	}
	return r.atAnyEdge("deregister", func(edge *api.Client) error {
		return edge.Deregister(ctx, r.opts.Key, api.WriteOptions{})
	})
}

func (r *Registrar) drain(ctx context.Context) error {
	if !r.asked {
		return nil
	}
	return r.atAnyEdge("drain", func(edge *api.Client) error {
		_, err := edge.Drain(ctx, r.opts.Key, api.WriteOptions{})
		return err
	})
}

// atAnyEdge tries the edges in order. That the instance is not there is what
// was wanted.
func (r *Registrar) atAnyEdge(what string, call func(*api.Client) error) error {
	var errs []error
	for n := range r.edges {
		err := call(r.edges[(r.current+n)%len(r.edges)])
		if err == nil || status(err) == http.StatusNotFound {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%s %s: %w", what, r.opts.Key, errors.Join(errs...))
}

// keep sends one sign of life to the first edge that takes it, and returns when
// the next is due.
func (r *Registrar) keep(ctx context.Context) (time.Duration, error) {
	if r.leaving && !r.registered {
		return r.beat(), nil
	}
	var errs []error
	for n := range r.edges {
		at := (r.current + n) % len(r.edges)
		err := r.tell(ctx, r.edges[at])
		if err == nil {
			r.succeeded(at)
			return r.beat(), nil
		}
		if ctx.Err() != nil {
			return 0, err
		}
		errs = append(errs, err)
		if kind := troubleOf(err); kind != noEdge {
			if kind == refused && !r.accepted {
				return 0, fmt.Errorf("register %s: %w", r.opts.Key, err)
			}
			break // the others would say the same
		}
	}
	r.failed(errors.Join(errs...))
	pause := jitter(r.retry)
	r.retry = min(2*r.retry, r.beat())
	return pause, nil
}

// tell sends a heartbeat, or a registration where the edge has none.
func (r *Registrar) tell(ctx context.Context, edge *api.Client) error {
	if r.registered {
		err := edge.Heartbeat(ctx, r.opts.Key)
		if status(err) != http.StatusNotFound {
			return err
		}
		r.registered = false
		if r.leaving {
			return nil
		}
		r.opts.Log.Warn("edge does not know the instance any more; it is registered anew", "edge", edge.URL(), "instance", r.opts.Key)
	}
	r.asked = true
	if _, err := edge.Register(ctx, r.opts.Key, r.opts.Registration, api.WriteOptions{}); err != nil {
		return err
	}
	r.registered, r.accepted, r.trouble = true, true, noTrouble
	r.opts.Log.Info("instance is registered", "edge", edge.URL(), "instance", r.opts.Key, "address", r.opts.Registration.Address)
	return nil
}

func (r *Registrar) succeeded(at int) {
	if at != r.current {
		r.opts.Log.Warn("edge does not answer; heartbeats go to another",
			"edge", r.edges[r.current].URL(), "other", r.edges[at].URL(), "instance", r.opts.Key)
	} else if r.trouble != noTrouble {
		r.opts.Log.Info("edge takes the instance again", "edge", r.edges[at].URL(), "instance", r.opts.Key)
	}
	r.current, r.trouble, r.retry = at, noTrouble, firstRetry
}

// failed says what is wrong once for each kind of it.
func (r *Registrar) failed(err error) {
	kind := troubleOf(err)
	if kind == r.trouble {
		return
	}
	r.trouble = kind
	switch kind {
	case owned:
		r.opts.Log.Warn("another instance has this id at another edge; trying again until it is gone", "instance", r.opts.Key, "error", err)
	case refused:
		r.opts.Log.Error("edge refuses the instance; trying again", "instance", r.opts.Key, "error", err)
	default:
		r.opts.Log.Warn("no edge takes the instance; trying again", "instance", r.opts.Key, "error", err)
	}
}

// beat is the pause between two heartbeats.
func (r *Registrar) beat() time.Duration { return jitter(r.opts.ttl() / beatsPerTTL) }

// jitter shortens a pause by up to a tenth, so that instances that started
// together do not stay in step.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/10+1))
}
