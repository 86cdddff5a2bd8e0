package fault

import (
	"errors"
	"fmt"
)

// minRate is less than a packet a second, in bytes/s.
const minRate = 1000

// newSlowLink delays packets both ways, bounds their bytes/s, or both.
func newSlowLink(spec Spec, target any) (Fault, error) {
	if spec.Delay == 0 && spec.Rate == 0 {
		return nil, errors.New(`it needs "delay" or "rate"`)
	}
	if spec.Rate > 0 && spec.Rate < minRate {
		return nil, fmt.Errorf("rate is %d bytes/s, allowed are %d and more", spec.Rate, minRate)
	}
	_, from, to, err := sides(&spec, target)
	if err != nil {
		return nil, err
	}
	slowing, err := need[Slowing](target, "links that can be slow")
	if err != nil {
		return nil, err
	}
	how := ""
	if spec.Delay > 0 {
		how += fmt.Sprintf(" by %s", spec.Delay)
	}
	if spec.Rate > 0 {
		how += fmt.Sprintf(" to %d bytes/s", spec.Rate)
	}
	return onLinks(target, "slow "+list(from)+" and "+list(to)+how, ways(from, to, true),
		func(way link) error { return slowing.Slow(way.from, way.to, spec.Delay, spec.Rate) },
		func(way link) error { return slowing.Slow(way.from, way.to, 0, 0) }), nil
}
