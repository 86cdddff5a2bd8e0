package gossip

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// history plays an origin and returns it with everything it ever sent: each
// change, and whole sets now and then.
func history(random *rand.Rand, now time.Time) (*deviations, []any) {
	var own deviations
	own.reset(testOrigin)
	var sent []any
	for range 1 + random.IntN(40) {
		status := federation.HealthStatus(random.IntN(int(federation.Unhealthy) + 1))
		if status == federation.Healthy {
			status = federation.HealthUnknown
		}
		r := testRecord(fmt.Sprintf("u%d", random.IntN(6)), own.version+1, status)
		own.put(r, now)
		sent = append(sent, r)
		if random.IntN(8) == 0 {
			sent = append(sent, own.standing(now))
		}
	}
	return &own, sent
}

func deliver(to *deviations, sent []any, order []int, now time.Time) {
	for _, n := range order {
		switch message := sent[n].(type) {
		case record:
			to.put(message, now)
		case set:
			to.replace(&message, now)
		}
	}
}

func describe(d *deviations, now time.Time) string {
	text := ""
	for _, id := range []string{"u0", "u1", "u2", "u3", "u4", "u5"} {
		for _, r := range d.standing(now).records {
			if r.key.ID == id {
				text += fmt.Sprintf("%s:%d:%s ", id, r.version, r.status)
			}
		}
	}
	return fmt.Sprintf("%s(%d, %x)", text, d.count, d.hash)
}

// In whatever order, and however often, the same messages come: the outcome is
// the same, and it is what the origin holds.
func TestMergeIsCommutativeAndIdempotent(t *testing.T) {
	now := time.Now()
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 0))
		own, sent := history(random, now)
		var got deviations
		got.reset(testOrigin)
		order := random.Perm(len(sent))
		order = append(order, random.Perm(len(sent))[:random.IntN(len(sent))]...)
		deliver(&got, sent, order, now)
		if g, w := describe(&got, now), describe(own, now); g != w {
			t.Fatalf("seed %d: got %s, want %s", seed, g, w)
		}
	}
}

// Whatever was lost, the origin's whole set makes up for it, and the summary
// tells when that is needed.
func TestWholeSetMakesUpForLoss(t *testing.T) {
	now := time.Now()
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		own, sent := history(random, now)
		var got deviations
		got.reset(testOrigin)
		deliver(&got, sent, random.Perm(len(sent))[:random.IntN(len(sent)+1)], now)
		summary := beat{count: own.count, hash: own.hash}
		if same := describe(&got, now) == describe(own, now); same != got.matches(&summary) {
			t.Fatalf("seed %d: the summary says %t, the records %t", seed, got.matches(&summary), same)
		}
		whole := own.standing(now)
		got.replace(&whole, now)
		if g, w := describe(&got, now), describe(own, now); g != w {
			t.Fatalf("seed %d: got %s, want %s", seed, g, w)
		}
	}
}

// What replace reports is exactly what changed.
func TestReplaceTellsWhatChanged(t *testing.T) {
	now := time.Now()
	var d deviations
	d.reset(testOrigin)
	d.put(testRecord("kept", 1, federation.Unhealthy), now)
	d.put(testRecord("gone", 2, federation.Unhealthy), now)
	d.put(testRecord("later", 9, federation.Unhealthy), now)
	s := set{origin: testOrigin, version: 5, records: []record{
		testRecord("kept", 1, federation.Unhealthy), testRecord("new", 4, federation.Recovering),
	}}
	got := make(map[string]federation.HealthStatus)
	for _, r := range d.replace(&s, now) {
		got[r.key.ID] = r.status
	}
	if len(got) != 2 || got["new"] != federation.Recovering || got["gone"] != federation.HealthUnknown {
		t.Errorf("changed: %v", got)
	}
	if again := d.replace(&s, now); len(again) != 0 {
		t.Errorf("changed again: %v", again)
	}
}

func TestDeviationsExpire(t *testing.T) {
	now := time.Now()
	var d deviations
	d.reset(testOrigin)
	d.put(testRecord("u1", 1, federation.Unhealthy), now)
	d.put(testRecord("u2", 2, federation.Unhealthy), now.Add(2*time.Second))
	if gone := d.expire(now.Add(-time.Second)); len(gone) != 0 {
		t.Errorf("expired early: %v", gone)
	}
	gone := d.expire(now.Add(time.Second))
	if len(gone) != 1 || gone[0].key.ID != "u1" || gone[0].status != federation.HealthUnknown || d.count != 1 {
		t.Errorf("expired %v", gone)
	}
	d.fresh = now.Add(10 * time.Second) // repeated
	if gone := d.expire(now.Add(5 * time.Second)); len(gone) != 0 {
		t.Errorf("expired though repeated: %v", gone)
	}
	if gone := d.expire(now.Add(10 * time.Second)); len(gone) != 1 {
		t.Errorf("did not expire: %v", gone)
	}
	// It may come again, as it was, once its edge is heard again.
	if news, _ := d.put(testRecord("u2", 2, federation.Unhealthy), now.Add(20*time.Second)); !news {
		t.Error("refused after it had expired")
	}
}

// An old record relayed by a third edge does not become young by it.
func TestAgeTravelsWithTheSet(t *testing.T) {
	g := offline(t)
	now := time.Now()
	ttl := g.opts.Timing.RecordTTL()
	s := set{origin: testOrigin, version: 1, age: ttl - time.Second, records: []record{testRecord("u1", 1, federation.Unhealthy)}}
	g.takeMessage(s.append(newMessage(kindSet, g.name)), now)
	p := g.peers["e1"]
	if p.deviations.count != 1 {
		t.Fatal("not taken")
	}
	if age := p.deviations.standing(now.Add(500 * time.Millisecond)).age; age < ttl-time.Second+500*time.Millisecond {
		t.Errorf("passed on as %s old", age)
	}
	g.watchPeer(p, now.Add(1100*time.Millisecond))
	if p.deviations.count != 0 {
		t.Error("not expired a second later")
	}
	s.age = ttl + time.Second
	g.takeMessage(s.append(newMessage(kindSet, g.name)), now)
	if p.deviations.count != 0 {
		t.Error("an expired set was taken")
	}
}

func TestTooManyDeviationsAreRefused(t *testing.T) {
	var d deviations
	d.reset(testOrigin)
	now := time.Now()
	for n := range uint64(maxRecords) {
		if news, full := d.put(testRecord(fmt.Sprint("u", n), n+1, federation.Unhealthy), now); !news || full {
			t.Fatalf("record %d: news %t, full %t", n, news, full)
		}
	}
	if news, full := d.put(testRecord("more", maxRecords+1, federation.Unhealthy), now); news || !full {
		t.Errorf("news %t, full %t", news, full)
	}
	if news, _ := d.put(testRecord("u1", maxRecords+2, federation.HealthUnknown), now); !news {
		t.Error("a withdrawal was refused")
	}
	if news, full := d.put(testRecord("more", maxRecords+3, federation.Unhealthy), now); !news || full {
		t.Errorf("after a withdrawal: news %t, full %t", news, full)
	}
}
