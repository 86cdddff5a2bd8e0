package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeFederation is edges that serve what was registered: edge number n once it
// was asked n times in vain.
type fakeFederation struct {
	lock       sync.Mutex
	registered map[string]bool
	asked      map[string]int
	refuse     string // a service whose registration is refused
	deaf       string // a service that the last edge never serves
}

func newFakeFederation() *fakeFederation {
	return &fakeFederation{registered: make(map[string]bool), asked: make(map[string]int)}
}

func (f *fakeFederation) api(w http.ResponseWriter, r *http.Request) {
	f.lock.Lock()
	defer f.lock.Unlock()
	service := r.PathValue("service")
	if service == f.refuse {
		http.Error(w, "address: not allowed", http.StatusUnprocessableEntity)
		return
	}
	f.registered[service] = true
}

func (f *fakeFederation) edge(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.lock.Lock()
		defer f.lock.Unlock()
		service, _, _ := strings.Cut(r.URL.Path[1:], "/")
		key := askKey(n, service)
		deaf := n == 2 && service == f.deaf
		if f.registered[service] {
			f.asked[key]++
		}
		if f.asked[key] <= n || deaf {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("X-Origin", stableRelease)
	}
}

func askKey(edge int, service string) string { return strconv.Itoa(edge) + service }

// asks counts the requests for a registered service.
func (f *fakeFederation) asks(edge int, service string) int {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.asked[askKey(edge, service)]
}

// rig is a bench whose federation is fake, and a poller of each edge.
func (f *fakeFederation) rig(t *testing.T, count int) (*bench, *registrar, []*poller, []*enrolment) {
	t.Helper()
	address := func(h http.Handler) netip.AddrPort {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return netip.MustParseAddrPort(server.Listener.Addr().String())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/services/{service}/instances/{id}", f.api)
	b := &bench{settings: settings{RegistrationRate: 1000}, progress: &bytes.Buffer{}, stable: &backend{}}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	pollers := make([]*poller, 3)
	for n := range pollers {
		pollers[n] = newPoller(n, &wire{to: address(f.edge(n)), limit: callTimeout}, count)
	}
	list := make([]*enrolment, count)
	for n := range list {
		list[n] = newEnrolment(n, len(pollers))
	}
	return b, &registrar{admin: address(mux), client: client}, pollers, list
}

func TestEnrolmentsAreSeenAtEachEdge(t *testing.T) {
	f := newFakeFederation()
	b, reg, pollers, list := f.rig(t, 20)
	for _, p := range pollers {
		if err := p.absent(list[3]); err != nil {
			t.Error(err)
		}
	}
	if err := b.enrol(context.Background(), reg, place{Zone: "az1"}, list, pollers); err != nil {
		t.Fatal(err)
	}
	for n, e := range list {
		if e.err != nil || e.answered <= 0 {
			t.Errorf("registration %d: %v after %v", n, e.err, e.answered)
		}
		for edge, d := range e.seen {
			// Edge 2 refused twice, and the poller paused behind each.
			if d <= 0 || d < time.Duration(edge)*pollPause {
				t.Errorf("registration %d: edge %d after %v", n, edge, d)
			}
		}
	}
	if got := f.asks(2, "s7"); got != 3 {
		t.Errorf("an edge was asked %d times for a service, want 3: until it serves and no more", got)
	}
	for n, p := range pollers {
		if text := p.oddities(); text != "" {
			t.Errorf("poller %d: %s", n, text)
		}
	}
	if err := pollers[0].absent(list[3]); err == nil {
		t.Error("a service that is served counts as absent")
	}
}

func TestRefusedRegistrationIsKept(t *testing.T) {
	f := newFakeFederation()
	f.refuse = "s1"
	b, reg, pollers, list := f.rig(t, 2)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.enrol(ctx, reg, place{Zone: "az1"}, list, pollers) }()
	// Nobody serves s1; who waits for it is told to stop.
	for f.asks(2, "s0") < 3 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if list[1].err == nil || list[1].seen[0] != 0 {
		t.Errorf("a refused registration: %v, seen %v", list[1].err, list[1].seen)
	}
}

// What an edge never serves is given up, and told from what it does serve.
func TestUnservedRegistrationIsGivenUp(t *testing.T) {
	f := newFakeFederation()
	f.deaf = "s0"
	_, _, pollers, list := f.rig(t, 2)
	p := pollers[2]
	f.registered["s0"], f.registered["s1"] = true, true
	list[0].sent, list[1].sent = time.Now().Add(-registerLimit), time.Now()
	p.waitFor <- list[0]
	p.waitFor <- list[1]
	close(p.waitFor)
	p.run(context.Background())
	if list[0].seen[2] != 0 || list[1].seen[2] == 0 {
		t.Errorf("seen after %v and %v", list[0].seen, list[1].seen)
	}
	if got := f.asks(2, "s0"); got != 1 {
		t.Errorf("asked %d times after its time, want once", got)
	}
}

func TestOddAnswersAreTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	p := newPoller(0, &wire{to: netip.MustParseAddrPort(server.Listener.Addr().String()), limit: callTimeout}, 1)
	e := newEnrolment(0, 1)
	for range 2 {
		if p.poll(e) {
			t.Error("502 counts as served")
		}
	}
	server.Close()
	if p.poll(e) {
		t.Error("no answer counts as served")
	}
	if got, want := p.oddities(), "502 2 times, nothing 1 times"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
