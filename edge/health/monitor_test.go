package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/grayfed/grayfed/federation"
)

func TestProbesTakeOutAndBringBackGradually(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		start := time.Now()
		r.Tracker(instance("u1", "az1")) // probed at 0.5 s, 1.5 s, ...
		time.Sleep(3 * time.Second)
		wantSaid(t, r, "u1", "healthy 100")
		r.setDown("u1", true)
		time.Sleep(5 * time.Second) // fails at 3.5, 4.5, 5.5
		r.setDown("u1", false)      // well at 8.5, 9.5
		time.Sleep(20 * time.Second)
		want := []string{
			"500ms healthy 100", "5.5s unhealthy 0", "9.5s recovering 10", "12s recovering 25",
			"14.5s recovering 50", "17s recovering 75", "19.5s healthy 100",
		}
		if got := r.story("u1", start); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestTwoFailedProbesAreNotThree(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Tracker(instance("u1", "az1"))
		for range 5 {
			r.setDown("u1", true)
			time.Sleep(2 * time.Second)
			r.setDown("u1", false)
			time.Sleep(time.Second)
		}
		wantSaid(t, r, "u1", "healthy 100")
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rec := range r.records["u1"] {
			if rec.Status != federation.Healthy {
				t.Errorf("record %+v", rec)
			}
		}
	})
}

func TestConnectionFailuresEjectAtOnceAndProbesBringBack(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		time.Sleep(3 * time.Second)
		r.setDown("u1", true)
		now := time.Now().UnixNano()
		tr.ConnectFailure(now)
		tr.ConnectFailure(now)
		if tr.Ejected() {
			t.Fatal("ejected at two failures")
		}
		tr.ConnectFailure(now)
		if !tr.Ejected() {
			t.Fatal("not ejected at the third failure")
		}
		wantSaid(t, r, "u1", "unhealthy 0")
		time.Sleep(4 * time.Second)
		wantSaid(t, r, "u1", "unhealthy 0")
		r.setDown("u1", false)
		time.Sleep(3 * time.Second)
		wantSaid(t, r, "u1", "recovering 10")
		if tr.Ejected() {
			t.Error("recovering, and still ejected")
		}
		time.Sleep(10 * time.Second)
		wantSaid(t, r, "u1", "healthy 100")
	})
}

func TestSuccessEndsARow(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		now := time.Now().UnixNano()
		for range 1000 { // enough successes that the share stays below 15%
			tr.Success(now)
		}
		for range 20 {
			tr.ConnectFailure(now)
			tr.ConnectFailure(now)
			tr.Success(now)
		}
		for range 10 {
			for range 4 {
				tr.GatewayFailure(now)
			}
			tr.Success(now)
		}
		if tr.Ejected() {
			t.Error("ejected without a row")
		}
	})
}

func TestGatewayFailures(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		now := time.Now().UnixNano()
		for range 1000 {
			tr.Success(now)
		}
		tr.ConnectFailure(now)
		tr.ConnectFailure(now)
		tr.GatewayFailure(now) // it connected: the row of connection failures ends
		tr.ConnectFailure(now)
		tr.ConnectFailure(now)
		if tr.Ejected() {
			t.Fatal("a connection in between was not noticed")
		}
		tr.Success(now)
		for range 4 {
			tr.GatewayFailure(now)
		}
		if tr.Ejected() {
			t.Fatal("ejected at four")
		}
		tr.GatewayFailure(now)
		if !tr.Ejected() {
			t.Fatal("not ejected at five")
		}
		// Its probes are well all along, and no evidence against it: it
		// serves its 30 s.
		time.Sleep(29 * time.Second)
		wantSaid(t, r, "u1", "unhealthy 0")
		time.Sleep(1100 * time.Millisecond)
		wantSaid(t, r, "u1", "recovering 10")
	})
}

func TestGatewayEjectionOutlastsItsTimeWhileProbesFail(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		r.setDown("u1", true)
		for range 5 {
			tr.GatewayFailure(time.Now().UnixNano())
		}
		time.Sleep(2 * time.Minute)
		wantSaid(t, r, "u1", "unhealthy 0")
		r.setDown("u1", false)
		time.Sleep(6 * time.Second) // long down: asked every five seconds
		if got := r.said("u1"); got == "unhealthy 0" {
			t.Errorf("said %q after its probe was well", got)
		}
	})
}

