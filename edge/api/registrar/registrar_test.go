package registrar_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/api/registrar"
	"github.com/grayfed/grayfed/federation"
)

// running is a registrar under way.
type running struct {
	*registrar.Registrar
	t    *testing.T
	stop context.CancelFunc
	done chan error
	log  *logLines
}

// logLines is a log that a test can wait for.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

func start(t *testing.T, edges []string) *running {
	t.Helper()
	log := &logLines{}
	ttl := federation.Duration(time.Second) // the shortest: heartbeats three times a second
	r, err := registrar.New(registrar.Options{
		Key:          key,
		Registration: api.Registration{Zone: "az1", Address: "127.0.0.1:8080", Version: "v1", TTL: &ttl},
		Edges:        edges,
		Log:          slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Registrar: r, t: t, stop: cancel, done: make(chan error, 1), log: log}
	go func() { run.done <- r.Run(ctx) }()
	t.Cleanup(func() { run.end() })
	return run
}

// end stops Run and takes the instance out.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = r.Deregister(ctx) // where no edge lives any more it fails
}

func (r *running) logged(words string) {
	r.t.Helper()
	r.loggedTimes(words, 1)
}

func (r *running) loggedTimes(words string, times int) {
	r.t.Helper()
	late := time.After(deadline)
	for r.log.count(words) < times {
		select {
		case <-late:
			r.t.Fatalf("logged %q %d times, want %d", words, r.log.count(words), times)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestRegistersBeatsAndDeregisters(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 2)
	r := start(t, f.urls())
	f.await(0, "edge 0 PUT", "edge 0 POST/heartbeat", "edge 0 POST/heartbeat")
	i, ok := f.instance()
	if !ok || i.Zone != "az1" || i.Address != "127.0.0.1:8080" || i.Version != "v1" {
		t.Errorf("registered %+v, %v", i, ok)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, ok := f.instance(); !ok {
		t.Error("Run's end took the instance out")
	}
	if err := r.Deregister(context.Background()); err != nil {
		t.Errorf("Deregister: %v", err)
	}
	if _, ok := f.instance(); ok {
		t.Error("it is still registered")
	}
	f.edit(func() {
		if slices.ContainsFunc(f.calls, func(call string) bool { return strings.HasPrefix(call, "edge 1") }) {
			t.Errorf("the farther edge was asked though the nearest lives: %v", f.calls)
		}
	})
}

func TestMovesOnWhenAnEdgeDies(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 3)
	r := start(t, f.urls())
	seen := f.await(0, "edge 0 POST/heartbeat")
	f.kill(0)
	seen = f.await(seen, "edge 1 POST/heartbeat", "edge 1 POST/heartbeat")
	f.kill(1)
	f.await(seen, "edge 2 POST/heartbeat")
	f.edit(func() {
		for _, call := range f.calls[1:] {
			if strings.HasSuffix(call, "PUT") {
				t.Errorf("it registered anew though no edge forgot it: %v", f.calls)
			}
		}
	})
	r.loggedTimes("heartbeats go to another", 2)
	f.await(seen, "edge 2 POST/heartbeat", "edge 2 POST/heartbeat")
	if n := r.log.count("heartbeats go to another"); n != 2 {
		t.Errorf("two moves were logged %d times", n)
	}
	r.end()
	if _, ok := f.instance(); ok {
		t.Error("it could not deregister at the last edge")
	}
}

// TestStartsBeforeItsEdges: instances and edges start in any order.
func TestStartsBeforeItsEdges(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 2)
	f.kill(0)
	start(t, f.urls())
	f.await(0, "edge 1 PUT", "edge 1 POST/heartbeat")

	late := newFederated(t, 1)
	late.edit(func() {
		late.refuse = &api.Problem{Type: api.ProblemUnavailable, Title: "Service Unavailable", Status: http.StatusServiceUnavailable}
	})
	r := start(t, late.urls())
	r.logged("no edge takes the instance")
	late.edit(func() { late.refuse = nil })
	late.await(0, "edge 0 PUT", "edge 0 POST/heartbeat")
	if n := r.log.count("no edge takes the instance"); n != 1 {
		t.Errorf("one trouble was logged %d times", n)
	}
}

func TestRegistersAnewWhenForgotten(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 1)
	start(t, f.urls())
	seen := f.await(0, "edge 0 PUT", "edge 0 POST/heartbeat")
	f.forget()
	f.await(seen, "edge 0 POST/heartbeat", "edge 0 PUT", "edge 0 POST/heartbeat")
	if _, ok := f.instance(); !ok {
		t.Error("it is not registered")
	}
}

