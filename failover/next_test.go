package failover_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover"
)

// scene plays a script against Next. Each line is a number of heartbeats, what
// changes before them, and the decision that each of them must come to:
//
//	20 ready=1 : out 5
//
// Verdicts are of Consul, gossip and probe: a for alive, d for dead, u for
// unknown; none: no such edge is known. gap is the time before the line's first
// heartbeat instead of 500 ms.
type scene struct {
	opts   failover.Options
	state  failover.State
	obs    failover.Observation
	others map[string]*failover.Sighting
}

func newScene(role failover.Role) *scene {
	s := &scene{opts: failover.Options{Zone: "az3", Role: role}, others: make(map[string]*failover.Sighting)}
	if role == failover.Standby {
		s.opts.Primaries = []string{"az1", "az2"}
	}
	s.opts = s.opts.WithDefaults()
	s.obs = failover.Observation{At: epoch, Ready: true, Capacity: 100, Healthy: 100, Leader: true}
	return s
}

func (s *scene) play(t *testing.T, script string) {
	t.Helper()
	for n, line := range strings.Split(strings.TrimSpace(script), "\n") {
		given, want, _ := strings.Cut(strings.TrimSpace(line), " : ")
		words := strings.Fields(given)
		beats, err := strconv.Atoi(words[0])
		if err != nil {
			t.Fatal(err)
		}
		gap := s.opts.Heartbeat
		for _, word := range words[1:] {
			s.change(t, word, &gap)
		}
		for beat := range beats {
			s.obs.At, gap = s.obs.At.Add(gap), s.opts.Heartbeat
			s.obs.Others = s.obs.Others[:0]
			for _, other := range s.others {
				s.obs.Others = append(s.obs.Others, *other)
			}
			var d failover.Decision
			s.state, d = failover.Next(&s.opts, s.state, &s.obs)
			got := fmt.Sprintf("out %d", d.Weight)
			if d.In {
				got = fmt.Sprintf("in %d", d.Weight)
			}
			if got != want {
				t.Fatalf("line %d, %q, heartbeat %d: %s, want %s (%s)", n+1, line, beat+1, got, want, d.Reason)
			}
			if d.Reason == "" {
				t.Fatalf("line %d, %q, heartbeat %d: no reason", n+1, line, beat+1)
			}
		}
	}
}

func (s *scene) change(t *testing.T, word string, gap *time.Duration) {
	t.Helper()
	key, value, _ := strings.Cut(word, "=")
	number, _ := strconv.Atoi(value)
	switch key {
	case "ready":
		s.obs.Ready = number == 1
	case "leader":
		s.obs.Leader = number == 1
	case "capacity":
		s.obs.Capacity = int64(number)
	case "healthy":
		s.obs.Healthy = int64(number)
	case "gap":
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatal(err)
		}
		*gap = d
	default: // an edge: az1, or az1b, another of the same zone
		if value == "none" {
			delete(s.others, key)
			return
		}
		value, wavers := strings.CutSuffix(value, "~")
		verdicts, weight, _ := strings.Cut(value, "*")
		other := &failover.Sighting{Entry: failover.Entry{Edge: key, Zone: key[:3], Role: failover.Primary, Weight: 50}}
		other.Wavers = wavers
		other.Consul, other.Gossip, other.Probe = letter(verdicts[0]), letter(verdicts[1]), letter(verdicts[2])
		if weight != "" {
			other.Weight, _ = strconv.Atoi(weight)
		}
		s.others[key] = other
	}
}

func letter(c byte) failover.Verdict {
	return failover.Verdict(strings.IndexByte("uad", c))
}

