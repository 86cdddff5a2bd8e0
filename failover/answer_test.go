package failover_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/failover"
)

// sightings reads "az1 primary aad 50 self": an edge, its role, the verdicts of
// Consul, gossip and probe, its weight.
func sightings(t *testing.T, lines []string) (all []failover.Sighting) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		s := failover.Sighting{Entry: failover.Entry{Edge: words[0], Zone: words[0]}, Self: len(words) > 4}
		s.Role, _ = failover.ParseRole(words[1])
		s.Consul, s.Gossip, s.Probe = letter(words[2][0]), letter(words[2][1]), letter(words[2][2])
		weight, err := strconv.Atoi(words[3])
		if err != nil {
			t.Fatal(err)
		}
		s.Weight = weight
		all = append(all, s)
	}
	return all
}

// TestAnswer has a row for each sentence of the rules, and its negative twin.
func TestAnswer(t *testing.T) {
	tests := []struct {
		name  string
		given []string
		want  string
		// doubtful: nothing that is in was found.
		doubtful bool
	}{
		{"what is in, by edge id and weight", []string{"az2 primary aaa 20", "az1 primary aaa 50", "az3 standby daa 50"}, "az1=50 az2=20", false},
		{"a standby that is in, beside", []string{"az1 primary aaa 5", "az2 primary ddd 50", "az3 standby aaa 50"}, "az1=5 az3=50", false},
		{"a standby that is in, alone", []string{"az1 primary ddd 50", "az2 primary ddd 50", "az3 standby aaa 50"}, "az3=50", false},
		{"of what role nobody knows, as consul has it", []string{"az1 primary aaa 50", "az4 later aaa 50", "az5 later uaa 50"}, "az1=50 az4=50", false},

		{"dead by gossip and probe, before consul sees it", []string{"az1 primary add 50", "az2 primary aaa 50"}, "az2=50", false},
		{"dead by gossip alone", []string{"az1 primary ada 50", "az2 primary aaa 50"}, "az1=50 az2=50", false},
		{"dead by probe alone", []string{"az1 primary aad 50", "az2 primary aaa 50"}, "az1=50 az2=50", false},
		{"dead by gossip, and no probe yet", []string{"az1 primary adu 50", "az2 primary aaa 50"}, "az1=50 az2=50", false},
		{"a standby dead by gossip and probe", []string{"az1 primary ddd 50", "az2 primary daa 5", "az3 standby add 50"}, "az2=5", true},
		{"out by consul, whatever else says", []string{"az1 primary daa 50", "az2 primary aaa 50"}, "az2=50", false},

		{"no leader: alive by gossip or probe", []string{"az1 primary uad 50", "az2 primary uda 50"}, "az1=50 az2=50", false},
		{"no leader: dead by both", []string{"az1 primary udd 50", "az2 primary uda 50"}, "az2=50", false},
		{"no leader: unknown by both", []string{"az1 primary uuu 50", "az2 primary uau 50"}, "az2=50", false},
		{"no leader: a standby may be out", []string{"az1 primary uaa 50", "az2 primary udd 50", "az3 standby uaa 50"}, "az1=50", false},
		{"no leader: a standby's own that is in", []string{"az1 primary udd 50", "az2 primary udd 50", "az3 standby aau 50 self"}, "az3=50", false},
		{"no leader: a standby's own that is out", []string{"az1 primary uaa 50", "az2 primary udd 50", "az3 standby dau 50 self"}, "az1=50", false},
		{"its own that is in", []string{"az1 primary aau 50 self", "az2 primary udd 50"}, "az1=50", false},
		{"its own that is out", []string{"az1 primary dau 50 self", "az2 primary aaa 50"}, "az2=50", false},

		{"none is in: signs of life by gossip, probe and consul", []string{"az1 primary dad 10", "az2 primary dda 20", "az4 primary add 30", "az5 primary ddd 40", "az3 standby daa 50"}, "az1=10 az2=20 az4=30", true},
		{"none is in: its own that is ready", []string{"az1 primary dau 5 self", "az2 primary ddd 50"}, "az1=5", true},
		{"none is in: its own that drains", []string{"az1 primary duu 5 self", "az2 primary daa 50"}, "az2=50", true},
		{"no sign of life: every primary, as weighed last", []string{"az1 primary ddd 10", "az2 primary udd 20", "az3 standby uaa 50"}, "az1=10 az2=20", true},
		{"no primary is known: whatever is", []string{"az3 standby duu 50 self", "az4 later ddd 7"}, "az3=50 az4=7", true},
		{"nothing is known", nil, "", true},

		{"weights out of range", []string{"az1 primary aaa 0", "az2 primary aaa -7", "az4 primary aaa 100000"}, "az1=1 az2=1 az4=1000", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := failover.Doubtful(sightings(t, tt.given)); got != tt.doubtful {
				t.Errorf("doubtful: %t", got)
			}
			if got := shown(failover.Answer(sightings(t, tt.given))); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
		})
	}
}

func shown(shares []failover.Share) string {
	var words []string
	for _, s := range shares {
		words = append(words, fmt.Sprintf("%s=%d", s.Edge, s.Weight))
	}
	return strings.Join(words, " ")
}
