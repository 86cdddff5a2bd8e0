package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/federation"
)

// Sink takes the instances of a source. A [federation.Catalog] is one.
type Sink interface {
	// ReplaceLocal brings all instances that a source has now.
	ReplaceLocal(source string, instances []*federation.Instance)
}

var _ Sink = (*federation.Catalog)(nil)

// Options configure a [Resolver].
type Options struct {
	Sink Sink
	// Policy says which addresses may be used; others, such as those of a
	// metadata service, are left out whatever DNS answers.
	Policy *federation.AddressPolicy
	// Locality is this edge's, and Owner its id: instances found carry them.
	Locality federation.Locality
	Owner    string

	// MinTTL and MaxTTL bound how long an answer counts, whatever its TTL. 1 s
	// (at least that) and 5 min.
	MinTTL, MaxTTL time.Duration
	// Confirmations is how many answers in a row must say that a name does not
	// exist before its addresses are dropped. 3.
	Confirmations int
	// Retry bounds the jittered, doubling wait after a failure, which begins
	// with 1 s. 30 s.
	Retry time.Duration
	// Concurrency bounds the names being looked up at once. 32.
	Concurrency int

	// Servers are asked in this order instead of those in ResolvConf.
	Servers []netip.AddrPort
	// ResolvConf and Hosts are the files of resolv.conf(5) and hosts(5), read
	// anew for each lookup. /etc/resolv.conf and /etc/hosts.
	ResolvConf, Hosts string

	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.MinTTL, time.Second}, {&o.MaxTTL, 5 * time.Minute}, {&o.Retry, 30 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&o.Confirmations, 3}, {&o.Concurrency, 32}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if o.Sink == nil || o.Policy == nil {
		bad("sink and policy are required")
	}
	if o.MinTTL < time.Second || o.MaxTTL < o.MinTTL {
		bad("TTL from %s to %s: allowed 1s or more, and the upper bound not below the lower", o.MinTTL, o.MaxTTL)
	}
	if o.Retry < time.Second {
		bad("retry %s: allowed 1s or more", o.Retry)
	}
	if o.Confirmations < 1 || o.Concurrency < 1 {
		bad("confirmations %d and concurrency %d: allowed 1 or more", o.Confirmations, o.Concurrency)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("DNS upstream options: %w", errors.Join(wrong...))
	}
	return nil
}
