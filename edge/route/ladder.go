package route

import "github.com/grayfed/grayfed/federation"

// Rung is a step of the ladder.
type Rung uint8

// The rungs, in the order in which a permissive release goes down them. A
// request that got no endpoint ended on none.
const (
	RungNone Rung = iota
	RungCanaryHere
	RungCanaryElsewhere
	RungBaselineHere
	RungBaselineElsewhere
	// RungPanic opens unhealthy endpoints; see [Panic].
	RungPanic
	// RungCount is how many values a Rung has.
	RungCount = iota
)

var rungNames = [RungCount]string{"none", "canary-here", "canary-elsewhere", "baseline-here", "baseline-elsewhere", "panic"}

// String is the name in logs, metrics and the API.
func (r Rung) String() string {
	if int(r) >= len(rungNames) {
		return "none"
	}
	return rungNames[r]
}

// Reason is why a request took its lane or its rung, or got no endpoint.
type Reason uint8

// The reasons.
const (
	ReasonUnknown Reason = iota
	// ReasonUntagged: no tag, so baseline.
	ReasonUntagged
	// ReasonInRelease: the tag's release covers the service.
	ReasonInRelease
	// ReasonNotInRelease: it does not, so baseline.
	ReasonNotInRelease
	// ReasonUnknownTag: the tag is no release's, so baseline.
	ReasonUnknownTag
	// ReasonReleasePaused: so baseline.
	ReasonReleasePaused
	// ReasonTagNotTrusted: the route takes tags from trusted peers only, so
	// baseline.
	ReasonTagNotTrusted
	// ReasonNoCanaryUsable: no canary anywhere is usable; a permissive release
	// went on to the baseline, a strict one ended there.
	ReasonNoCanaryUsable
	// ReasonNoBaselineUsable: instances of the baseline are registered, none
	// is usable.
	ReasonNoBaselineUsable
	// ReasonNoInstance: nothing is registered in any lane of the request.
	ReasonNoInstance
	// ReasonPanic: so many endpoints are unhealthy that the judgement itself
	// is doubted, and every rung was empty.
	ReasonPanic
	// ReasonFromPeer: another edge took the decision.
	ReasonFromPeer
	reasonCount = iota
)

var reasonNames = [reasonCount]string{
	"unknown", "untagged", "in-release", "not-in-release", "unknown-tag", "release-paused", "tag-not-trusted",
	"no-canary-usable", "no-baseline-usable", "no-instance", "panic", "from-peer",
}

// String is the name in logs, metrics and the API.
func (r Reason) String() string {
	if int(r) >= len(reasonNames) {
		return "unknown"
	}
	return reasonNames[r]
}

// ValidTag reports whether a tag is well formed: it could name a release.
func ValidTag(tag string) bool { return federation.ValidName(tag) }

// Ask is what of a request its lane depends on.
type Ask struct {
	// Tag is the release tag, well formed; "" when the request has none. It
	// is not kept.
	Tag string
	// TagCounts: the route's tag mode admits this request's tag.
	TagCounts bool
}

// Decision is the lane, or the lanes, of one request.
type Decision struct {
	// Lane is tried first, never nil.
	Lane *Lane
	// Fallback is the baseline behind the canaries of a permissive release,
	// else nil.
	Fallback *Lane
	// Reason is why Lane was taken.
	Reason Reason
	// Canary: Lane is a release's subset.
	Canary bool
	// Release is the name of that release, else "".
	Release string
}

// Decide finds the lane of a request. It does not allocate.
func (p *Plan) Decide(a Ask) Decision {
	d := Decision{Lane: p.baseline, Reason: ReasonUntagged}
	if a.Tag == "" {
		return d
	}
	c, covered := p.covered[a.Tag]
	switch {
	case !covered && !p.known(a.Tag):
		d.Reason = ReasonUnknownTag
	case !covered:
		d.Reason = ReasonNotInRelease
	case c.release.Paused:
		d.Reason = ReasonReleasePaused
	case !a.TagCounts:
		d.Reason = ReasonTagNotTrusted
	default:
		d = Decision{Lane: c.lane, Reason: ReasonInRelease, Canary: true, Release: c.release.Name}
		if c.release.Fallback == federation.Permissive {
			d.Fallback = p.baseline
		}
	}
	return d
}