// TestNext has a row for each sentence of the rules, and its negative twin.
func TestNext(t *testing.T) {
	const warm = "20 : out 5\n 10 : in 5\n 10 : in 13\n 10 : in 25\n 30 : in 50\n"
	primary := []struct{ name, script string }{
		{"an edge that starts is held out, then climbs by steps", "20 : out 5\n 10 : in 5\n 10 : in 13\n 10 : in 25\n 100 : in 50"},
		{"an edge that starts and is not ready stays out", "100 ready=0 : out 5"},
		{"a primary that is not ready goes out at once", warm + "1 ready=0 : out 5"},
		{"a primary does not care for others", warm + "60 leader=0 az1=ddd az2=ddd : in 50\n 60 leader=1 az1=aaa : in 50"},

		{"what went out stays out for hold, then climbs", warm + "1 ready=0 : out 5\n 19 ready=1 : out 5\n 10 : in 5\n 10 : in 13\n 10 : in 25\n 1 : in 50"},
		{"hold counts from going out, not from being ready", warm + "40 ready=0 : out 5\n 1 ready=1 : in 5"},
		{"going out while it climbs holds it again", "20 : out 5\n 10 : in 5\n 1 : in 13\n 1 ready=0 : out 5\n 19 ready=1 : out 5\n 10 : in 5\n 1 : in 13"},

		{"capacity gone for three heartbeats takes it out", warm + "2 healthy=0 : in 1\n 20 : out 1"},
		{"capacity gone for two does not", warm + "2 healthy=0 : in 1\n 8 healthy=100 : in 1\n 1 : in 50"},
		{"capacity gone for two, twice, does not", warm + "2 healthy=0 : in 1\n 1 healthy=100 : in 1\n 2 healthy=0 : in 1\n 1 healthy=100 : in 1"},
		{"capacity that never was is not lost", warm + "60 capacity=0 healthy=0 : in 50"},
		{"a zone without capacity does not come back", warm + "2 healthy=0 : in 1\n 60 : out 1\n 1 healthy=100 : in 5"},

		{"the weight is 1.4 times the usable part", warm + "1 healthy=50 : in 35"},
		{"the weight is never above the full one", warm + "60 healthy=72 : in 50\n 60 healthy=300 : in 50"},
		{"the weight is never below 1", warm + "60 healthy=1 : in 1"},
		{"capacity below nothing is none", warm + "2 healthy=-5 : in 1\n 1 : out 1"},
		{"a change of less than a tenth is not published", warm + "60 healthy=66 : in 50"},
		{"a change of a tenth is", warm + "60 healthy=64 : in 45"},
		{"nor is a small rise", warm + "20 healthy=64 : in 45\n 60 healthy=68 : in 45"},
		{"but for the one to the full weight", warm + "20 healthy=50 : in 35\n 20 healthy=66 : in 46\n 60 healthy=72 : in 50"},
		{"the weight falls at once and rises once every step", warm + "1 healthy=60 : in 42\n 1 healthy=40 : in 28\n 9 healthy=100 : in 28\n 1 : in 50"},
		{"a climbing zone with less capacity stops at what it has", "20 healthy=30 : out 5\n 10 : in 5\n 10 : in 13\n 60 : in 21"},

		{"a frozen edge starts anew", warm + "1 gap=3100ms : out 5\n 19 : out 5\n 1 : in 5"},
		{"a late heartbeat is not a freeze", warm + "60 gap=3s : in 50"},
		{"a clock set back does not prolong a hold", warm + "1 ready=0 : out 5\n 1 ready=1 gap=-1h : out 5\n 19 : out 5\n 1 : in 5"},
		{"a clock set forward does not end it", warm + "1 ready=0 : out 5\n 1 ready=1 gap=1h : out 5\n 19 : out 5\n 1 : in 5"},
	}
	// In and out, with hold served.
	const dead = "2 az1=ddd az2=ddd : out 50\n 1 : in 50\n"
	standby := []struct{ name, script string }{
		{"death agreed on puts it in, once consul has said so three times", dead},
		{"once does not", "1 az1=ddd az2=ddd : out 50\n 60 az1=aaa : out 50"},
		{"once and again does not", "1 az1=ddd az2=ddd : out 50\n 1 az2=dda : out 50\n 1 az2=ddd : out 50\n 1 : in 50"},
		{"what consul says for a moment does not", "60 az1=ddd az2=add : out 50\n 1 az2=ddd : out 50\n 60 az2=add : out 50"},
		{"nor what a leader that is gone again said", "2 az1=ddd az2=ddd : out 50\n 1 leader=0 : out 50\n 2 leader=1 : out 50\n 1 : in 50"},
		{"consul's word is the last: it must say so three times", "60 az1=add az2=add : out 50\n 2 az1=ddd az2=ddd : out 50\n 1 : in 50"},
		{"consul's word is first: two agreements are enough", "60 az1=dad az2=dda : out 50\n 1 az1=ddd az2=ddd : out 50\n 1 : in 50"},
		{"consul's word on one of them is not enough", "60 az1=ddd az2=add : out 50\n 2 az2=ddd : out 50\n 1 : in 50"},
		{"while consul wavers, all must agree for 3 s", "5 az1=ddd az2=ddd~ : out 50\n 1 : in 50"},
		{"agreement of before counts when consul comes to waver", "1 az1=ddd az2=ddd : out 50\n 4 az2=ddd~ : out 50\n 1 : in 50"},
		{"of a zone that it does not stand in for it may", "2 az1=ddd az2=ddd az4=ddd~ : out 50\n 1 : in 50"},
		{"one primary alone does not", "60 az1=ddd az2=aaa : out 50"},
		{"one of two edges of a zone is enough to keep it out", "60 az1=ddd az2=ddd az2b=daa : out 50\n 1 az2b=ddd : out 50\n 1 : in 50"},
		{"a zone without any known edge keeps it out", "60 az1=ddd : out 50\n 2 az2=ddd : out 50\n 1 : in 50"},
		{"nothing known at all keeps it out", "60 : out 50"},
		{"a zone that it does not stand in for changes nothing", "2 az1=ddd az2=ddd az4=aaa : out 50\n 1 : in 50"},
		{"without a leader it stays out", "60 leader=0 az1=ddd az2=ddd : out 50\n 2 leader=1 : out 50\n 1 : in 50"},
		{"without a leader it stays in", dead + "60 leader=0 az1=aaa az2=aaa : in 50\n 2 leader=1 : in 50\n 1 : out 50"},
		{"not ready it stays out", "60 ready=0 az1=ddd az2=ddd : out 50\n 2 ready=1 : out 50\n 1 : in 50"},
		{"not ready it does not count", "2 az1=ddd az2=ddd : out 50\n 1 ready=0 : out 50\n 2 ready=1 : out 50\n 1 : in 50"},
		{"not ready it goes out at once", dead + "1 ready=0 : out 50"},

		{"it stays in for hold", dead + "19 az1=aaa az2=aaa : in 50\n 60 : out 50"},
		{"it stays while the primaries climb", dead + "60 az1=aaa*24 az2=aaa*25 : in 50\n 2 az1=aaa*25 : in 50\n 1 : out 50"},
		{"one primary with its full weight is enough", dead + "30 : in 50\n 2 az1=aaa*50 : in 50\n 1 : out 50"},
		{"they must be back for three heartbeats", dead + "30 : in 50\n 2 az1=aaa : in 50\n 1 az1=daa : in 50\n 2 az1=aaa : in 50\n 1 : out 50"},
		{"a primary that is alive but out is not back", dead + "60 az1=daa az2=daa : in 50"},
		{"nor is one that consul has not missed yet", dead + "60 az1=add az2=add : in 50"},
		{"but one means against it is no matter", dead + "30 : in 50\n 2 az1=ada : in 50\n 1 : out 50"},
		{"other zones are not what it waits for", dead + "60 az4=aaa : in 50"},
		{"a weight out of range counts as the nearest in it", dead + "30 az1=aaa*-100 az2=aaa*48 : in 50\n 2 az2=aaa*49 : in 50\n 1 : out 50"},

		{"out again, it may go in at once", dead + "19 az1=aaa az2=aaa : in 50\n 1 : out 50\n 2 az1=ddd az2=ddd : out 50\n 1 : in 50"},
		{"but once every hold", dead + "1 ready=0 : out 50\n 18 ready=1 : out 50\n 1 : in 50"},

		{"its weight follows its capacity", dead + "1 healthy=50 : in 35"},
		{"but without any it stays, as nobody else is there", dead + "60 healthy=0 : in 1"},
		{"frozen, it forgets", dead + "1 gap=3100ms : out 50\n 1 : out 50\n 1 : in 50"},
		{"frozen, it does not count on from before", "2 az1=ddd az2=ddd : out 50\n 1 gap=3100ms : out 50\n 1 : out 50\n 1 : in 50"},
	}
	for _, tt := range primary {
		t.Run("primary/"+tt.name, func(t *testing.T) { newScene(failover.Primary).play(t, tt.script) })
	}
	for _, tt := range standby {
		t.Run("standby/"+tt.name, func(t *testing.T) { newScene(failover.Standby).play(t, tt.script) })
	}
}

