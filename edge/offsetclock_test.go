package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

func TestOffsetClock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	now := OffsetClock(file)
	about := func(what string, want time.Duration) {
		t.Helper()
		eventually(t, what, func() error {
			if off := time.Until(now()) - want; off.Abs() > time.Minute {
				return fmt.Errorf("it is off by %s more than %s", off, want)
			}
			return nil
		})
	}
	about("no file", 0)
	writeFile(t, file, "+1h\n")
	about("ahead", time.Hour)
	writeFile(t, file, "-25h")
	about("back", -25*time.Hour)
	writeFile(t, file, "tomorrow")
	about("ill-formed", 0)
	writeFile(t, file, "+1h")
	about("ahead again", time.Hour)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	about("taken away", 0)
}

// TestLeapingClock: what has a date leaps with the clock, and the entry in DNS,
// health and what is served do not.
func TestLeapingClock(t *testing.T) {
	etcd, _ := startEtcd(t)
	p := failoverSettings(t, "az1", etcd)
	// An edge that stands still for twice the misses starts anew: a busy machine
	// must not look like that.
	p.Failover.Misses = 100
	file := filepath.Join(t.TempDir(), "clock")
	e := start(t, p, func(e *Edge) { e.now = OffsetClock(file) })
	e.ready()
	e.instance("stable", "v1")
	eventually(t, "in", isIn(t, e.api))
	eventually(t, "served", e.wants("/users/1", "", "stable"))
	for _, offset := range []string{"+10h", "-10h"} {
		place := e.place()
		writeFile(t, file, offset)
		d, err := time.ParseDuration(offset)
		if err != nil {
			t.Fatal(err)
		}
		leapt := func(at time.Time) bool { return (time.Until(at) - d).Abs() < time.Hour }
		eventually(t, "leapt", func() error {
			if now := e.edge.now(); !leapt(now) {
				return fmt.Errorf("it is %s", now)
			}
			return nil
		})
		writeFile(t, p.Documents, strings.Replace(testDocuments, "explain: true", fmt.Sprintf("%q: 1", offset), 1))
		e.told(place, "dated by the clock", func(e api.Event) bool { return e.Type == api.EventDocumentsRefused && leapt(e.Time) })
		if err := e.wants("/users/1", "", "stable")(); err != nil {
			t.Errorf("after %s: %v", offset, err)
		}
	}
	for range 5 { // heartbeats since
		seen := e.edge.failover.shown.Load()
		eventually(t, "another heartbeat", func() error {
			if e.edge.failover.shown.Load() == seen {
				return fmt.Errorf("none")
			}
			return nil
		})
	}
	if p := e.edge.failover.picture(); !p.decision.In || p.turns != 1 {
		t.Errorf("in %t after %d turns", p.decision.In, p.turns)
	}
}
