package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	instanceServices = 10
	// registerWorkers put instances in parallel.
	registerWorkers = 64
	startGoal       = 2 * time.Second
	heapGoal        = 1000 // bytes an instance, a KB as the other figures have MB
	// startLimit is how long a start may take before it counts as failed.
	startLimit = 2 * time.Minute
	// startPoll is between two questions of whether an edge is ready.
	startPoll = time.Millisecond
	// farZone is where the instances are: an edge probes those of its own zone
	// only, and these have no process.
	farZone = "far"
)

// instances is the mode of that name: what an edge that knows very many
// instances needs to start, and of memory.
func (b *bench) instances(ctx context.Context, r *report) (err error) {
	count := b.settings.Instances
	f, err := b.startFederation(ctx, threeZones()[:1], grayfedDocuments{Routes: serviceRoutes(instanceServices)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	m := f.edges[0]
	metrics := m.api("/metrics")
	heapBefore, err := liveHeap(ctx, f.client, metrics)
	if err != nil {
		return err
	}
	before, err := b.settled(ctx, m.pid)
	if err != nil {
		return err
	}

	b.say("registering %d instances", count)
	begun := time.Now()
	if err := f.registerMany(ctx, m, count); err != nil {
		return err
	}
	registered := time.Since(begun)
	if err := waitFor(ctx, startLimit, m.child, func() error { return f.knows(ctx, m, count) }); err != nil {
		return err
	}
	b.say("registered in %v", registered.Round(time.Millisecond))

	fromEtcd, err := f.restarts(ctx, m, count)
	if err != nil {
		return err
	}
	heapAfter, err := liveHeap(ctx, f.client, metrics)
	if err != nil {
		return err
	}
	after, err := b.settled(ctx, m.pid)
	if err != nil {
		return err
	}

	// The edge writes its cache when it is told to end.
	if err := errors.Join(m.end(), f.etcd.end()); err != nil {
		return err
	}
	fromCache, err := f.restarts(ctx, m, count)
	if err != nil {
		return err
	}

	each := func(more float64) float64 { return more / float64(count) }
	r.Spreads = append(r.Spreads, newSpread("start to ready, from etcd", fromEtcd), newSpread("start to ready, etcd down", fromCache))
	r.judged("start to ready from etcd, worst", milliseconds(r.Spreads[0].Max), milliseconds(startGoal), "ms")
	r.judged("start to ready with etcd down, worst", milliseconds(r.Spreads[1].Max), milliseconds(startGoal), "ms")
	r.judged("heap an instance", each(heapAfter-heapBefore), heapGoal, "bytes")
	r.figure("RssAnon an instance", each(float64(after.Anonymous-before.Anonymous)), "bytes")
	r.figure("RssAnon with no instance", float64(before.Anonymous)/1e6, "MB")
	r.figure("RssAnon with all", float64(after.Anonymous)/1e6, "MB")
	r.figure("registering them", registered.Seconds(), "s")
	r.figure("registrations a second", float64(count)/registered.Seconds(), "")
	r.note("%d instances in %d services, none in the edge's own zone: it probes none of them", count, instanceServices)
	r.note("heap: go_memstats_heap_alloc_bytes right after a collection, less that of the same edge without instances; MB and KB of 1,000,000 and 1,000 bytes")
	r.note("one update in a service of 10,000 among them is timed where it is applied: make bench BENCH='BenchmarkCatalogUpdate|BenchmarkUpdate'")
	return nil
}

// registerMany registers count instances, by turns in each of the services.
func (f *federation) registerMany(ctx context.Context, m *member, count int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var done sync.WaitGroup
	reg := f.registrar(m)
	for range registerWorkers {
		done.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				service := fmt.Sprintf("s%d", n%instanceServices)
				id := fmt.Sprintf("%s-i%05d", service, n/instanceServices)
				if err := reg.put(ctx, service, id, farInstance(n)); err != nil {
					cancel(err)
				}
			}
		})
	}
	done.Wait()
	return context.Cause(ctx)
}

// farInstance is instance number n. It sends no heartbeats.
func farInstance(n int) registration {
	version := stableRelease
	if n/instanceServices%10 == 0 {
		version = canaryRelease
	}
	return registration{Zone: farZone, Region: "east", Version: version, TTL: "0s",
		Address: fmt.Sprintf("10.%d.%d.%d:8080", n>>16, n>>8&0xff, n&0xff)}
}

// knows reports an edge that does not know count instances.
func (f *federation) knows(ctx context.Context, m *member, count int) error {
	var answer struct {
		Services []struct {
			Instances int `json:"instances"`
		} `json:"services"`
	}
	if err := getJSON(ctx, f.client, m.api("/v1/services"), &answer); err != nil {
		return err
	}
	known := 0
	for _, service := range answer.Services {
		known += service.Instances
	}
	if known != count {
		return fmt.Errorf("%s's edge knows %d of %d instances", m.Zone, known, count)
	}
	return nil
}

// restarts kills the edge, where it runs, and starts it again, as many times as
// there are rounds, and returns what each start took until it was ready. An
// edge that is ready without all of count instances is not.
func (f *federation) restarts(ctx context.Context, m *member, count int) ([]time.Duration, error) {
	var took []time.Duration
	for round := range f.bench.settings.Rounds {
		select {
		case <-m.exited:
		default:
			if err := unix.Kill(m.pid, unix.SIGKILL); err != nil {
				return nil, fmt.Errorf("kill %s: %w", m.name, err)
			}
			<-m.exited
		}
		f.client.CloseIdleConnections()
		begun := time.Now()
		var err error
		if m.child, err = f.bench.startEdge(m.Zone+"-edge", f.dir, m.config); err != nil {
			return nil, err
		}
		if err := untilReady(ctx, f.client, m); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
		f.bench.say("start %d/%d: ready after %v", round+1, f.bench.settings.Rounds, took[round].Round(time.Millisecond))
		if err := f.knows(ctx, m, count); err != nil {
			return nil, fmt.Errorf("ready, but %w", err)
		}
	}
	return took, nil
}

// untilReady asks without pause worth mentioning: what it waits for is measured.
func untilReady(ctx context.Context, client *http.Client, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		var status any
		err := getJSON(ctx, client, m.api("/readyz"), &status)
		if err == nil {
			return nil
		}
		if err := m.alive(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready after %v: %w%s", m.name, startLimit, err, m.tail())
		}
		pause(startPoll)
	}
}
