package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxTTL         = time.Hour
	maxDomain      = 160 // bytes with the final dot: the names below it fit into 255
	maxNameservers = 13  // with their addresses in 512 bytes, as the root's
)

// Options configure a [Server].
type Options struct {
	// Address is "ip:port" to answer on, UDP and TCP; port 0 lets the system
	// choose.
	Address string
	// Domain is the zone, with or without the final dot, like "example.com".
	Domain string
	// TTL is how long resolvers may keep an answer or an absence, in whole
	// seconds, 0 to 1 h. 0 is taken as such: nothing is kept.
	TTL time.Duration
	// Nameservers are the names in the NS records, at most 13, none at or
	// below gateway.<domain>. Empty: ns.<domain>.
	Nameservers []string
	// HTTPS says that the entries' ports speak TLS: they are listed at
	// _https._tcp as well.
	HTTPS bool
	// Rand gives uniform numbers and is called by many goroutines at once;
	// nil: math/rand/v2.
	Rand func() uint64
	Log  *slog.Logger
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	o.Domain = wire.CanonicalName(o.Domain)
	names := make([]string, 0, max(1, len(o.Nameservers)))
	for _, name := range o.Nameservers {
		names = append(names, wire.CanonicalName(name))
	}
	if len(names) == 0 {
		names = append(names, under("ns", o.Domain))
	}
	o.Nameservers = names
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate checks options that have their defaults.
func (o *Options) validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := netip.ParseAddrPort(o.Address); err != nil {
		refuse("dns address: %q is not ip:port", o.Address)
	}
	if !hostName(o.Domain) || len(o.Domain) > maxDomain {
		refuse("dns domain: %q is not a domain name of at most %d bytes", o.Domain, maxDomain)
	}
	if o.TTL < 0 || o.TTL > maxTTL || o.TTL%time.Second != 0 {
		refuse("dns ttl: %s, allowed 0 to %s in whole seconds", o.TTL, maxTTL)
	}
	if len(o.Nameservers) > maxNameservers {
		refuse("dns nameservers: %d, allowed %d", len(o.Nameservers), maxNameservers)
	}
	for _, name := range o.Nameservers {
		if !hostName(name) {
			refuse("dns nameservers: %q is not a host name", name)
		} else if wire.IsSubDomain(o.gateway(), name) {
			refuse("dns nameservers: %q is at or below %s, whose addresses are the edges'", name, o.gateway())
		}
	}
	return errors.Join(errs...)
}

// gateway is the name that clients ask for.
func (o *Options) gateway() string { return under("gateway", o.Domain) }

func under(label, name string) string { return label + "." + name }

// hostName reports whether a lower-case name with a final dot can be a host's:
// labels of letters, digits and hyphens (RFC 1123, 2.1), 253 bytes.
func hostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel(label) {
			return false
		}
	}
	return true
}

func hostLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