// outcomes reports so many of each, never two failures in a row.
func outcomes(tr *Tracker, successes, failures int) {
	now := time.Now().UnixNano()
	for range successes - failures {
		tr.Success(now)
	}
	for range failures {
		tr.Success(now)
		tr.GatewayFailure(now)
	}
}

func TestShareOfFailures(t *testing.T) {
	cases := []struct {
		name                string
		successes, failures int
		want                bool
	}{
		{"15 of 100", 85, 15, true},
		{"14 of 100", 86, 14, false},
		{"3 of 20", 17, 3, true},
		{"3 of 19: too few", 16, 3, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, r *rig) {
				tr := r.Tracker(instance("u1", "az1"))
				outcomes(tr, c.successes, c.failures)
				if tr.Ejected() != c.want {
					t.Errorf("ejected %t, want %t", tr.Ejected(), c.want)
				}
			})
		})
	}
}

func TestFailuresLeaveTheWindow(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		want  bool
	}{{40 * time.Second, true}, {70 * time.Second, false}} {
		bubble(t, nil, func(t *testing.T, r *rig) {
			tr := r.Tracker(instance("u1", "az1"))
			outcomes(tr, 87, 13)
			time.Sleep(c.pause)
			outcomes(tr, 10, 5) // 18 of 115 together, 5 of 15 alone: too few
			if tr.Ejected() != c.want {
				t.Errorf("ejected %t after %s, want %t", tr.Ejected(), c.pause, c.want)
			}
		})
	}
}

func TestRepeatedEjectionsLastLonger(t *testing.T) {
	o := Options{}.withDefaults()
	var s state
	now := moment(time.Hour)
	for n, want := range []time.Duration{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300} {
		s.eject(causeGateway, &o.Ejection, now)
		if got := s.until.sub(now); got != want*time.Second {
			t.Errorf("ejection %d lasts %s, want %ds", n+1, got, want)
		}
		now = s.until
		s.recover(&o.Recovery, now)
	}
	// 11 ejections less 4 that are forgiven, and one more.
	now = now.add(4 * o.Ejection.Base)
	s.eject(causeGateway, &o.Ejection, now)
	if got := s.until.sub(now); got != 8*30*time.Second {
		t.Errorf("after four quiet periods: %s", got)
	}
	s.eject(causeGateway, &o.Ejection, now.add(24*time.Hour))
	if got := s.until.sub(now.add(24 * time.Hour)); got != 30*time.Second {
		t.Errorf("after a quiet day: %s", got)
	}
}

func TestOnlyOwnZoneAndEndpointsInUseAreProbed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.Tracker(instance("near", "az1"))
		far := r.Tracker(instance("far", "az2"))
		time.Sleep(10 * time.Second)
		if r.probeCount("near") == 0 || r.probeCount("far") != 0 {
			t.Fatalf("probes: near %d, far %d", r.probeCount("near"), r.probeCount("far"))
		}
		far.Success(time.Now().UnixNano())
		time.Sleep(10 * time.Second)
		wantSaid(t, r, "far", "healthy 100")
		time.Sleep(70 * time.Second)
		count := r.probeCount("far")
		time.Sleep(10 * time.Second)
		if more := r.probeCount("far"); more != count {
			t.Errorf("%d probes of an endpoint that nobody used for a minute", more-count)
		}
		far.Success(time.Now().UnixNano())
		time.Sleep(3 * time.Second)
		if r.probeCount("far") == count {
			t.Error("not probed when used again")
		}
	})
}

// runtime keeps a tracker as the gateway does.
type runtime struct{ tracker *Tracker }

func (r runtime) Tracker() *Tracker { return r.tracker }
func (r runtime) InFlight() int64   { return 0 }
func (r runtime) Admits() bool      { return true }
func (r runtime) Close()            { r.tracker.Close() }

