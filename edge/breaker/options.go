// Package breaker stops sending requests to an endpoint that fails most of
// them: a circuit breaker on gobreaker, with a hot path that neither locks nor
// allocates.
package breaker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Bounds and defaults of [Options].
const (
	MaxMinRequests  = 1_000_000
	MinDuration     = 100 * time.Millisecond
	MaxDuration     = time.Hour
	MaxTrials       = 1000
	DefaultTrials   = 5
	minFailureRatio = 0.01
)

// Options describe when a breaker opens and how it closes again.
type Options struct {
	// FailureRatio of a window's finished requests, 0.01 to 1, opens the
	// breaker when it is reached.
	FailureRatio float64
	// MinRequests is how many requests of a window must have finished before
	// the ratio counts, 1 to MaxMinRequests.
	MinRequests int
	// OpenFor is how long nothing passes, MinDuration to MaxDuration.
	OpenFor time.Duration
	// Window is after which time counting begins anew while the breaker is
	// closed, MinDuration to MaxDuration; 0 stands for OpenFor.
	Window time.Duration
	// Trials is how many requests pass half open, and how many of them must
	// succeed in a row to close the breaker, 1 to MaxTrials; 0 stands for
	// DefaultTrials.
	Trials int
}

// Profile returns the options of that name: high-frequency, steady or
// low-frequency, for endpoints with hundreds, some and few requests a second.
func Profile(name string) (o Options, ok bool) {
	switch name {
	case "high-frequency":
		return Options{FailureRatio: 0.8, MinRequests: 20, OpenFor: 30 * time.Second}, true
	case "steady":
		return Options{FailureRatio: 0.6, MinRequests: 10, OpenFor: time.Minute}, true
	case "low-frequency":
		return Options{FailureRatio: 0.4, MinRequests: 5, OpenFor: 2 * time.Minute}, true
	}
	return Options{}, false
}

// Profiles are the names that [Profile] knows.
func Profiles() []string { return []string{"high-frequency", "steady", "low-frequency"} }

// Validate returns nil or a [federation.FieldErrors].
func (o Options) Validate() error {
	var wrong federation.FieldErrors
	refuse := func(field, found, allowed string) {
		wrong = append(wrong, federation.FieldError{Field: field, Found: found, Allowed: allowed})
	}
	// Written so that NaN is refused.
	if !(o.FailureRatio >= minFailureRatio && o.FailureRatio <= 1) {
		refuse("failure_ratio", strconv.FormatFloat(o.FailureRatio, 'g', -1, 64), fmt.Sprintf("%g to 1", minFailureRatio))
	}
	if o.MinRequests < 1 || o.MinRequests > MaxMinRequests {
		refuse("min_requests", strconv.Itoa(o.MinRequests), fmt.Sprintf("1 to %d requests", MaxMinRequests))
	}
	duration := fmt.Sprintf("%v to %v", MinDuration, MaxDuration)
	if o.OpenFor < MinDuration || o.OpenFor > MaxDuration {
		refuse("open_for", o.OpenFor.String(), duration)
	}
	if o.Window != 0 && (o.Window < MinDuration || o.Window > MaxDuration) {
		refuse("window", o.Window.String(), duration)
	}
	if o.Trials < 0 || o.Trials > MaxTrials {
		refuse("trials", strconv.Itoa(o.Trials), fmt.Sprintf("1 to %d requests", MaxTrials))
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// withDefaults fills in what 0 stands for.
func (o Options) withDefaults() Options {
	if o.Window == 0 {
		o.Window = o.OpenFor
	}
	if o.Trials == 0 {
		o.Trials = DefaultTrials
	}
	return o
}
