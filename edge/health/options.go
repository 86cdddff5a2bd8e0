package health

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

// Probing is how endpoints are asked. Zero fields mean their defaults.
type Probing struct {
	// Path is asked of an endpoint that declares none, nor its service.
	// "/healthz".
	Path string
	// Interval is the time between two probes of one endpoint, jittered by a
	// tenth either way. 1 s.
	Interval time.Duration
	// Timeout bounds one probe. 2 s.
	Timeout time.Duration
	// Failures in a row make an endpoint unhealthy. 3.
	Failures int
	// Successes in a row make it well again. 2, as HAProxy's "rise": one
	// could be luck.
	Successes int
	// Concurrency bounds the probes under way; what is due beyond waits.
	// 256.
	Concurrency int
	// ConnectOnly makes a completed connection a success and asks nothing.
	ConnectOnly bool
	// TLS is used for endpoints that speak TLS; nil: the system's roots.
	TLS *tls.Config
	// Dial connects; nil: a plain dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Ejection is when observed failures take an endpoint out. Zero fields mean
// their defaults. There is no highest share of ejected endpoints: when too many
// are out, the ladder's panic threshold opens them again, and it judges over
// all that this edge sees instead of one service.
type Ejection struct {
	// ConnectFailures in a row eject. 3.
	ConnectFailures int
	// GatewayFailures in a row eject: answers 502, 503, 504 and requests
	// that broke off. 5, as Envoy's consecutive_gateway_failure.
	GatewayFailures int
	// WindowPercent of failures in the last minute eject, when there were
	// MinRequests or more: what comes between successes never makes a row.
	// 15 (the complement of Envoy's failure_percentage_threshold) and 20.
	WindowPercent, MinRequests int
	// Base and Max bound how long an ejection lasts: Base times the number
	// of ejections of late, at most Max. One is forgiven for each Base
	// without another. 30 s and 300 s (Envoy: base_ejection_time,
	// max_ejection_time).
	Base, Max time.Duration
}

// Recovery is how an endpoint comes back. Zero fields mean their defaults.
type Recovery struct {
	// Steps are the percentages of its weight that it gets one after the
	// other, before all of it. 10, 25, 50, 75.
	Steps []uint8
	// Step is how long each lasts. 2500 ms, so all of them 10 s.
	Step time.Duration
}

// Options configure a [Monitor].
type Options struct {
	// Self is this edge's id, Zone its zone, Incarnation its life: they are
	// the observer of the records.
	Self, Zone  string
	Incarnation uint64

	Probing  Probing
	Ejection Ejection
	Recovery Recovery

	// RefreshInterval is how often a record is repeated while its endpoint
	// is watched. 2 s.
	RefreshInterval time.Duration
	// Sink gets this edge's own evidence: changes at once, the rest once
	// every refresh interval, healthy ones too. It is called from the
	// goroutine of Run, with a slice that is its own to keep. Records of one
	// endpoint come in the order of Seq.
	Sink func([]federation.HealthRecord)

	Log *slog.Logger
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
	// Rand gives numbers in [0, 1) for jitter; nil: math/rand/v2.
	Rand func() float64

	// probe replaces the real probe in tests of time.
	probe func(context.Context, *federation.Instance, Check) error
}

func (o Options) withDefaults() Options {
	p, e, r := &o.Probing, &o.Ejection, &o.Recovery
	p.Path = cmp.Or(p.Path, "/healthz")
	p.Interval = cmp.Or(p.Interval, time.Second)
	p.Timeout = cmp.Or(p.Timeout, 2*time.Second)
	p.Failures = cmp.Or(p.Failures, 3)
	p.Successes = cmp.Or(p.Successes, 2)
	p.Concurrency = cmp.Or(p.Concurrency, 256)
	if p.Dial == nil {
		p.Dial = (&net.Dialer{}).DialContext
	}
	e.ConnectFailures = cmp.Or(e.ConnectFailures, 3)
	e.GatewayFailures = cmp.Or(e.GatewayFailures, 5)
	e.WindowPercent = cmp.Or(e.WindowPercent, 15)
	e.MinRequests = cmp.Or(e.MinRequests, 20)
	e.Base = cmp.Or(e.Base, 30*time.Second)
	e.Max = cmp.Or(e.Max, 300*time.Second)
	if r.Steps == nil {
		r.Steps = []uint8{10, 25, 50, 75}
	}
	r.Step = cmp.Or(r.Step, 2500*time.Millisecond)
	o.RefreshInterval = cmp.Or(o.RefreshInterval, 2*time.Second)
	if o.Sink == nil {
		o.Sink = func([]federation.HealthRecord) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o
}

// validate checks options that have their defaults.
func (o Options) validate() error {
	var errs []error
	span := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("health: %s is %s, allowed %s to %s", name, v, low, high))
		}
	}
	count := func(name string, v, high int) {
		if v < 1 || v > high {
			errs = append(errs, fmt.Errorf("health: %s is %d, allowed 1 to %d", name, v, high))
		}
	}
	if !federation.ValidName(o.Self) {
		errs = append(errs, fmt.Errorf("health: edge id %s is not a name", federation.Quote(o.Self)))
	}
	if o.Probing.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("health: probe path %s does not begin with /", federation.Quote(o.Probing.Path)))
	}
	span("probe interval", o.Probing.Interval, 10*time.Millisecond, time.Hour)
	span("probe timeout", o.Probing.Timeout, time.Millisecond, time.Minute)
	count("probe failures", o.Probing.Failures, 1000)
	count("probe successes", o.Probing.Successes, 1000)
	count("probe concurrency", o.Probing.Concurrency, 100_000)
	count("connection failures to eject", o.Ejection.ConnectFailures, maxStreak)
	count("gateway failures to eject", o.Ejection.GatewayFailures, maxStreak)
	count("window percent", o.Ejection.WindowPercent, 100)
	count("window requests", o.Ejection.MinRequests, 1_000_000)
	span("ejection base", o.Ejection.Base, time.Millisecond, time.Hour)
	span("ejection maximum", o.Ejection.Max, o.Ejection.Base, 24*time.Hour)
	span("recovery step", o.Recovery.Step, time.Millisecond, time.Hour)
	for _, s := range o.Recovery.Steps {
		count("recovery percent", int(s), 99)
	}
	span("refresh interval", o.RefreshInterval, 10*time.Millisecond, time.Hour)
	return errors.Join(errs...)
}
