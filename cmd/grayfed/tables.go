package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// shortHash is how much of a hash a table shows: enough to compare by eye.
const shortHash = 12

func federationTable(f *api.Federation, out io.Writer) error {
	var rows [][]string
	for _, e := range f.Edges {
		id := e.ID
		if id == f.Edge {
			id += "*"
		}
		rows = append(rows, []string{
			id, e.Zone, e.Region, e.Status, number(e.Revision), strconv.FormatUint(e.Clock, 10),
			short(e.Digest), short(e.Config), milliseconds(e.LagMS),
		})
	}
	head := []string{"EDGE", "ZONE", "REGION", "STATUS", "REVISION", "CLOCK", "DIGEST", "CONFIG", "LAG"}
	if err := writeTable(out, head, rows, "no edge is known"); err != nil {
		return err
	}
	lines := []string{
		fmt.Sprintf("\n* answered; it knows %s, %d unhealthy, and owns %d", count(f.Instances, "instance"), f.Unhealthy, f.Registry.Owned),
	}
	if f.Registry.Orphans > 0 {
		lines = append(lines, count(f.Registry.Orphans, "instance")+" without a living owner")
	}
	switch r := f.Registry; {
	case r.FromCache:
		lines = append(lines, "its view is that of an earlier run: etcd has not answered since it started")
	case !r.StaleSince.IsZero():
		lines = append(lines, "its view is stale: etcd confirmed it last "+milliseconds(r.LagMS)+" ago")
	}
	if f.Registry.Error != "" {
		lines = append(lines, "etcd: "+f.Registry.Error)
	}
	if f.Registry.Queued > 0 {
		lines = append(lines, count(f.Registry.Queued, "write")+" waiting for etcd")
	}
	if f.Documents.Error != "" {
		lines = append(lines, "newer documents are refused, it goes on with "+short(f.Documents.Hash)+":", f.Documents.Error)
	}
	for _, warning := range f.Documents.Warnings {
		lines = append(lines, "warning: "+warning)
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

func servicesTable(list *api.Services, out io.Writer) error {
	var rows [][]string
	for _, s := range list.Services {
		rows = append(rows, []string{
			s.Name, strconv.Itoa(s.Instances), strconv.Itoa(s.Usable), strconv.Itoa(s.Unhealthy), strconv.Itoa(s.Draining),
			counts(s.Versions), counts(s.Zones), selector(s.Baseline), strings.Join(s.Releases, ","),
		})
	}
	head := []string{"SERVICE", "INSTANCES", "USABLE", "UNHEALTHY", "DRAINING", "VERSIONS", "ZONES", "BASELINE", "RELEASES"}
	return writeTable(out, head, rows, "no service has an instance or a document")
}

func instancesTable(list *api.Instances, out io.Writer) error {
	var rows [][]string
	for _, i := range list.Instances {
		health := i.Health.Status
		if health == "recovering" {
			health += fmt.Sprintf(" %d%%", i.Health.Percent)
		}
		rows = append(rows, []string{
			i.Service, i.ID, i.Version, i.Zone, i.Region, i.Address, health, state(&i), strconv.Itoa(i.Weight),
			strconv.FormatInt(i.InFlight, 10), i.Owner,
		})
	}
	head := []string{"SERVICE", "ID", "VERSION", "ZONE", "REGION", "ADDRESS", "HEALTH", "STATE", "WEIGHT", "IN FLIGHT", "OWNER"}
	none := "no instance is registered"
	if list.Service != "" {
		none = "no instance of " + list.Service + " is registered"
	}
	return writeTable(out, head, rows, none)
}

// state is what becomes of requests to an instance.
func state(i *api.Instance) string {
	var words []string
	switch {
	case i.Draining:
		words = append(words, "draining")
	case i.Usable:
		words = append(words, "usable")
	default:
		words = append(words, "not usable")
	}
	if i.Orphaned {
		words = append(words, "orphaned")
	}
	return strings.Join(words, ", ")
}

func releasesTable(list *api.Releases, out io.Writer) error {
	var rows [][]string
	for _, r := range list.Releases {
		paused := "no"
		if r.Paused {
			paused = "yes"
		}
		for _, service := range slices.Sorted(maps.Keys(r.Services)) {
			c := r.Services[service]
			rows = append(rows, []string{
				r.Name, string(r.Fallback), paused, service, selector(&c.Selector),
				fmt.Sprintf("%d of %d", c.Usable, c.Instances), counts(c.Zones),
			})
		}
	}
	head := []string{"RELEASE", "FALLBACK", "PAUSED", "SERVICE", "SELECTS", "USABLE", "ZONES"}
	return writeTable(out, head, rows, "no release is declared")
}

func routesTable(list *api.Routes, out io.Writer) error {
	var rows [][]string
	for _, r := range list.Routes {
		limit := ""
		if r.RateLimit != nil {
			limit = fmt.Sprintf("%d/min, burst %d", r.RateLimit.RPM, r.RateLimit.Burst)
		}
		methods := strings.Join(r.Methods, ",")
		if methods == "" {
			methods = "any"
		}
		rows = append(rows, []string{
			r.ID, strconv.Itoa(r.Priority), r.Host, r.Path, methods, matches(r.Headers, r.Query), r.Service, r.Tags, limit,
		})
	}
	head := []string{"ROUTE", "PRIORITY", "HOST", "PATH", "METHODS", "MATCHES", "SERVICE", "TAGS", "RATE LIMIT"}
	return writeTable(out, head, rows, "no route is declared")
}

// matches is how conditions on headers and query read in a table.
func matches(headers, query []api.Match) string {
	var words []string
	for _, m := range headers {
		words = append(words, match(m))
	}
	for _, m := range query {
		words = append(words, "?"+match(m))
	}
	return strings.Join(words, " ")
}

func match(m api.Match) string {
	switch {
	case m.Present != nil && *m.Present:
		return m.Name
	case m.Present != nil:
		return "!" + m.Name
	case m.Regex != "":
		return m.Name + "~" + m.Regex
	}
	return m.Name + "=" + m.Exact
}

func selector(s *federation.Selector) string {
	if s == nil {
		return ""
	}
	var words []string
	if s.Version != "" {
		words = append(words, "version="+s.Version)
	}
	for _, tag := range slices.Sorted(maps.Keys(s.Tags)) {
		words = append(words, tag+"="+s.Tags[tag])
	}
	if len(words) == 0 {
		return "all"
	}
	return strings.Join(words, ",")
}

// counts is "az1:2 az2:1".
func counts(of map[string]int) string {
	words := make([]string, 0, len(of))
	for _, name := range slices.Sorted(maps.Keys(of)) {
		label := name
		if label == "" {
			label = "none"
		}
		words = append(words, label+":"+strconv.Itoa(of[name]))
	}
	return strings.Join(words, " ")
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func short(hash string) string { return hash[:min(len(hash), shortHash)] }

func milliseconds(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
