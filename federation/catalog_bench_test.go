package federation_test

import (
	"fmt"
	goruntime "runtime"
	"testing"

	"github.com/grayfed/grayfed/federation"
)

const (
	benchInstances = 100_000
	benchServices  = 10
)

// storedInstances are the values of benchInstances instances as etcd holds
// them: services of 10,000, in three zones, with versions and tags.
func storedInstances(tb testing.TB) [][]byte {
	tb.Helper()
	values := make([][]byte, benchInstances)
	for n := range values {
		zone := fmt.Sprintf("az%d", n%3+1)
		i := instance(fmt.Sprintf("service-%d", n%benchServices), fmt.Sprintf("instance-%06d", n), zone, 0)
		i.Cluster, i.Version, i.Protocol = "cluster-"+zone, fmt.Sprintf("v%d", n%4), federation.HTTP1
		i.Address = fmt.Sprintf("10.%d.%d.%d:8080", n>>16, n>>8&255, n&255)
		i.Tags = map[string]string{"team": "payments", "track": "stable"}
		i.Owner = "edge-" + zone
		i.Stamp = federation.Stamp{Lamport: uint64(n), Origin: i.Owner}
		value, err := federation.EncodeInstance(i)
		if err != nil {
			tb.Fatal(err)
		}
		values[n] = value
	}
	return values
}

// decodeAll reads them as the registry does, at revisions from 1.
func decodeAll(tb testing.TB, values [][]byte) []*federation.Instance {
	tb.Helper()
	all := make([]*federation.Instance, len(values))
	for n, value := range values {
		i, err := federation.DecodeInstance(value)
		if err != nil {
			tb.Fatal(err)
		}
		i.Revision = int64(n + 1)
		i.Fingerprint = federation.FingerprintOf(i.String(), i.Revision, value)
		all[n] = i
	}
	return all
}

func benchCatalog() *federation.Catalog {
	return federation.NewCatalog(federation.CatalogOptions{
		Self:       "edge-1",
		NewRuntime: func(*federation.Instance) federation.Runtime { return idle{} },
	})
}

// idle is a runtime that costs nothing: what an endpoint's connections take is
// not the catalog's.
type idle struct{}

func (idle) InFlight() int64 { return 0 }
func (idle) Admits() bool    { return true }
func (idle) Close()          {}

// BenchmarkCatalogStart is from 100,000 stored values to a snapshot of them:
// ms (goal: at most 2000) and the heap that stays, B/instance (goal: at most
// 1024).
func BenchmarkCatalogStart(b *testing.B) {
	values := storedInstances(b)
	var kept uint64
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		catalog := benchCatalog()
		catalog.Replace(decodeAll(b, values), benchInstances)
		b.StopTimer()
		kept += heap() - before
		if got := catalog.Snapshot().Instances; got != benchInstances {
			b.Fatalf("%d instances, want %d", got, benchInstances)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/start")
	b.ReportMetric(float64(kept)/float64(b.N)/benchInstances, "B/instance")
}

// BenchmarkCatalogReplace is the part of it after decoding.
func BenchmarkCatalogReplace(b *testing.B) {
	all := decodeAll(b, storedInstances(b))
	for b.Loop() {
		benchCatalog().Replace(all, benchInstances)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/replace")
}

// BenchmarkCatalogUpdate is one change in a service of 10,000 among 100,000:
// ms (goal: at most 1).
func BenchmarkCatalogUpdate(b *testing.B) {
	all := decodeAll(b, storedInstances(b))
	catalog := benchCatalog()
	catalog.Replace(all, benchInstances)
	revision := int64(benchInstances)
	changed := *all[benchInstances/2]
	b.ReportAllocs()
	for b.Loop() {
		revision++
		next := changed
		next.Revision, next.Weight = revision, int(revision%100)
		catalog.Apply([]federation.Change{put(&next)}, revision)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/update")
	if got := catalog.Snapshot().Endpoint(changed.Key).Revision; got != revision {
		b.Fatalf("revision %d, want %d", got, revision)
	}
}

// heap is what lives on it, in bytes.
func heap() uint64 {
	goruntime.GC()
	var stats goruntime.MemStats
	goruntime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
