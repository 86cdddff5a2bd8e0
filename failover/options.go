package failover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Options are what one edge's entry is decided by. Zero fields mean their
// defaults.
type Options struct {
	// Zone is the edge's own; Role what it is for. Both are required.
	Zone string
	Role Role
	// Weight is the full weight of its entry, 1 to MaxWeight. A standby's is
	// also what one primary's is taken to be: the primaries are back when they
	// have as much together. 50.
	Weight int
	// Primaries are the zones that a standby stands in for, at least one; a
	// primary has none.
	Primaries []string
	// Heartbeat is the time between two observations. 500 ms.
	Heartbeat time.Duration
	// Misses is how many heartbeats in a row make a zone's loss, or return,
	// certain: observations here, and probes without an answer for the verdict
	// in [Sighting]. 3.
	Misses int
	// Hold is how long a primary that went out stays out, and how long a
	// standby that went in stays in, at least. 10 s.
	Hold time.Duration
	// Steps are the percentages of its weight that a returning primary gets
	// one after the other, rising. 10, 25, 50, 100.
	Steps []int
	// StepEvery is how long each lasts. 5 s.
	StepEvery time.Duration
}

// WithDefaults returns the options with their defaults in the place of zero
// fields.
func (o Options) WithDefaults() Options {
	o.Weight = cmp.Or(o.Weight, 50)
	o.Heartbeat = cmp.Or(o.Heartbeat, 500*time.Millisecond)
	o.Misses = cmp.Or(o.Misses, 3)
	o.Hold = cmp.Or(o.Hold, 10*time.Second)
	if o.Steps == nil {
		o.Steps = []int{10, 25, 50, 100}
	}
	o.StepEvery = cmp.Or(o.StepEvery, 5*time.Second)
	return o
}

// Validate checks options that have their defaults; the error names every
// field that is wrong.
func (o Options) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	span := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			refuse("failover: %s is %s, allowed %s to %s", name, v, low, high)
		}
	}
	if !federation.ValidName(o.Zone) {
		refuse("failover: zone %s is not a name", federation.Quote(o.Zone))
	}
	switch o.Role {
	case Primary:
		if len(o.Primaries) > 0 {
			refuse("failover: primaries are of a standby, and this is a primary")
		}
	case Standby:
		if len(o.Primaries) == 0 {
			refuse("failover: a standby needs the zones that it stands in for as primaries")
		}
	default:
		refuse("failover: role is %s, allowed primary or standby", o.Role)
	}
	for i, zone := range o.Primaries {
		switch {
		case !federation.ValidName(zone):
			refuse("failover: primary zone %s is not a name", federation.Quote(zone))
		case zone == o.Zone:
			refuse("failover: zone %s stands in for itself", zone)
		case slices.Contains(o.Primaries[:i], zone):
			refuse("failover: primary zone %s is there twice", zone)
		}
	}
	if o.Weight < 1 || o.Weight > MaxWeight {
		refuse("failover: weight is %d, allowed 1 to %d", o.Weight, MaxWeight)
	}
	if o.Misses < 1 || o.Misses > 1000 {
		refuse("failover: misses are %d, allowed 1 to 1000", o.Misses)
	}
	span("heartbeat", o.Heartbeat, 10*time.Millisecond, time.Minute)
	span("hold", o.Hold, o.Heartbeat, 24*time.Hour)
	span("time of a step", o.StepEvery, o.Heartbeat, 24*time.Hour)
	if len(o.Steps) == 0 {
		refuse("failover: no steps, allowed at least one")
	}
	for i, percent := range o.Steps {
		if percent < 1 || percent > 100 || i > 0 && percent <= o.Steps[i-1] {
			refuse("failover: step %d is %d percent, allowed rising ones from 1 to 100", i+1, percent)
		}
	}
	return errors.Join(errs...)
}

func (o *Options) standsInFor(zone string) bool { return slices.Contains(o.Primaries, zone) }
