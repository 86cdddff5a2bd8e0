package failover_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover"
)

// choices draws from fuzzed bytes; what is not there is 0.
type choices []byte

func (c *choices) pick(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *choices) sighting(id int) failover.Sighting {
	return failover.Sighting{
		Entry: failover.Entry{
			Edge: fmt.Sprintf("edge%d", id), Zone: fmt.Sprintf("az%d", c.pick(4)),
			Role: failover.Role(c.pick(4)), Weight: (c.pick(256) - 20) * 7,
		},
		Consul: failover.Verdict(c.pick(4)), Gossip: failover.Verdict(c.pick(4)), Probe: failover.Verdict(c.pick(4)),
		Wavers: c.pick(8) == 1,
	}
}

// FuzzNext holds any sequence of observations to what is true of all of them.
func FuzzNext(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data := make([]byte, 2000)
		for i := range data {
			data[i] = byte(rng.IntN(256))
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		o := failover.Options{Zone: "az0", Role: failover.Primary, Hold: 2 * time.Second, StepEvery: time.Second, Weight: 1 + c.pick(256)*3, Misses: 1 + c.pick(5)}
		if c.pick(2) == 1 {
			o.Role, o.Primaries = failover.Standby, []string{"az1", "az2"}
		}
		o = o.WithDefaults()
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		var (
			s       failover.State
			in      bool
			changed = epoch // when it last went out, a primary; when it last went in, a standby
			row     int     // observations in a row in which all means have the primaries for dead
			told    int     // and in which Consul has
		)
		obs := failover.Observation{At: epoch}
		for len(c) > 0 {
			gap := time.Duration(c.pick(3)) * o.Heartbeat / 2
			frozen := c.pick(40) == 1
			if frozen {
				gap = 2*time.Duration(o.Misses)*o.Heartbeat + 1
			}
			obs.At = obs.At.Add(gap)
			obs.Ready, obs.Leader = c.pick(8) > 0, c.pick(8) > 0
			obs.Capacity, obs.Healthy = int64(c.pick(20)-1)*10, int64(c.pick(20)-1)*10
			obs.Others = obs.Others[:0]
			doomed := c.pick(3) > 0
			for id := range c.pick(5) {
				other := c.sighting(id)
				if doomed {
					other.Consul, other.Gossip, other.Probe = failover.Dead, failover.Dead, failover.Dead
				}
				obs.Others = append(obs.Others, other)
			}
			next, d := failover.Next(&o, s, &obs)
			if again, same := failover.Next(&o, s, &obs); again != next || same != d {
				t.Fatal("the same arguments, another result")
			}
			s = next
			if frozen {
				in, row, told = false, 0, 0
				changed = obs.At
				if o.Role == failover.Standby {
					changed = epoch.Add(-time.Hour)
				}
			}
			row, told = row+1, told+1
			if !obs.Ready || !obs.Leader || !allDead(obs.Others, o.Primaries, func(s failover.Sighting) bool {
				return s.Consul == failover.Dead && s.Gossip == failover.Dead && s.Probe == failover.Dead
			}) {
				row = 0
			}
			if !obs.Ready || !obs.Leader || !allDead(obs.Others, o.Primaries, func(s failover.Sighting) bool { return s.Consul == failover.Dead }) {
				told = 0
			}
			wavers := slices.ContainsFunc(obs.Others, func(s failover.Sighting) bool { return s.Wavers && slices.Contains(o.Primaries, s.Zone) })
			switch {
			case d.Weight < 1 || d.Weight > o.Weight:
				t.Fatalf("weight %d of %d", d.Weight, o.Weight)
			case d.Reason == "":
				t.Fatal("no reason")
			case d.In && !obs.Ready:
				t.Fatal("in and not ready")
			case d.In && !in && obs.At.Sub(changed) < o.Hold && (o.Role == failover.Primary || changed != epoch):
				t.Fatalf("in again %s after", obs.At.Sub(changed))
			case o.Role == failover.Standby && d.In && !in && (row < 2 || told < o.Misses || wavers && row < 6):
				t.Fatalf("a standby in after %d observations of all means and %d of Consul, of 2 and %d; wavers: %t", row, told, o.Misses, wavers)
			case o.Role == failover.Standby && !d.In && in && obs.Ready && (!obs.Leader || obs.At.Sub(changed) < o.Hold):
				t.Fatal("a standby out before hold, or without a leader")
			}
			if d.In != in && d.In == (o.Role == failover.Standby) {
				changed = obs.At
			}
			in = d.In
		}
	})
}

// allDead reports whether each zone has edges, all of them dead.
func allDead(others []failover.Sighting, zones []string, dead func(failover.Sighting) bool) bool {
	return !slices.ContainsFunc(zones, func(zone string) bool {
		known := false
		for _, s := range others {
			if s.Zone == zone && !dead(s) {
				return true
			}
			known = known || s.Zone == zone
		}
		return !known
	})
}

// FuzzAnswer holds the answer to any sightings to what is true of all of them.
func FuzzAnswer(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 60 {
		data := make([]byte, 6*(n%7))
		for i := range data {
			data[i] = byte(rng.IntN(256))
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		var all []failover.Sighting
		for len(c) > 0 && len(all) < 100 {
			all = append(all, c.sighting(len(all)))
		}
		given := slices.Clone(all)
		answer := failover.Answer(all)
		if (len(answer) == 0) != (len(all) == 0) {
			t.Fatalf("%d shares of %d sightings", len(answer), len(all))
		}
		anyPrimary := slices.ContainsFunc(all, func(s failover.Sighting) bool { return s.Role == failover.Primary })
		anyAlive := slices.ContainsFunc(all, func(s failover.Sighting) bool {
			return s.Role == failover.Primary && (s.Consul == failover.Alive || s.Gossip == failover.Alive || s.Probe == failover.Alive)
		})
		for i, share := range answer {
			if i > 0 && answer[i-1].Edge >= share.Edge {
				t.Fatalf("%s before %s", answer[i-1].Edge, share.Edge)
			}
			n := slices.IndexFunc(all, func(s failover.Sighting) bool { return s.Edge == share.Edge })
			s := all[n]
			switch {
			case share.Weight < 1 || share.Weight > failover.MaxWeight || s.Weight >= 1 && s.Weight <= failover.MaxWeight && share.Weight != s.Weight:
				t.Fatalf("weight %d of %d", share.Weight, s.Weight)
			case anyPrimary && s.Role != failover.Primary && s.Consul != failover.Alive:
				t.Fatalf("%s is answered, which is no primary and not known to be in: %+v", s.Edge, s)
			case anyAlive && s.Consul != failover.Alive && s.Gossip != failover.Alive && s.Probe != failover.Alive:
				t.Fatalf("%s is answered without a sign of life", s.Edge)
			}
		}
		slices.Reverse(all)
		if reversed := shown(failover.Answer(all)); reversed != shown(answer) {
			t.Fatalf("%s, in another order %s", shown(answer), reversed)
		}
		slices.Reverse(all)
		for i := range all {
			if shown([]failover.Share{{Entry: all[i].Entry}}) != shown([]failover.Share{{Entry: given[i].Entry}}) || all[i].Weight != given[i].Weight {
				t.Fatal("the sightings changed")
			}
		}
	})
}
