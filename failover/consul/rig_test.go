package consul

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
)

// settle bounds what a test waits for.
const settle = 30 * time.Second

// entryOf is what edge publishes in these tests.
func entryOf(edge string, role failover.Role) failover.Entry {
	return failover.Entry{
		Edge: edge, Zone: "az1", Role: role, Port: 8081, Weight: 50,
		Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")},
	}
}

// running is a publisher that runs.
type running struct {
	*Publisher
	t    *testing.T
	last atomic.Pointer[View]
	stop func() // ends it and waits; may be called twice
}

// start runs a publisher until stopped or the end of the test.
func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t}
	r.last.Store(&View{})
	o.OnView = func(v View) { r.last.Store(&v) }
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Publisher = p
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var stopped atomic.Bool
	r.stop = func() {
		cancel()
		if stopped.Swap(true) {
			return
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(settle):
			t.Errorf("Run did not end")
		}
	}
	t.Cleanup(r.stop)
	return r
}

// until waits for what must become true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(settle); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after %s", what, settle)
		}
	}
}

// sees waits until the view has edge so.
func (r *running) sees(edge string, weight int, passing bool) Reported {
	r.t.Helper()
	var found Reported
	until(r.t, fmt.Sprintf("%s sees %s with weight %d, passing %v", r.opts.Edge, edge, weight, passing), func() bool {
		at := slices.IndexFunc(r.last.Load().Entries, func(e Reported) bool { return e.Edge == edge })
		if at < 0 {
			return false
		}
		found = r.last.Load().Entries[at]
		return found.Weight == weight && found.Passing == passing
	})
	return found
}

// missing waits until the view is without edge.
func (r *running) missing(edge string) {
	r.t.Helper()
	until(r.t, r.opts.Edge+" sees no "+edge, func() bool {
		v := r.last.Load()
		return !v.Confirmed.IsZero() && !slices.ContainsFunc(v.Entries, func(e Reported) bool { return e.Edge == edge })
	})
}

// confirmed waits for a view that a leader confirmed after now.
func (r *running) confirmed() {
	r.t.Helper()
	now := time.Now()
	until(r.t, "a leader confirms what "+r.opts.Edge+" sees", func() bool { return r.last.Load().Confirmed.After(now) })
}

// service returns what a leader holds under that id, or nil.
func service(t *testing.T, c *api.Client, id string) *api.ServiceEntry {
	t.Helper()
	found, _, err := c.Health().Service(defaultService, "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Service.ID == id {
			return f
		}
	}
	return nil
}
