package federation_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestFold(t *testing.T) {
	const zone = "az2"
	edges := []federation.Edge{
		{ID: "edge-1", Locality: federation.Locality{Zone: "az1"}, Status: federation.EdgeAlive},
		{ID: "edge-2", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeAlive},
		{ID: "edge-3", Locality: federation.Locality{Zone: "az3"}, Status: federation.EdgeAlive},
		{ID: "edge-4", Locality: federation.Locality{Zone: "az4"}, Status: federation.EdgeAlive},
	}
	type said map[string]federation.HealthStatus
	cases := map[string]struct {
		said   said
		dead   string // edge declared dead before the evidence arrives
		status federation.HealthStatus
		source federation.HealthSource
	}{
		"nobody said anything: usable":        {status: federation.HealthUnknown, source: federation.SourceNone},
		"own evidence wins over the zone's":   {said: said{"edge-1": federation.Healthy, "edge-2": federation.Unhealthy}, status: federation.Healthy, source: federation.SourceOwn},
		"own bad evidence wins too":           {said: said{"edge-1": federation.Unhealthy, "edge-2": federation.Healthy}, status: federation.Unhealthy, source: federation.SourceOwn},
		"the zone's edge wins over others":    {said: said{"edge-2": federation.Unhealthy, "edge-3": federation.Healthy, "edge-4": federation.Healthy}, status: federation.Unhealthy, source: federation.SourceZone},
		"the zone's silence means well":       {said: said{"edge-3": federation.Unhealthy, "edge-4": federation.Unhealthy}, status: federation.Healthy, source: federation.SourceZone},
		"zone's edge dead: the majority":      {said: said{"edge-3": federation.Unhealthy, "edge-4": federation.Unhealthy}, dead: "edge-2", status: federation.Unhealthy, source: federation.SourceMajority},
		"zone's edge dead: a tie is usable":   {said: said{"edge-3": federation.Unhealthy, "edge-4": federation.Healthy}, dead: "edge-2", status: federation.Healthy, source: federation.SourceMajority},
		"own unknown is no evidence":          {said: said{"edge-1": federation.HealthUnknown, "edge-2": federation.Unhealthy}, status: federation.Unhealthy, source: federation.SourceZone},
		"recovering passes on its percentage": {said: said{"edge-2": federation.Recovering}, status: federation.Recovering, source: federation.SourceZone},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			i := instance("s", "a", zone, 1)
			f.Replace([]*federation.Instance{i}, 1)
			for _, e := range edges {
				if e.ID == c.dead {
					e.Status = federation.EdgeDead
				}
				f.PutEdge(e)
			}
			for observer, status := range c.said {
				f.ObserveHealth(time.Unix(1, 0), federation.HealthRecord{
					Subject: i.Key, Observer: observer, Incarnation: 1, Seq: 1, Status: status, Percent: 25,
				})
			}
			got := f.Snapshot().Endpoint(i.Key).Health
			if got.Status != c.status || got.Source != c.source {
				t.Errorf("folded to %s by %s, want %s by %s", got.Status, got.Source, c.status, c.source)
			}
			if c.status == federation.Recovering && got.Percent != 25 {
				t.Errorf("recovering at %d%%, want 25%%", got.Percent)
			}
		})
	}
}

func TestEvidenceAgesAndDiesWithItsObserver(t *testing.T) {
	start := time.Unix(100, 0)
	key := federation.Key{Service: "s", ID: "a"}
	setup := func() *fixture {
		f := newFixture()
		f.Replace([]*federation.Instance{instance("s", "a", "az2", 1)}, 1)
		f.PutEdge(federation.Edge{ID: "edge-2", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeAlive})
		f.ObserveHealth(start, federation.HealthRecord{Subject: key, Observer: "edge-2", Incarnation: 3, Seq: 7, Status: federation.Unhealthy})
		if f.Snapshot().Unhealthy != 1 {
			t.Fatal("the evidence did not count")
		}
		return f
	}
	usable := func(f *fixture) bool { return f.Snapshot().Endpoint(key).Health.Usable() }

	f := setup()
	f.Expire(start.Add(3 * time.Second))
	if usable(f) {
		t.Error("dropped at the age of three refreshes, not after it")
	}
	f.Expire(start.Add(3*time.Second + 1))
	if !usable(f) {
		t.Error("a record nobody refreshed still counts")
	}

	f = setup()
	f.ObserveHealth(start.Add(2*time.Second), federation.HealthRecord{Subject: key, Observer: "edge-2", Incarnation: 3, Seq: 7, Status: federation.Unhealthy})
	f.Expire(start.Add(4 * time.Second))
	if usable(f) {
		t.Error("a refreshed record was dropped")
	}

	f = setup()
	f.ObserveHealth(start, federation.HealthRecord{Subject: key, Observer: "edge-2", Incarnation: 2, Seq: 99, Status: federation.Healthy})
	if usable(f) {
		t.Error("a record of an earlier incarnation replaced a later one's")
	}

	f = setup()
	f.PutEdge(federation.Edge{ID: "edge-2", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeDead})
	if !usable(f) || len(f.Evidence(key)) != 0 {
		t.Error("a dead observer's evidence outlived it")
	}
}

// TestEvidenceMergesInAnyOrder: delivery in any order, with repetitions, ends
// in the same judgement.
func TestEvidenceMergesInAnyOrder(t *testing.T) {
	now := time.Unix(1, 0)
	key := federation.Key{Service: "s", ID: "a"}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var records []federation.HealthRecord
		for _, observer := range []string{"edge-1", "edge-2", "edge-3"} {
			for seq := range uint64(4) {
				records = append(records, federation.HealthRecord{
					Subject: key, Observer: observer, Incarnation: 1 + seq/3, Seq: seq,
					Status: federation.HealthStatus(rng.IntN(4)), Percent: uint8(rng.IntN(256)),
				})
			}
		}
		var want federation.Health
		for round := range 4 {
			f := newFixture()
			f.Replace([]*federation.Instance{instance("s", "a", "az2", 1)}, 1)
			f.PutEdge(federation.Edge{ID: "edge-2", Locality: federation.Locality{Zone: "az2"}, Status: federation.EdgeAlive})
			rng.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			f.ObserveHealth(now, records...)
			f.ObserveHealth(now, records[rng.IntN(len(records))])
			got := f.Snapshot().Endpoint(key).Health
			if round == 0 {
				want = got
			}
			if got != want {
				t.Fatalf("seed %d: %+v in one order, %+v in another", seed, want, got)
			}
			if got.Percent > 100 {
				t.Fatalf("seed %d: a stranger's percentage of %d was believed", seed, got.Percent)
			}
		}
	}
}
