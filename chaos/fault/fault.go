// Package fault breaks parts of a federation and mends them, one kind of fault
// a file. What it breaks is a target that it knows by small interfaces alone:
// the lab on this machine, or one that brings commands of its own.
package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrUnsupported is wrapped by the errors of a target that cannot do a fault.
var ErrUnsupported = errors.New("the target cannot do this fault")

// Fault is one thing that is broken and mended. It is for one caller at a time.
type Fault interface {
	// Break breaks it. After an error it may be broken in part, until Mend.
	Break(ctx context.Context) error
	// Mend undoes exactly what Break did, in reverse order. It goes on after
	// an error and joins them; what could not be undone is tried again by the
	// next Mend. It does nothing when there is nothing to undo.
	Mend(ctx context.Context) error
	// String says in a few words what is broken, and where.
	String() string
}

// Effective is of faults that can tell whether they took effect. A fault that
// did not proves nothing about what was to survive it.
type Effective interface {
	// Effect returns nil when the fault took effect, else what is missing. It
	// is called after Break and before Mend, and may wait for it until ctx ends.
	Effect(ctx context.Context) error
}

// Spec is a fault as a drill's YAML has it. A field that its kind has no use
// for must be left out.
type Spec struct {
	// Kind is one of [Kinds].
	Kind string `yaml:"kind"`
	// Parts are the processes, as patterns of path.Match over the target's
	// parts: "az1/*", "*/edge", "*/user-service v2-beta".
	Parts []string `yaml:"parts"`
	// From and To are patterns over the target's nodes. An empty To means all
	// nodes that are not in From.
	From []string `yaml:"from"`
	To   []string `yaml:"to"`
	// Client includes where the load comes from in To.
	Client bool `yaml:"client"`
	// Zones are names of zones, or "*" for all that have an edge.
	Zones []string `yaml:"zones"`
	// Percent is of packets or of requests, 1 to 100.
	Percent int `yaml:"percent"`
	// Delay is how much slower, one way for links; for restart: how long down.
	Delay time.Duration `yaml:"delay"`
	// Rate is bytes/s for slow-link, registrations/s for registration-storm.
	Rate int64 `yaml:"rate"`
	// Jump is added to the wall clock; it may be negative.
	Jump time.Duration `yaml:"jump"`
	// Count is how many instances register in all.
	Count int `yaml:"count"`
	// Memory is how many bytes each process may allocate from then on.
	Memory int64 `yaml:"memory"`
	// CPU is percent of one CPU for each process.
	CPU int `yaml:"cpu"`
	// Port is that of the edges' gossip.
	Port int `yaml:"port"`
	// Binary is the path of another version of the program.
	Binary string `yaml:"binary"`
	// Seed is what the cuts of asymmetric-partition are drawn from, 1 and more.
	// There From are the nodes of the primaries, and To those of the standbys.
	Seed int64 `yaml:"seed"`
	// Flaw is how a pushed configuration is bad; see [Flaws].
	Flaw string `yaml:"flaw"`
}

// Commands is a target that may do a fault by means of its own; it is asked
// first.
type Commands interface {
	Command(spec Spec) (Fault, bool)
}

// Kinds are the kinds of fault, sorted.
func Kinds() []string {
	return slices.Sorted(maps.Keys(kinds()))
}

// New checks spec against target and breaks nothing. An unknown kind, a field
// that is missing, out of range or of no use to the kind, and a pattern that
// matches nothing are errors that name it; a target that lacks what the kind
// needs is [ErrUnsupported].
func New(spec Spec, target any) (Fault, error) {
	k, known := kinds()[spec.Kind]
	if !known {
		return nil, fmt.Errorf("fault kind %q is not known; known are %s", spec.Kind, strings.Join(Kinds(), ", "))
	}
	if err := spec.check(&k); err != nil {
		return nil, fmt.Errorf("fault %s: %w", spec.Kind, err)
	}
	if commands, ok := target.(Commands); ok {
		if f, ok := commands.Command(spec); ok {
			return f, nil
		}
	}
	if err := spec.complete(&k); err != nil {
		return nil, fmt.Errorf("fault %s: %w", spec.Kind, err)
	}
	f, err := k.build(spec, target)
	if err != nil {
		return nil, fmt.Errorf("fault %s: %w", spec.Kind, err)
	}
	return f, nil
}

// kinds are how each kind of fault is made.
func kinds() map[string]kind {
	return map[string]kind{
		"asymmetric-partition": {needs: []string{"from", "to", "seed"}, build: newAsymmetricPartition},
		"kill":                 {needs: []string{"parts"}, build: newKill},
		"freeze":               {needs: []string{"parts"}, build: newFreeze},
		"restart":              {needs: []string{"parts"}, takes: []string{"delay"}, build: newRestart},
		"partition":            {needs: []string{"from"}, takes: []string{"to", "client"}, build: newPartition},
		"one-way-partition":    {needs: []string{"from"}, takes: []string{"to", "client"}, build: newOneWayPartition},
		"loss":                 {needs: []string{"from", "percent"}, takes: []string{"to", "client"}, build: newLoss},
		"slow-link":            {needs: []string{"from"}, takes: []string{"to", "client", "delay", "rate"}, build: newSlowLink},
		"gossip-loss":          {needs: []string{"from", "port"}, takes: []string{"to"}, build: newGossipLoss},
		"etcd-leader-kill":     {build: newEtcdLeaderKill},
		"etcd-gone":            {build: newEtcdGone},
		"consul-gone":          {build: newConsulGone},
		"subset-crash":         {needs: []string{"parts"}, build: newSubsetCrash},
		"subset-errors":        {needs: []string{"parts", "percent"}, build: newSubsetErrors},
		"subset-slow":          {needs: []string{"parts", "delay"}, build: newSubsetSlow},
		"certificate-expired":  {needs: []string{"zones"}, build: newCertificateExpired},
		"bad-configuration":    {needs: []string{"zones", "flaw"}, build: newBadConfiguration},
		"registration-storm":   {needs: []string{"zones", "count", "rate"}, build: newRegistrationStorm},
		"clock-jump":           {needs: []string{"zones", "jump"}, build: newClockJump},
		"memory-squeeze":       {needs: []string{"parts", "memory"}, build: newMemorySqueeze},
		"cpu-squeeze":          {needs: []string{"parts", "cpu"}, build: newCPUSqueeze},
		"rolling-upgrade":      {needs: []string{"binary"}, takes: []string{"parts", "delay"}, build: newRollingUpgrade},
	}
}
