package admin

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

func TestEventsRing(t *testing.T) {
	e := newEvents(4)
	if events, place, _ := e.after(0, 10); len(events) != 0 || place != 0 {
		t.Errorf("of nothing: %v, %d", events, place)
	}
	_, _, news := e.after(0, 10)
	for n := 1; n <= 3; n++ {
		e.Publish(api.Event{Type: api.EventEdge, Detail: fmt.Sprint(n)})
	}
	select {
	case <-news:
	default:
		t.Error("nobody was told the news")
	}
	details := func(events []api.Event) (text string) {
		for _, event := range events {
			if event.Type == api.EventMissed {
				text += "missed "
				continue
			}
			text += event.Detail + " "
		}
		return text
	}
	for _, c := range []struct {
		publish int
		from    uint64
		most    int
		want    string
		place   uint64
	}{
		{0, 0, 10, "1 2 3 ", 3},
		{0, 0, 2, "1 2 ", 2},
		{0, 2, 10, "3 ", 3},
		{0, 3, 10, "", 3},
		{1, 0, 10, "1 2 3 4 ", 4},
		{1, 1, 10, "2 3 4 5 ", 5}, // the oldest that is kept
		{0, 0, 10, "missed 2 3 4 5 ", 5},
		{0, 0, 3, "missed 2 3 ", 3},
		{4, 1, 10, "missed 6 7 8 9 ", 9},
	} {
		for range c.publish {
			e.Publish(api.Event{Type: api.EventEdge, Detail: fmt.Sprint(e.last() + 1)})
		}
		events, place, _ := e.after(c.from, c.most)
		if got := details(events); got != c.want || place != c.place {
			t.Errorf("after %d, at most %d: %q, place %d; want %q, %d", c.from, c.most, got, place, c.want, c.place)
		}
		// Going on after each event's id leads to the next one.
		for n := range events {
			resumed, ok := e.resume(events[n].ID)
			if next, _, _ := e.after(resumed, 1); !ok || n+1 < len(events) && details(next) != details(events[n+1:n+2]) {
				t.Errorf("after %s comes %v, ok %v", events[n].ID, next, ok)
			}
		}
	}
	if got := e.missed.Load(); got != 1+1+4 {
		t.Errorf("%d missed events are counted", got)
	}
	for _, id := range []string{"", "1", "-1", "x-1", e.run + "-", e.run + "-x", e.run + "--1", e.id(10), newEvents(4).run + "-0"} {
		if _, ok := e.resume(id); ok {
			t.Errorf("going on after %q", id)
		}
	}
}