func TestWaitsForAnIDThatIsTaken(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 2)
	f.edit(func() {
		f.refuse = &api.Problem{Type: api.ProblemOwned, Title: "Conflict", Status: http.StatusConflict, Owner: "az9-edge"}
	})
	r := start(t, f.urls())
	f.await(0, "edge 0 PUT", "edge 0 PUT")
	r.logged("another instance has this id")
	f.edit(func() { f.refuse = nil })
	f.await(0, "edge 0 PUT", "edge 0 PUT", "edge 0 POST/heartbeat")
	if n := r.log.count("another instance has this id"); n != 1 {
		t.Errorf("one trouble was logged %d times", n)
	}
}

// TestRefusals: what an edge refuses at first will not get better; what it
// refuses later must not end a program that serves.
func TestRefusals(t *testing.T) {
	t.Parallel()
	wrong := &api.Problem{
		Type: api.ProblemFields, Title: "Unprocessable Entity", Status: http.StatusUnprocessableEntity,
		Errors: federation.FieldErrors{{Field: "address", Found: `"8.8.8.8:80"`, Allowed: "an address in 10.0.0.0/8"}},
	}
	f := newFederated(t, 2)
	f.edit(func() { f.refuse = wrong })
	r := start(t, f.urls())
	err := <-r.done
	if problem, ok := errors.AsType[*api.Problem](err); !ok || !strings.Contains(err.Error(), "users/u1") || problem.Errors[0].Field != "address" {
		t.Errorf("Run: %v", err)
	}

	f = newFederated(t, 1)
	r = start(t, f.urls())
	f.await(0, "edge 0 POST/heartbeat")
	f.edit(func() {
		f.refuse = &api.Problem{Type: api.ProblemToken, Title: "Unauthorized", Status: http.StatusUnauthorized}
	})
	r.logged("edge refuses the instance")
	seen := f.await(0, "edge 0 POST/heartbeat", "edge 0 POST/heartbeat")
	f.edit(func() { f.refuse = nil })
	f.await(seen, "edge 0 POST/heartbeat")
	r.logged("edge takes the instance again")
}

func TestDrainsAndStaysDrained(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 2)
	r := start(t, f.urls())
	f.await(0, "edge 0 POST/heartbeat")
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i, ok := f.instance(); !ok || !i.Draining {
		t.Fatalf("after the drain it is %+v, %v", i, ok)
	}
	// Heartbeats go on, and the edge that forgets it is not told anew.
	seen := f.await(0, "edge 0 POST/drain", "edge 0 POST/heartbeat")

	f.edit(func() { f.instances["u1"].InFlight = 2 })
	idle := make(chan error, 1)
	go func() { idle <- r.AwaitIdle(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.AwaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("idle with two requests in flight: %v", err)
	}
	f.edit(func() { f.instances["u1"].InFlight = 0 })
	if err := <-idle; err != nil {
		t.Error(err)
	}

	f.forget()
	f.await(seen, "edge 0 POST/heartbeat")
	// Two heartbeats' time in which it could come back.
	select {
	case err := <-r.done:
		t.Fatalf("Run: %v", err)
	case <-time.After(700 * time.Millisecond):
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	f.edit(func() {
		if slices.Contains(f.calls[seen:], "edge 0 PUT") {
			t.Errorf("it came back: %v", f.calls)
		}
	})
	if err := r.Deregister(t.Context()); err != nil {
		t.Errorf("deregistering what is gone: %v", err)
	}
}

// TestIdleNeedsAnAnswer: that no edge answers does not say that none sends.
func TestIdleNeedsAnAnswer(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 1)
	r := start(t, f.urls())
	f.await(0, "edge 0 PUT")
	f.kill(0)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.AwaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without an edge: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("drain without an edge: %v", err)
	}
}

func TestNothingToDoWithoutARegistration(t *testing.T) {
	t.Parallel()
	f := newFederated(t, 1)
	f.kill(0)
	r := start(t, f.urls())
	r.logged("no edge takes the instance")
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("drain after the end: %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	ttl := func(d time.Duration) *federation.Duration { return (*federation.Duration)(&d) }
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		opts registrar.Options
		says string
	}{
		"no edge":       {registrar.Options{Log: log}, "no edge"},
		"no log":        {registrar.Options{Edges: []string{"http://127.0.0.1:1"}}, "no log"},
		"no heartbeats": {registrar.Options{Log: log, Edges: []string{"http://127.0.0.1:1"}, Registration: api.Registration{TTL: ttl(0)}}, "ttl is 0s"},
		"ill-formed":    {registrar.Options{Log: log, Edges: []string{"127.0.0.1:1"}}, "127.0.0.1:1"},
		"well":          {registrar.Options{Log: log, Edges: []string{"http://127.0.0.1:1"}}, ""},
	} {
		_, err := registrar.New(c.opts)
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
