package chaos

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/grayfed/grayfed/edge/api"
)

// Target is what a drill runs against. Target files and the labs make one.
type Target struct {
	Name  string
	Edges []Edge
	DNS   DNS
	// Roots are whom the load trusts on TLS listeners; nil: the system's.
	Roots *x509.CertPool
	// Request is what the load sends.
	Request Request
	// Faults does the faults, as fault.New takes it.
	Faults any
	// Notes are said before the first run.
	Notes []string

	mayEnd bool // by itself, which ends the context of who uses it
}

// errTargetEnded is why a run's context ends when its target has ended by
// itself.
var errTargetEnded = errors.New("the target has ended, and what was broken is gone with it")

// Edge is one edge of a target.
type Edge struct {
	Zone string
	// Data is the URL of its data listener, TLS that of its TLS data listener,
	// "" when it has none.
	Data, TLS string
	// Addresses are what DNS may answer for it. Empty: the host of Data.
	Addresses []netip.Addr
	// Standby: DNS is to answer it only when no other can serve.
	Standby bool
	Client  *api.Client
}

// DNS is where clients of the target find its edges.
type DNS struct {
	Servers []string // ip:port; none: the target has no DNS
	Name    string   // that clients ask for
}

// Request is what the load sends and how it knows who answered.
type Request struct {
	Path string
	Host string // "": the edge's own
	// Baseline is the version that answers what has no tag.
	Baseline           string
	Permissive, Strict Release
	// VersionHeader and ZoneHeader are of responses; "": the keys version and
	// zone of a JSON body.
	VersionHeader, ZoneHeader string
}

// Release is a release that a drill sends requests for.
type Release struct{ Tag, Version string }

// check reports a target that cannot take the load of a drill.
func (t *Target) check(d *Drill) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, e := range t.Edges {
		for _, text := range []string{e.Data, e.TLS} {
			if u, err := url.Parse(text); text != "" && (err != nil || u.Hostname() == "") {
				fail("edge %s: found URL %q, allowed http://host:port or https://host:port", e.Zone, text)
			}
		}
	}
	known := func(zone string) bool { return t.zone(zone) >= 0 }
	for _, s := range d.Load.Streams {
		for zone := range s.Edges {
			if !known(zone) {
				fail("the load goes to zone %s, which is not one of the target's: %s", zone, t.zones())
			}
		}
		for _, e := range t.Edges {
			if wanted := len(s.Edges) == 0 || s.Edges[e.Zone] > 0; s.TLS && wanted && e.TLS == "" {
				fail("the load goes over TLS, and the edge of %s has no TLS listener", e.Zone)
			}
		}
	}
	for _, s := range d.Faults {
		for _, zone := range s.Loses {
			if !known(zone) {
				fail("a fault loses zone %s, which is not one of the target's: %s", zone, t.zones())
			}
		}
	}
	for _, zone := range d.SLO.Detected.Of {
		if !known(zone) {
			fail("a sign is waited for about zone %s, which is not one of the target's: %s", zone, t.zones())
		}
	}
	if dns := len(t.DNS.Servers) > 0; !dns && d.NeedsDNS {
		fail("drill %s is about DNS, and target %s has none", d.Name, t.Name)
	} else if !dns && !slices.ContainsFunc(d.Load.Streams, func(s Stream) bool { return s.Via == ViaEdges }) {
		fail("all load goes by DNS, and the target has none")
	}
	m := d.Load.Mix
	if m.Permissive > 0 && t.Request.Permissive.Tag == "" || m.Strict > 0 && t.Request.Strict.Tag == "" {
		fail("the load has tagged requests, and the target names no release for them")
	}
	return errors.Join(errs...)
}

func (t *Target) zone(name string) int {
	return slices.IndexFunc(t.Edges, func(e Edge) bool { return e.Zone == name })
}

func (t *Target) zones() string {
	names := make([]string, len(t.Edges))
	for i, e := range t.Edges {
		names[i] = e.Zone
	}
	return strings.Join(names, ", ")
}

// primaries are the edges that are no standbys.
func (t *Target) primaries() []int {
	var list []int
	for i, e := range t.Edges {
		if !e.Standby {
			list = append(list, i)
		}
	}
	return list
}
