package admin

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

// keptEvents is how many events are kept for readers: what a slow one may be
// behind, and one that lost its connection may have missed. At the 2,000
// changes a second that etcd takes, it is two seconds.
const keptEvents = 4096

// Events keeps the last events of this edge. Readers all read from the same
// ring, each at its own place, so that none of them costs memory or can hold up
// who publishes: the one that falls out of the ring is told what it missed.
type Events struct {
	run  string // of ids: another for each run of the edge
	keep uint64

	readers           atomic.Int64
	published, missed atomic.Uint64

	mu   sync.Mutex
	ring []api.Event   // mu; the event of number n is at n % keep
	next uint64        // mu; number of the next event; the first is 1
	news chan struct{} // mu; closed by the next event
}

// NewEvents keeps no event yet.
func NewEvents() *Events { return newEvents(keptEvents) }

func newEvents(keep uint64) *Events {
	return &Events{
		run: strconv.FormatInt(time.Now().UnixNano(), 36), keep: keep,
		ring: make([]api.Event, keep), next: 1, news: make(chan struct{}),
	}
}

// Publish numbers an event and lets readers have it; it never blocks. A zero
// Time is now.
func (e *Events) Publish(event api.Event) {
	if event.Time.IsZero() {
		event.Time = time.Now()
	}
	event.Time = event.Time.UTC()
	e.published.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	event.ID = e.id(e.next)
	e.ring[e.next%e.keep] = event
	e.next++
	close(e.news)
	e.news = make(chan struct{})
}

func (e *Events) id(number uint64) string { return e.run + "-" + strconv.FormatUint(number, 10) }

// last is the number of the latest event, 0 when there is none.
func (e *Events) last() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next - 1
}

// resume is the place after the event with an id; ok is false when it is not
// one of this run.
func (e *Events) resume(id string) (place uint64, ok bool) {
	run, number, found := strings.Cut(id, "-")
	place, err := strconv.ParseUint(number, 10, 64)
	if !found || run != e.run || err != nil || place > e.last() {
		return 0, false
	}
	return place, true
}

// after returns up to most events that follow a place, and the place after
// them. A reader whose place has left the ring gets a missed event first. With
// no event, news is closed when there is one.
func (e *Events) after(place uint64, most int) (events []api.Event, now uint64, news <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	oldest := uint64(1)
	if e.next > e.keep {
		oldest = e.next - e.keep
	}
	if place+1 < oldest {
		lost := oldest - place - 1
		e.missed.Add(lost)
		place = oldest - 1
		events = append(events, e.missedEvent(place, fmt.Sprintf("%d events are lost to this reader: read the state again", lost)))
	}
	for ; place+1 < e.next && len(events) < most; place++ {
		events = append(events, e.ring[(place+1)%e.keep])
	}
	return events, place, e.news
}

// missedEvent stands for what came up to a place.
func (e *Events) missedEvent(place uint64, detail string) api.Event {
	return api.Event{ID: e.id(place), Type: api.EventMissed, Time: time.Now().UTC(), Detail: detail}
}