// Named is the lane of a release, or the baseline's for "", as another edge has
// decided: there is no fallback from it. ok is false when the release covers the
// service here no more, or is paused.
func (p *Plan) Named(release string) (d Decision, ok bool) {
	d = Decision{Lane: p.baseline, Reason: ReasonFromPeer}
	if release == "" {
		return d, true
	}
	c, covered := p.covered[release]
	if !covered || c.release.Paused {
		return d, false
	}
	d.Lane, d.Canary, d.Release = c.lane, true, release
	return d, true
}

// ReasonAt is what to tell of a request that got its endpoint on the given
// rung; RungNone stands for none got.
func (d *Decision) ReasonAt(rung Rung) Reason {
	switch rung {
	case RungPanic:
		return ReasonPanic
	case RungBaselineHere, RungBaselineElsewhere:
		if d.Canary {
			return ReasonNoCanaryUsable
		}
	case RungNone:
		switch {
		case d.Canary && d.Fallback == nil:
			return ReasonNoCanaryUsable
		case len(d.Lane.Groups) == 0 && (d.Fallback == nil || len(d.Fallback.Groups) == 0):
			return ReasonNoInstance
		}
		return ReasonNoBaselineUsable
	case RungCanaryHere, RungCanaryElsewhere:
	}
	return d.Reason
}

// Ladder walks the groups of a decision in the order in which they are tried.
// It walks groups without an endpoint too, so that it can be told why they
// were passed over.
type Ladder struct {
	lane, next *Lane
	canary     bool // lane is a release's
	panicking  bool
	point      uint32
	avoid      string // zone put behind the others of its lane; "": none

	at       int // -1: the first group is to come; then the lane's, then the deferred one
	first    int // index of the group that the point falls on, -1: none
	deferred int // index of the group in the zone to avoid, -1: none
}

// Ladder walks first the group that the point falls on by the groups' shares,
// then the lane's others in ladder order, then the fallback's in the same way.
// The point is uniform from 0 to 65535; higher bits are ignored.
func (d *Decision) Ladder(point uint32) Ladder { return d.LadderAvoiding(point, "") }

// LadderAvoiding walks as [Decision.Ladder] does, but each lane's group of the
// given zone comes after the lane's others: a second attempt goes to another
// zone, yet never to the fallback for it.
func (d *Decision) LadderAvoiding(point uint32, zone string) Ladder {
	l := Ladder{next: d.Fallback, canary: d.Canary, point: point, avoid: zone}
	l.enter(d.Lane)
	return l
}

// PanicLadder walks the lane's groups for their Unhealthy endpoints, in ladder
// order, and never the fallback's: panic stays within the tag.
func (d *Decision) PanicLadder() Ladder {
	return Ladder{lane: d.Lane, canary: d.Canary, panicking: true, first: -1, deferred: -1}
}

func (l *Ladder) enter(lane *Lane) {
	l.lane, l.at, l.first, l.deferred = lane, -1, lane.first(l.point), -1
	if l.avoid == "" {
		return
	}
	for i, g := range lane.Groups {
		if g.Zone == l.avoid {
			l.deferred = i
		}
	}
	if l.first == l.deferred {
		l.first = -1
	}
}

// Next returns the next group and the rung it is on; ok is false after the
// last one.
func (l *Ladder) Next() (g *Group, rung Rung, ok bool) {
	for {
		groups := l.lane.Groups
		at := l.at
		l.at++
		switch {
		case at < 0 && l.first >= 0:
			return groups[l.first], l.rung(groups[l.first]), true
		case at < 0:
		case at < len(groups):
			if at != l.first && at != l.deferred {
				return groups[at], l.rung(groups[at]), true
			}
		case at == len(groups) && l.deferred >= 0:
			return groups[l.deferred], l.rung(groups[l.deferred]), true
		case l.next != nil:
			l.canary = false
			l.enter(l.next)
			l.next = nil
		default:
			return nil, RungNone, false
		}
	}
}

func (l *Ladder) rung(g *Group) Rung {
	switch {
	case l.panicking:
		return RungPanic
	case l.canary && g.Here:
		return RungCanaryHere
	case l.canary:
		return RungCanaryElsewhere
	case g.Here:
		return RungBaselineHere
	}
	return RungBaselineElsewhere
}

// Panic reports whether so few of the instances that this observer sees are
// healthy that its judgement is doubted and unhealthy endpoints are opened, once
// every rung is empty. The threshold is the percentage of healthy ones below
// which that holds; 0 means never. (Envoy's panic threshold, healthy_panic_threshold,
// whose default is 50.)
func Panic(instances, unhealthy, thresholdPercent int) bool {
	healthy := int64(instances) - int64(unhealthy)
	return instances > 0 && healthy*100 < int64(thresholdPercent)*int64(instances)
}
