package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of what a drill may ask for.
const (
	maxDelay = time.Minute
	maxJump  = 10 * 365 * 24 * time.Hour
	maxCount = 100_000
	maxRate  = 10_000 // registrations/s
	minSpace = 1 << 20
	maxCPU   = 10_000 // percent: a hundred CPUs
	maxSeed  = 1 << 53
)

// kind is how faults of one kind are made.
type kind struct {
	// needs and takes are the fields that must and may be given.
	needs, takes []string
	build        func(spec Spec, target any) (Fault, error)
}

// given are the names of the fields that are set, and what each may be.
func (s *Spec) given() map[string]field {
	within := func(found, from, to int64) bool { return found >= from && found <= to }
	all := map[string]field{
		"parts":   {len(s.Parts) > 0, !slices.Contains(s.Parts, ""), "patterns that are not empty"},
		"from":    {len(s.From) > 0, !slices.Contains(s.From, ""), "patterns that are not empty"},
		"to":      {len(s.To) > 0, !slices.Contains(s.To, ""), "patterns that are not empty"},
		"client":  {s.Client, true, ""},
		"zones":   {len(s.Zones) > 0, !slices.Contains(s.Zones, ""), "names that are not empty"},
		"percent": {s.Percent != 0, within(int64(s.Percent), 1, 100), "1 to 100"},
		"delay":   {s.Delay != 0, within(int64(s.Delay), 0, int64(maxDelay)), "0s to " + maxDelay.String()},
		"rate":    {s.Rate != 0, within(s.Rate, 1, 1<<40), "1 and more"},
		"jump":    {s.Jump != 0, within(int64(s.Jump), -int64(maxJump), int64(maxJump)), "ten years either way"},
		"count":   {s.Count != 0, within(int64(s.Count), 1, maxCount), fmt.Sprintf("1 to %d", maxCount)},
		"memory":  {s.Memory != 0, within(s.Memory, minSpace, 1<<50), fmt.Sprintf("bytes, %d and more", minSpace)},
		"cpu":     {s.CPU != 0, within(int64(s.CPU), 1, maxCPU), fmt.Sprintf("1 to %d", maxCPU)},
		"port":    {s.Port != 0, within(int64(s.Port), 1, 65535), "1 to 65535"},
		"binary":  {s.Binary != "", true, ""},
		"seed":    {s.Seed != 0, within(s.Seed, 1, maxSeed), "1 and more"},
		"flaw":    {s.Flaw != "", slices.Contains(Flaws(), s.Flaw), strings.Join(Flaws(), ", ")},
	}
	maps.DeleteFunc(all, func(_ string, f field) bool { return !f.set })
	return all
}

type field struct {
	set, ok bool
	allowed string
}

// check refuses fields out of range, and those that k has no use for.
func (s *Spec) check(k *kind) error {
	given := s.given()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(k.needs, name) && !slices.Contains(k.takes, name) {
			return fmt.Errorf("it has no use for %q; it takes %s", name, strings.Join(slices.Concat(k.needs, k.takes), ", "))
		}
		if f := given[name]; !f.ok {
			return fmt.Errorf("%s is out of range: allowed are %s", name, f.allowed)
		}
	}
	return nil
}

// complete asks for the fields that k cannot do without.
func (s *Spec) complete(k *kind) error {
	given := s.given()
	for _, name := range k.needs {
		if _, ok := given[name]; !ok {
			return fmt.Errorf("it needs %q", name)
		}
	}
	return nil
}
