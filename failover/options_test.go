package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/failover"
)

func TestOptions(t *testing.T) {
	primary := func(change func(*failover.Options)) failover.Options {
		o := failover.Options{Zone: "az1", Role: failover.Primary}.WithDefaults()
		change(&o)
		return o
	}
	standby := func(primaries ...string) failover.Options {
		return failover.Options{Zone: "az3", Role: failover.Standby, Primaries: primaries}.WithDefaults()
	}
	tests := []struct {
		name string
		opts failover.Options
		want string // of the error; empty: none
	}{
		{"defaults of a primary", primary(func(*failover.Options) {}), ""},
		{"defaults of a standby", standby("az1", "az2"), ""},
		{"bounds", primary(func(o *failover.Options) {
			o.Weight, o.Misses, o.Heartbeat, o.Hold, o.StepEvery, o.Steps = failover.MaxWeight, 1000, 10*time.Millisecond, 10*time.Millisecond, 10*time.Millisecond, []int{1, 100}
		}), ""},
		{"no zone", primary(func(o *failover.Options) { o.Zone = "" }), "zone"},
		{"a zone that is no name", primary(func(o *failover.Options) { o.Zone = "a\nb" }), "is not a name"},
		{"no role", primary(func(o *failover.Options) { o.Role = failover.RoleUnknown }), "role is unknown"},
		{"a primary with primaries", primary(func(o *failover.Options) { o.Primaries = []string{"az2"} }), "primaries are of a standby"},
		{"a standby without", standby(), "needs the zones"},
		{"a primary zone that is no name", standby("az 1"), "is not a name"},
		{"a standby for itself", standby("az3"), "stands in for itself"},
		{"a primary zone twice", standby("az1", "az2", "az1"), "is there twice"},
		{"weight too low", primary(func(o *failover.Options) { o.Weight = -1 }), "weight is -1"},
		{"weight too high", primary(func(o *failover.Options) { o.Weight = failover.MaxWeight + 1 }), "weight is 1001"},
		{"misses too few", primary(func(o *failover.Options) { o.Misses = -1 }), "misses are -1"},
		{"misses too many", primary(func(o *failover.Options) { o.Misses = 1001 }), "misses are 1001"},
		{"heartbeat too short", primary(func(o *failover.Options) { o.Heartbeat = time.Millisecond }), "heartbeat is 1ms"},
		{"heartbeat too long", primary(func(o *failover.Options) { o.Heartbeat, o.Hold, o.StepEvery = 2*time.Minute, time.Hour, time.Hour }), "heartbeat is 2m0s"},
		{"hold below a heartbeat", primary(func(o *failover.Options) { o.Hold = 100 * time.Millisecond }), "hold is 100ms"},
		{"steps too short", primary(func(o *failover.Options) { o.StepEvery = 100 * time.Millisecond }), "step is 100ms"},
		{"no steps", primary(func(o *failover.Options) { o.Steps = []int{} }), "no steps"},
		{"a step of nothing", primary(func(o *failover.Options) { o.Steps = []int{0, 100} }), "step 1 is 0 percent"},
		{"a step above all", primary(func(o *failover.Options) { o.Steps = []int{10, 101} }), "step 2 is 101 percent"},
		{"steps that fall", primary(func(o *failover.Options) { o.Steps = []int{50, 25} }), "step 2 is 25 percent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			switch err := tt.opts.Validate(); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOptionsNameEveryFault(t *testing.T) {
	err := failover.Options{Weight: -1, Misses: -1}.WithDefaults().Validate()
	for _, want := range []string{"zone", "role", "weight", "misses"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestDefaultsKeepWhatIsSet(t *testing.T) {
	o := failover.Options{Weight: 7, Misses: 8, Heartbeat: 9, Hold: 10, Steps: []int{11}, StepEvery: 12}.WithDefaults()
	if o.Weight != 7 || o.Misses != 8 || o.Heartbeat != 9 || o.Hold != 10 || o.Steps[0] != 11 || o.StepEvery != 12 {
		t.Errorf("%+v", o)
	}
}

func TestRoles(t *testing.T) {
	for _, role := range []failover.Role{failover.Primary, failover.Standby} {
		if got, err := failover.ParseRole(role.String()); got != role || err != nil {
			t.Errorf("%s reads as %s, %v", role, got, err)
		}
	}
	for _, text := range []string{"", "unknown", "Primary", "primary "} {
		if got, err := failover.ParseRole(text); got != failover.RoleUnknown || err == nil {
			t.Errorf("%q reads as %s", text, got)
		}
	}
	if failover.Role(200).String() != "unknown" || failover.Verdict(200).String() != "unknown" {
		t.Error("a value of a later version has no name")
	}
	if failover.Alive.String() != "alive" || failover.Dead.String() != "dead" || failover.VerdictUnknown.String() != "unknown" {
		t.Error("verdicts are misnamed")
	}
}