// TestStandbyAsksAll has every combination of verdicts on a primary beside a
// dead one: all but three times dead keep the standby out.
func TestStandbyAsksAll(t *testing.T) {
	for _, c := range "uad" {
		for _, g := range "uad" {
			for _, p := range "uad" {
				verdicts := string([]rune{c, g, p})
				want := "60 az1=ddd az2=" + verdicts + " : out 50"
				if verdicts == "ddd" {
					want = "2 az1=ddd az2=ddd : out 50\n 1 : in 50"
				}
				t.Run(verdicts, func(t *testing.T) { newScene(failover.Standby).play(t, want) })
			}
		}
	}
}

// TestReasons names what a person sees in the decision.
func TestReasons(t *testing.T) {
	tests := []struct {
		role   failover.Role
		script string
		want   string
	}{
		{failover.Primary, "1 : out 5", "held out before it comes back"},
		{failover.Primary, "1 ready=0 : out 5", "not ready, or draining"},
		{failover.Primary, "20 : out 5\n 1 : in 5", "climbing back"},
		{failover.Primary, "20 : out 5\n 10 : in 5\n 10 : in 13\n 10 : in 25\n 1 : in 50", "serving"},
		{failover.Primary, "20 healthy=50 : out 5\n 10 : in 5\n 10 : in 13\n 10 : in 25\n 1 : in 35", "serving with less capacity"},
		{failover.Primary, "3 healthy=0 : out 1", "no instance of the zone is usable"},
		{failover.Standby, "1 : out 50", "standing by"},
		{failover.Standby, "1 leader=0 : out 50", "standing by: no consul leader"},
		{failover.Standby, "1 ready=0 : out 50", "not ready, or draining"},
		{failover.Standby, "2 az1=ddd az2=ddd : out 50\n 1 : in 50", "standing in for the primaries"},
	}
	for _, tt := range tests {
		s := newScene(tt.role)
		s.play(t, tt.script)
		if _, d := failover.Next(&s.opts, s.state, &s.obs); d.Reason != tt.want {
			t.Errorf("%s: reason %q, want %q", tt.script, d.Reason, tt.want)
		}
	}
}

