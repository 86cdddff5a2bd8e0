package consul

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
)

// An agent that hangs takes a registration in once it goes on, whatever has
// become of who sent it. An edge that ends meanwhile leaves nothing behind.
func TestNothingIsLeftByAnAgentThatHangs(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, 1, consultest.Options{})
	client := cluster.Client(0)
	for _, edge := range []string{"a", "b", "c"} { // the order that the agent takes is chance
		cluster.Freeze(0)
		e := start(t, Options{Address: cluster.Address(0), Edge: edge, Entry: entryOf(edge, failover.Primary)})
		until(t, "the registration is under way", func() bool { return e.counters.registrations.Load() > 0 })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			e.stop()
		}()
		select {
		case <-ended: // it did not wait
		case <-time.After(leaveTimeout + time.Second):
		}
		cluster.Thaw(0)
		<-ended
		// One that comes later has its turn after what came before.
		later := start(t, Options{Address: cluster.Address(0), Edge: "later", Entry: entryOf("later", failover.Primary)})
		later.sees("later", 50, false)
		later.missing(edge)
		later.stop()
		if local, err := client.Agent().Services(); err != nil || local[serviceID(defaultService, edge)] != nil {
			t.Errorf("of %s the agent still holds %+v, %v", edge, local, err)
		}
	}
}

// An edge tells an agent that refuses, or that may yet take what it did not
// answer, once more that its entry is to go.
func TestLeavingIsSaidAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		unanswered bool
		refusals   int64
		least      int64
	}{
		"taken":      {least: 1},
		"refused":    {refusals: 2, least: 3},
		"unanswered": {unanswered: true, least: 2},
	} {
		var said atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/deregister/") {
				t.Errorf("%s: it was asked %s", name, r.URL)
			}
			if said.Add(1) <= c.refusals {
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
			}
		}))
		t.Cleanup(server.Close)
		p, err := New(Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary)})
		if err != nil {
			t.Fatal(err)
		}
		p.unanswered = c.unanswered
		p.leave(t.Context())
		p.transport.CloseIdleConnections()
		if got := said.Load(); got < c.least || !c.unanswered && got != c.least {
			t.Errorf("%s: said %d times, want %d", name, got, c.least)
		}
	}
}