// TestEventsAreStreamed with the Go client: those from now on, then after a
// known one.
func TestEventsAreStreamed(t *testing.T) {
	r := newRig(t, nil)
	r.events.Publish(api.Event{Type: api.EventEdge, Edge: "before"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan api.Event)
	ended := make(chan error, 1)
	go func() {
		var err error
		for event, failed := range r.client().Events(ctx, "") {
			if err = failed; err == nil {
				got <- event
			}
		}
		ended <- err
	}()
	eventually(t, func() error {
		if n := r.events.readers.Load(); n != 1 {
			return fmt.Errorf("%d readers", n)
		}
		return nil
	})
	// The reader's place is taken after it was counted: repeat until it hears.
	var first api.Event
	eventually(t, func() error {
		r.events.Publish(api.Event{Type: api.EventInstanceAdopted, Service: "s", Instance: "i", Owner: "az2-edge", Previous: "az1-edge"})
		select {
		case first = <-got:
			return nil
		case <-time.After(10 * time.Millisecond):
			return fmt.Errorf("no event")
		}
	})
	if first.Type != api.EventInstanceAdopted || first.Owner != "az2-edge" || first.Previous != "az1-edge" || first.ID == "" || first.Time.IsZero() {
		t.Errorf("first event %+v", first)
	}
	cancel()
	for {
		select {
		case <-got: // more of the same
			continue
		case err := <-ended:
			if err != nil {
				t.Errorf("the reader's own end is an error: %v", err)
			}
		}
		break
	}
	eventually(t, func() error {
		if n := r.events.readers.Load(); n != 0 {
			return fmt.Errorf("%d readers after the last has left", n)
		}
		return nil
	})

	second := api.Event{Type: api.EventDocumentsApplied, Detail: "line one\nline two"}
	r.events.Publish(second)
	last := r.events.last()
	for event, err := range r.client().Events(t.Context(), r.events.id(last-1)) {
		if err != nil || event.Type != second.Type || event.Detail != second.Detail || event.ID != r.events.id(last) {
			t.Errorf("after the one before: %+v, %v", event, err)
		}
		break
	}
}

// TestMissedEventsAreTold to a reader that comes back too late, or to another
// run of the edge.
func TestMissedEventsAreTold(t *testing.T) {
	r := newRig(t, nil) // keeps 8
	for range 20 {
		r.events.Publish(api.Event{Type: api.EventEdge})
	}
	for after, want := range map[string][]api.EventType{
		r.events.id(5):  {api.EventMissed, api.EventEdge},
		r.events.id(12): {api.EventEdge, api.EventEdge},
		"otherrun-20":   {api.EventMissed},
		"nonsense":      {api.EventMissed},
	} {
		var types []api.EventType
		for event, err := range r.client().Events(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			types = append(types, event.Type)
			if event.Type == api.EventMissed && event.Detail == "" {
				t.Errorf("after %s: missed without a word", after)
			}
			if len(types) == len(want) {
				break
			}
		}
		if fmt.Sprint(types) != fmt.Sprint(want) {
			t.Errorf("after %s: %v, want %v", after, types, want)
		}
	}
}

// TestEventsOutliveTimeouts: comments go over a silent stream for longer than
// the server's timeouts of requests, and it ends with the server.
func TestEventsOutliveTimeouts(t *testing.T) {
	r := newRig(t, nil)
	r.restart(func(s *Server) {
		s.timeouts.read, s.timeouts.write, s.keepAlive = 100*time.Millisecond, 100*time.Millisecond, 5*time.Millisecond
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if kind := response.Header.Get("Content-Type"); kind != api.ContentTypeEvents {
		t.Fatalf("type %s", kind)
	}
	lines := bufio.NewScanner(response.Body)
	for comments := 0; comments < 60; { // 300 ms at least
		if !lines.Scan() {
			t.Fatalf("the stream ended after %d comments: %v", comments, lines.Err())
		}
		if lines.Text() == ": alive" {
			comments++
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("a stream held up the shutdown: %v", err)
	}
	for lines.Scan() {
		continue
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream was broken off: %v", err)
	}
}

func TestEventReadersAreBounded(t *testing.T) {
	r := newRig(t, nil)
	r.events.readers.Store(maxReaders)
	if p := r.send(http.MethodGet, "/v1/events", "").problem(t); p.Status != http.StatusServiceUnavailable || p.Type != api.ProblemSubscribers {
		t.Errorf("one too many: %v", p)
	}
	for _, err := range r.client().Events(t.Context(), "") {
		if p := problemOfError(t, err); p.Type != api.ProblemSubscribers {
			t.Errorf("the client says %v", err)
		}
	}
	r.events.readers.Store(0)
}

// TestSlowReaderHoldsUpNobody: it reads nothing while far more is published
// than any buffer between takes; then it is told that it missed some.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	r := newRig(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	large := strings.Repeat("x", 256<<10)
	for range 200 { // 50 MiB, 2 MiB of which are kept
		r.events.Publish(api.Event{Type: api.EventEdge, Detail: large})
	}
	lines := bufio.NewReaderSize(response.Body, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no word of what was missed: %v", err)
		}
		if line == "event: missed\n" {
			return
		}
	}
}
