package registry

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// direct takes the edge's etcd client past the gate.
func (r *rig) direct(o *Options) { o.Client = connect(r.TB, r.etcd) }

// arrivals tells when each instance reached every one of the sinks.
type arrivals struct {
	mu   sync.Mutex
	seen map[federation.Key]int
	last map[federation.Key]time.Time
}

func (a *arrivals) take(changes []federation.Change) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range changes {
		if c.Put == nil {
			continue
		}
		a.seen[c.Key]++
		a.last[c.Key] = now
	}
}

type arrivalSink struct {
	*federation.Catalog
	at *arrivals
}

func (s arrivalSink) Apply(changes []federation.Change, revision int64) {
	s.Catalog.Apply(changes, revision)
	s.at.take(changes)
}

// Registered at one edge until the catalogs of all three have it, 100 times a
// second.
func BenchmarkRegisteredUntilAllHaveIt(b *testing.B) {
	r := newRig(b)
	all := &arrivals{seen: make(map[federation.Key]int), last: make(map[federation.Key]time.Time)}
	var nodes []*node
	for n, zone := range []string{"az1", "az2", "az3"} {
		nodes = append(nodes, r.start(fmt.Sprintf("e%d", n), zone, regionOf(zone), r.direct, func(o *Options) {
			o.Sink = arrivalSink{Catalog: o.Edges.(*federation.Catalog), at: all}
			o.Timing = Timing{}
		}))
	}
	const count = 1000
	for b.Loop() {
		began := make([]time.Time, count)
		var registering sync.WaitGroup
		var failed atomic.Int64
		tick := time.NewTicker(10 * time.Millisecond)
		for n := range count {
			<-tick.C
			registering.Go(func() {
				began[n] = time.Now()
				if _, err := nodes[n%3].Register(context.Background(), instance(fmt.Sprintf("u%d", n), "az1"), PutOptions{}); err != nil {
					failed.Add(1)
				}
			})
		}
		tick.Stop()
		registering.Wait()
		if failed.Load() > 0 {
			b.Fatalf("%d registrations failed", failed.Load())
		}
		eventually(b, "all there", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.seen) == count && func() bool {
				for _, seen := range all.seen {
					if seen < len(nodes) {
						return false
					}
				}
				return true
			}()
		})
		took := make([]time.Duration, count)
		for n := range took {
			took[n] = all.last[key(fmt.Sprintf("u%d", n))].Sub(began[n])
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[count/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[count*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(took[count-1].Microseconds())/1000, "max-ms")
		clear(all.seen)
		clear(all.last)
		for n := range count {
			if err := nodes[0].Deregister(context.Background(), key(fmt.Sprintf("u%d", n)), PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		r.agree(nodes...)
		clear(all.seen)
		clear(all.last)
	}
}

// 100,000 instances in etcd: from Run to Ready.
func BenchmarkStartWithHundredThousand(b *testing.B) {
	const count = 100_000
	r := newRig(b)
	r.preload(0, count)
	owner, err := encodeEdge(federation.Edge{ID: "loader", Locality: federation.Locality{Zone: "az2"}})
	if err != nil {
		b.Fatal(err)
	}
	r.write(r.keys.edge("loader"), string(owner))
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		n := r.node("a", "az1", "east", r.direct, noProbe, patient)
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		n.run()
		<-n.Ready()
		b.StopTimer()
		if got := n.catalog.Snapshot().Instances; got != count {
			b.Fatalf("ready with %d instances", got)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "heap-B/instance")
		n.stop()
		b.StartTimer()
	}
}