func TestEndpointIsProbedWhenItsZoneBecomesThisOne(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		catalog := federation.NewCatalog(federation.CatalogOptions{
			NewRuntime: func(i *federation.Instance) federation.Runtime { return runtime{r.Tracker(i)} },
		})
		move := func(id, zone string, revision int64) {
			i := instance(id, zone)
			i.Revision = revision
			catalog.Apply([]federation.Change{{Put: i, Revision: revision}}, revision)
			r.Update(catalog.Snapshot(), []string{i.Service}, false)
		}
		move("comes", "az2", 1)
		move("stays", "az2", 2)
		time.Sleep(5 * time.Second)
		if n := r.probeCount("comes"); n != 0 {
			t.Fatalf("%d probes of another zone's", n)
		}
		move("comes", "az1", 3)
		time.Sleep(5 * time.Second)
		if comes, stays := r.probeCount("comes"), r.probeCount("stays"); comes == 0 || stays != 0 {
			t.Errorf("%d probes of the one that came, %d of the one that did not", comes, stays)
		}
		move("comes", "az2", 4)
		time.Sleep(5 * time.Second)
		count := r.probeCount("comes")
		time.Sleep(5 * time.Second)
		if more := r.probeCount("comes") - count; more != 0 {
			t.Errorf("%d probes of one that went", more)
		}
	})
}

// What probes and requests need is not made for endpoints without either.
func TestUnusedEndpointOfAnotherZoneTakesLittle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		far := r.Tracker(instance("far", "az2"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if far.window.Load() != nil || far.state != nil || unsafe.Sizeof(*far) > 64 {
			t.Errorf("window %p, state %p, %d bytes", far.window.Load(), far.state, unsafe.Sizeof(*far))
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { far.Success(time.Now().UnixNano()) })
		}
		all.Wait()
		if _, total := far.outcomes().sums(time.Now().UnixNano()); total != 8 {
			t.Errorf("%d of 8 first outcomes counted", total)
		}
		time.Sleep(5 * time.Second)
		wantSaid(t, r, "far", "healthy 100")
	})
}

func TestEndpointHeldOutIsProbedThoughUnused(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		far := r.Tracker(instance("far", "az2"))
		r.setDown("far", true)
		for range 3 {
			far.ConnectFailure(time.Now().UnixNano())
		}
		time.Sleep(5 * time.Minute)
		wantSaid(t, r, "far", "unhealthy 0")
		r.setDown("far", false)
		time.Sleep(8 * time.Second)
		if got := r.said("far"); got == "unhealthy 0" {
			t.Errorf("nobody noticed that it is back: %s", got)
		}
	})
}

func TestConnectionFailureAsksForAProbeAtOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		time.Sleep(700 * time.Millisecond) // probed at 0.5 s, next at 1.5 s
		if got := r.probeCount("u1"); got != 1 {
			t.Fatalf("%d probes", got)
		}
		tr.ConnectFailure(time.Now().UnixNano())
		synctest.Wait()
		if got := r.probeCount("u1"); got != 2 {
			t.Errorf("%d probes, want one more at once", got)
		}
		for range 1000 {
			tr.ConnectFailure(time.Now().UnixNano())
		}
		time.Sleep(150 * time.Millisecond)
		if got := r.probeCount("u1"); got > 3 {
			t.Errorf("%d probes: failures make a storm", got)
		}
	})
}

func TestRecordsAreRepeatedAndWithdrawn(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		r.setDown("u1", true)
		time.Sleep(2 * time.Minute) // long down, asked seldom
		r.mu.Lock()
		records := r.records["u1"]
		r.mu.Unlock()
		for n := 1; n < len(records); n++ {
			a, b := records[n-1], records[n]
			if gap := b.Received.Sub(a.Received); gap > 2100*time.Millisecond {
				t.Errorf("nothing said for %s", gap)
			}
			if b.Seq < a.Seq || b.Observer != "e0" || b.Incarnation != 4 {
				t.Errorf("record %+v after %+v", b, a)
			}
		}
		if len(records) < 50 {
			t.Fatalf("%d records in two minutes", len(records))
		}
		tr.Close()
		tr.Close()
		wantSaid(t, r, "u1", "unknown 0")
		count := r.probeCount("u1")
		time.Sleep(10 * time.Second)
		if r.probeCount("u1") != count {
			t.Error("probed after its end")
		}
	})
}

