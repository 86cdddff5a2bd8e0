package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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
