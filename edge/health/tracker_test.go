package health

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

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