func TestManyEndpointsAreProbedWithoutABurst(t *testing.T) {
	const count = 10_000
	random := rand.New(rand.NewPCG(1, 2))
	bubble(t, func(o *Options) { o.Rand = random.Float64 }, func(t *testing.T, r *rig) {
		start := time.Now()
		for i := range count {
			r.Tracker(instance(fmt.Sprintf("u%d", i), "az1"))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		slots := make(map[int64]int)
		for id := range count {
			probes := r.probes[fmt.Sprintf("u%d", id)]
			if len(probes) < 2 {
				t.Fatalf("endpoint %d probed %d times in 3 s", id, len(probes))
			}
			for _, at := range probes {
				slots[at.Sub(start).Milliseconds()/100]++
			}
		}
		for slot, n := range slots {
			if n > count/10*3/2 {
				t.Errorf("%d probes in the 100 ms from %d ms", n, slot*100)
			}
		}
	})
}

func TestHangingEndpointsDoNotHoldUpTheOthers(t *testing.T) {
	bubble(t, func(o *Options) { o.Probing.Concurrency = 8 }, func(t *testing.T, r *rig) {
		for i := range 100 {
			id := fmt.Sprintf("dead%d", i)
			r.hang[id] = true
			r.Tracker(instance(id, "az1"))
		}
		r.Tracker(instance("well", "az1"))
		time.Sleep(2 * time.Minute) // the dead are known by now
		before := r.probeCount("well")
		time.Sleep(20 * time.Second)
		if got := r.probeCount("well") - before; got < 18 {
			t.Errorf("%d probes of the well one in 20 s", got)
		}
		if r.most > 8 {
			t.Errorf("%d probes at once, allowed 8", r.most)
		}
	})
}

func TestReportsFromManyGoroutines(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 2000 {
					now := time.Now().UnixNano()
					switch i % 20 {
					case 0:
						tr.ConnectFailure(now)
					case 1:
						tr.GatewayFailure(now)
					default:
						tr.Success(now)
					}
				}
			})
		}
		wg.Wait()
		failures, total := tr.outcomes().sums(time.Now().UnixNano())
		if total != 16_000 || failures != 1600 {
			t.Errorf("counted %d failures of %d, want 1600 of 16000", failures, total)
		}
	})
}

func TestWindowAgainstAPlainCount(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		type outcome struct {
			at     int64
			failed bool
		}
		var w window
		var all []outcome
		now := int64(1_700_000_000) * int64(time.Second)
		for range 2000 {
			now += random.Int64N(int64(200 * time.Millisecond))
			if random.IntN(200) == 0 {
				now += random.Int64N(int64(5 * time.Minute))
			}
			failed := random.IntN(3) == 0
			if failed {
				w.fail(now)
			} else {
				w.succeed(now)
			}
			all = append(all, outcome{now, failed})
		}
		from := (now/int64(bucketSpan) - 5) * int64(bucketSpan)
		var failures, total uint64
		for _, o := range all {
			if o.at >= from {
				total++
				if o.failed {
					failures++
				}
			}
		}
		if f, n := w.sums(now); f != failures || n != total {
			t.Errorf("seed %d: counted %d of %d, want %d of %d", seed, f, n, failures, total)
		}
	}
}

func TestSuccessAllocatesNothing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		tr := r.Tracker(instance("u1", "az1"))
		now := time.Now().UnixNano()
		if n := testing.AllocsPerRun(1000, func() { tr.Success(now) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkSuccess(b *testing.B) {
	m, err := NewMonitor(Options{Self: "e0", Zone: "az1"})
	if err != nil {
		b.Fatal(err)
	}
	tr := m.Tracker(instance("u1", "az1"))
	now := time.Now().UnixNano()
	b.ReportAllocs()
	for b.Loop() {
		tr.Success(now)
	}
}