// TestStepsThatEndBelow reach the full weight after the last.
func TestStepsThatEndBelow(t *testing.T) {
	s := newScene(failover.Primary)
	s.opts.Steps = []int{20}
	s.play(t, "20 : out 10\n 10 : in 10\n 1 : in 50")
}

// TestShortHold has each change of a standby need its own observations.
func TestShortHold(t *testing.T) {
	s := newScene(failover.Standby)
	s.opts.Hold = s.opts.Heartbeat
	s.play(t, `
		2 az1=ddd az2=ddd : out 50
		1 : in 50
		2 az1=aaa : in 50
		1 : out 50
		2 az1=ddd : out 50
		1 : in 50`)
}

func TestNextChangesNothingItIsGiven(t *testing.T) {
	s := newScene(failover.Standby)
	s.play(t, "2 az1=ddd az2=ddd : out 50")
	before, others := s.state, slices.Clone(s.obs.Others)
	s.obs.At = s.obs.At.Add(s.opts.Heartbeat)
	first, d1 := failover.Next(&s.opts, s.state, &s.obs)
	second, d2 := failover.Next(&s.opts, before, &s.obs)
	if first != second || d1 != d2 || !d1.In {
		t.Errorf("the same arguments, %+v and %+v", d1, d2)
	}
	for i := range others {
		if s.obs.Others[i].Edge != others[i].Edge || s.obs.Others[i].Consul != others[i].Consul {
			t.Error("the sightings changed")
		}
	}
}
