package gateway

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// claimUpstream waits for its answer as a transport does, until the exchange is
// cancelled or it is told to answer. It is no protocol: it makes the window of
// the race as wide as can be.
type claimUpstream struct {
	answers chan struct{}
}

type interruption chan struct{}

// Interrupt implements [exchange.Interrupter].
func (i interruption) Interrupt() {
	select {
	case i <- struct{}{}:
	default:
	}
}

func (u *claimUpstream) RoundTrip(x *exchange.Exchange) error {
	w := make(interruption, 1)
	if err := x.Await(w); err != nil {
		return &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultGateway, Wrote: true, Err: err}
	}
	select {
	case <-w:
		_ = x.Await(nil)
		return &exchange.Error{Phase: exchange.PhaseAwait, Fault: exchange.FaultGateway, Wrote: true, Err: x.Cause()}
	case <-u.answers:
		_ = x.Await(nil)
		x.Response.Status = 200
		return nil
	}
}

func (u *claimUpstream) Close() error { return nil }

// A cancellation for a lost zone must hit the exchange that waits, or none:
// never the next one that uses the same state. Requests answer and begin anew
// while all that wait are moved again and again; each must be answered 200, and
// none may end with a cancellation in it.
func TestMovingRacesWithAnswers(t *testing.T) {
	const workers, enough = 4, 5000
	upstream := &claimUpstream{answers: make(chan struct{})}
	g, prepare, _ := pipeline(t, func(c *Config, o *Options) {
		patient(t)(o)
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
		c.Releases = nil
		c.Services = nil
	})
	stop := make(chan struct{})
	var background, serving sync.WaitGroup
	background.Go(func() {
		for n := 0; ; n++ {
			for range n % 16 {
				runtime.Gosched() // so that moves come first, at times
			}
			select {
			case <-stop:
				return
			case upstream.answers <- struct{}{}:
			}
		}
	})
	background.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, lost := range []*zone{g.zone("az1"), g.zone("az2")} {
				g.waiting.move(exchange.ErrZoneLost, func(e *endpoint) bool { return e.zone.Load() == lost }, nil)
			}
			// What is claimed and given back goes on as if nothing had been.
			g.waiting.move(exchange.ErrUnreachable, func(*endpoint) bool { return true }, func(*call) bool { return false })
			runtime.Gosched()
		}
	})
	var moved, answered atomic.Int64
	deadline := time.Now().Add(20 * time.Second)
	for range workers {
		serving.Go(func() {
			x := &exchange.Exchange{Conn: &exchange.Conn{}}
			for (moved.Load() < enough || answered.Load() < enough) && time.Now().Before(deadline) {
				prepare(x)
				g.Serve(x)
				if x.Response.Status != 200 || x.Cause() != nil {
					t.Errorf("status %d, cause %v", x.Response.Status, x.Cause())
				}
				moved.Add(int64(x.State.(*call).retries))
				answered.Add(1)
				g.Done(x, nil)
				if c := x.State.(*call); c.awaits.Load() != nil {
					t.Error("still waits")
				}
			}
		})
	}
	serving.Wait()
	close(stop)
	background.Wait()
	if moved.Load() < enough {
		t.Errorf("only %d requests were moved: the race was not run", moved.Load())
	}
}

// claimed is a request that somebody has claimed while it waits, and where it
// waits.
func claimed(t *testing.T, upstream *claimUpstream) (c *call, at *endpoint, served chan struct{}) {
	t.Helper()
	g, prepare, x := pipeline(t, func(_ *Config, o *Options) {
		patient(t)(o)
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
	})
	prepare(x)
	served = make(chan struct{})
	c = g.newCall(x)
	go func() { g.Serve(x); close(served) }()
	eventually(t, "the request waits", func() bool { return c.awaits.Load() != nil })
	at = c.awaits.Load()
	if !c.awaits.CompareAndSwap(at, &g.waiting.claimed) {
		t.Fatal("not claimed")
	}
	return c, at, served
}

// The same race held still: whoever moves a request has claimed it, the answer
// comes, and only then comes the cancellation.
func TestAnswerWaitsForAClaim(t *testing.T) {
	upstream := &claimUpstream{answers: make(chan struct{})}
	c, first, served := claimed(t, upstream)
	g, x := c.g, c.x
	upstream.answers <- struct{}{}
	for range 1000 {
		runtime.Gosched()
	}
	if c.awaits.Load() != &g.waiting.claimed {
		t.Error("the request went on while it was claimed")
	}
	x.Cancel(exchange.ErrZoneLost)
	c.awaits.Store(nil)
	upstream.answers <- struct{}{} // of the second attempt
	<-served
	if x.Response.Status != 200 || x.Cause() != nil || c.retries != 1 || c.at.endpoint.Runtime == federation.Runtime(first) {
		t.Errorf("status %d, cause %v, %d retries", x.Response.Status, x.Cause(), c.retries)
	}
	g.Done(x, nil)
}

// Whoever has claimed a request may give it back: its answer is good.
func TestAnswerOutlivesAClaim(t *testing.T) {
	upstream := &claimUpstream{answers: make(chan struct{})}
	c, first, served := claimed(t, upstream)
	g, x := c.g, c.x
	upstream.answers <- struct{}{}
	for range 1000 {
		runtime.Gosched()
	}
	c.awaits.Store(first)
	select {
	case <-served:
	case upstream.answers <- struct{}{}: // of a second attempt
		<-served
	}
	if x.Response.Status != 200 || c.retries != 0 || c.awaits.Load() != nil {
		t.Errorf("status %d, %d retries, waits at %p", x.Response.Status, c.retries, c.awaits.Load())
	}
	g.Done(x, nil)
}

// A client that went before its request was moved stays gone.
func TestMovedTooLate(t *testing.T) {
	upstream := &claimUpstream{answers: make(chan struct{}, 1)}
	c, _, served := claimed(t, upstream)
	g, x := c.g, c.x
	x.Cancel(exchange.ErrClientGone)
	x.Cancel(exchange.ErrZoneLost)
	upstream.answers <- struct{}{} // for an attempt that must not be made
	c.awaits.Store(nil)
	<-served
	if x.Response.Status != 499 || c.retries != 0 {
		t.Errorf("status %d, %d retries", x.Response.Status, c.retries)
	}
	g.Done(x, nil)
}

// States of exchanges that are gone are not kept.
func TestWaitingForgetsTheDead(t *testing.T) {
	g, prepare, _ := pipeline(t, nil)
	for range 5000 {
		x := &exchange.Exchange{Conn: &exchange.Conn{}}
		prepare(x)
		g.Serve(x)
		g.Done(x, nil)
		if len(g.waiting.calls)%1000 == 999 {
			runtime.GC()
		}
	}
	if n := len(g.waiting.calls); n > 3000 {
		t.Errorf("%d states are listed", n)
	}
}
