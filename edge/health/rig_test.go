package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grayfed/grayfed/federation"
)

var errDown = errors.New("down")

// rig runs a monitor in a synctest bubble, with probes that the test answers.
type rig struct {
	*Monitor
	done chan struct{}

	mu      sync.Mutex
	down    map[string]bool                      // mu; by instance id
	hang    map[string]bool                      // mu
	probes  map[string][]time.Time               // mu
	running int                                  // mu
	most    int                                  // mu
	records map[string][]federation.HealthRecord // mu
	batches int                                  // mu
}

// bubble runs test with time that stands still while everybody waits.
func bubble(t *testing.T, change func(*Options), test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			done: make(chan struct{}), down: make(map[string]bool), hang: make(map[string]bool),
			probes: make(map[string][]time.Time), records: make(map[string][]federation.HealthRecord),
		}
		opts := Options{
			Self: "e0", Zone: "az1", Incarnation: 4,
			Rand: func() float64 { return 0.5 },
			Sink: func(records []federation.HealthRecord) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.batches++
				for _, rec := range records {
					r.records[rec.Subject.ID] = append(r.records[rec.Subject.ID], rec)
				}
			},
		}
		opts.probe = r.answer
		if change != nil {
			change(&opts)
		}
		var err error
		if r.Monitor, err = NewMonitor(opts); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); <-r.done }()
		go func() {
			defer close(r.done)
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		test(t, r)
	})
}

func (r *rig) answer(ctx context.Context, i *federation.Instance, _ Check) error {
	r.mu.Lock()
	r.probes[i.ID] = append(r.probes[i.ID], time.Now())
	r.running++
	r.most = max(r.most, r.running)
	down, hang := r.down[i.ID], r.hang[i.ID]
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running--
		r.mu.Unlock()
	}()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errDown
	}
	return nil
}

func (r *rig) setDown(id string, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[id] = down
}

func (r *rig) probeCount(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.probes[id])
}

// said is the last record on an instance, as "status percent".
func (r *rig) said(id string) string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records[id]) == 0 {
		return "nothing"
	}
	last := r.records[id][len(r.records[id])-1]
	return fmt.Sprintf("%s %d", last.Status, last.Percent)
}

// said changes, without repeats, with the time since start.
func (r *rig) story(id string, start time.Time) []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var story []string
	seq := uint64(0)
	for _, rec := range r.records[id] {
		if rec.Seq != seq {
			story = append(story, fmt.Sprintf("%s %s %d", rec.Received.Sub(start), rec.Status, rec.Percent))
			seq = rec.Seq
		}
	}
	return story
}

func instance(id, zone string) *federation.Instance {
	return &federation.Instance{
		Key: federation.Key{Service: "user-service", ID: id}, Locality: federation.Locality{Zone: zone}, Address: "10.0.0.1:80",
	}
}

func wantSaid(t *testing.T, r *rig, id, want string) {
	t.Helper()
	if got := r.said(id); got != want {
		t.Fatalf("said of %s: %q, want %q", id, got, want)
	}
}
