package chaos

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grayfed/grayfed/chaos/guard"
	"github.com/grayfed/grayfed/chaos/report"
	"github.com/grayfed/grayfed/edge/api"
)

const (
	// maxDetections bounds what is kept of a run; those beyond come later than
	// what matters.
	maxDetections = 500
	// followAgain is how soon an edge whose events broke off is followed again.
	followAgain = 250 * time.Millisecond
)

// Ways in which edges notice what is wrong, as reports name them.
const (
	byGossip        = "gossip"        // an edge is suspect, dead, or has left
	byFailover      = "failover"      // an edge has decided anew on its entry in DNS
	byRequests      = "requests"      // a zone is given up
	byHealth        = "health"        // an instance is ejected
	byRegistry      = "registry"      // an instance is orphaned, adopted or expired
	byConfiguration = "configuration" // documents are refused
)

// ways are those that a drill may wait for.
func ways() []string {
	return []string{byGossip, byFailover, byRequests, byHealth, byRegistry, byConfiguration}
}

// watcher follows the events of all edges and keeps those that say that
// something is wrong.
type watcher struct {
	start time.Time
	who   *census

	mu   sync.Mutex
	seen []report.Detection
}

// run returns when ctx ends. A panic of one that follows is told to failed.
func (w *watcher) run(ctx context.Context, edges []Edge, failed func(error)) {
	var followers sync.WaitGroup
	for _, e := range edges {
		followers.Go(func() {
			if err := guard.Do(func() error { w.follow(ctx, e); return nil }); err != nil {
				failed(err)
			}
		})
	}
	followers.Wait()
}

func (w *watcher) follow(ctx context.Context, e Edge) {
	for ctx.Err() == nil {
		for event, err := range e.Client.Events(ctx, "") {
			if err != nil {
				break // it is down, or cut off: a drill's daily bread
			}
			if by, what := sign(&event); by != "" {
				// The edge's clock may be what is broken: ours counts.
				w.add(report.Detection{At: time.Since(w.start), By: by, Edge: e.Zone, Of: w.who.about(&event, e.Zone), What: what})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

func (w *watcher) add(d report.Detection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) < maxDetections {
		w.seen = append(w.seen, d)
	}
}

// all is what was seen.
func (w *watcher) all() []report.Detection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

func sortDetections(list []report.Detection) {
	slices.SortStableFunc(list, func(a, b report.Detection) int { return cmp.Compare(a.At, b.At) })
}

// felt is the first request that the load itself saw touched by the faults.
func (m *measured) felt(begun time.Duration) []report.Detection {
	var first *outcome
	for i := range m.outcomes {
		o := &m.outcomes[i]
		touched := o.failure != "" || o.wrong != "" || o.took() > m.slow
		if touched && o.done > begun && (first == nil || o.done < first.done) {
			first = o
		}
	}
	if first == nil {
		return nil
	}
	return []report.Detection{{At: first.done, By: "load", What: cmp.Or(first.failure, first.wrong, "answered after "+round(first.latency()))}}
}

// sign says who noticed what; by is "" for an event of everyday life.
func sign(e *api.Event) (by, what string) {
	switch e.Type {
	case api.EventEdge:
		if e.Status == "alive" {
			return "", ""
		}
		return byGossip, "edge " + e.Edge + " is " + e.Status
	case api.EventInstanceOrphaned, api.EventInstanceExpired, api.EventInstanceOrphanExpired, api.EventInstanceAdopted:
		return byRegistry, "instance " + e.Instance + " " + strings.TrimPrefix(string(e.Type), "instance.")
	case api.EventDocumentsRefused:
		return byConfiguration, "documents refused"
	case api.EventInstanceEjected:
		return byHealth, "instance " + e.Instance + " ejected"
	case api.EventZoneDemoted:
		return byRequests, "zone " + e.Zone + " demoted"
	case api.EventFailover:
		return byFailover, "edge " + e.Edge + " is " + e.Status + ": " + e.Detail
	default:
		return "", ""
	}
}
