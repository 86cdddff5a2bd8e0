package admin

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

func (s *Server) getInstances(w http.ResponseWriter, c *call) error {
	snap := s.opts.Catalog.Snapshot()
	answer := api.Instances{Revision: snap.Revision, Service: c.vars["service"], Instances: []api.Instance{}}
	if view := snap.Service(answer.Service); view != nil {
		for _, e := range view.Endpoints {
			answer.Instances = append(answer.Instances, wireEndpoint(e))
		}
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}

// wireEndpoint is an instance of the snapshot.
func wireEndpoint(e *federation.Endpoint) api.Instance {
	i := wireInstance(e.Instance)
	i.Health = api.Health{Status: e.Health.Status.String(), Percent: healthPercent(e.Health), Source: e.Health.Source.String()}
	i.Usable = usable(e)
	if e.Runtime != nil {
		i.InFlight = e.Runtime.InFlight()
	}
	return i
}

// usable is [federation.Endpoint.Usable] for a catalog without runtimes, too.
func usable(e *federation.Endpoint) bool {
	return e.Eligible() && (e.Runtime == nil || e.Runtime.Admits())
}

func healthPercent(h federation.Health) int {
	switch h.Status {
	case federation.Unhealthy:
		return 0
	case federation.Recovering:
		return int(h.Percent)
	default:
		return 100
	}
}

// wireInstance is an instance as it is stored, its health unknown.
func wireInstance(i *federation.Instance) api.Instance {
	protocol := i.Protocol
	if protocol == "" {
		protocol = federation.HTTP1
	}
	return api.Instance{
		Service: i.Service, ID: i.ID, Cluster: i.Cluster, Zone: i.Zone, Region: i.Region,
		Address: i.Address, Version: i.Version, Tags: i.Tags, Weight: i.Weight, Capacity: i.Capacity,
		Protocol: string(protocol), HealthPath: i.HealthPath, TTL: i.TTL, Draining: i.Draining,
		Owner: i.Owner, Orphaned: !i.OrphanedAt.IsZero(), OrphanedSince: i.OrphanedAt,
		Stamp: i.Stamp, Revision: i.Revision,
		Health: api.Health{Status: federation.HealthUnknown.String(), Percent: 100, Source: federation.SourceNone.String()},
		Usable: !i.Draining,
	}
}

func (s *Server) putInstance(w http.ResponseWriter, c *call) error {
	options, err := writeOptions(c)
	if err != nil {
		return err
	}
	data, err := readBody(w, c.Request)
	if err != nil {
		return err
	}
	if data == nil {
		return badBody("found none, allowed the registration as a JSON object")
	}
	instance, err := s.registration(c.key(), data)
	if err != nil {
		return err
	}
	isNew := s.opts.Catalog.Snapshot().Endpoint(c.key()) == nil
	stored, err := s.opts.Registrar.Register(c.Context(), instance, options)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	s.replyStored(w, status, &stored)
	return nil
}

// registration makes an instance of a body, with its defaults, or returns
// everything that is wrong with it.
func (s *Server) registration(key federation.Key, data []byte) (federation.Instance, error) {
	ttl := federation.Duration(api.DefaultTTL)
	weight := federation.DefaultWeight
	r := api.Registration{Protocol: string(federation.HTTP1), TTL: &ttl, Weight: &weight}
	wrong, err := decodeStrict(data, &r)
	if err != nil {
		return federation.Instance{}, err
	}
	for _, same := range []struct{ field, body, path string }{{"service", r.Service, key.Service}, {"id", r.ID, key.ID}} {
		if same.body != "" && same.body != same.path {
			wrong = append(wrong, federation.FieldError{Field: same.field, Found: federation.Quote(same.body), Allowed: "what the path says, or nothing"})
		}
	}
	i := federation.Instance{
		Key:      key,
		Locality: federation.Locality{Cluster: r.Cluster, Zone: r.Zone, Region: r.Region},
		Address:  r.Address, Version: r.Version, Tags: r.Tags, Weight: *r.Weight, Capacity: r.Capacity,
		Protocol: federation.Protocol(r.Protocol), HealthPath: r.HealthPath, Draining: r.Draining, TTL: *r.TTL,
	}
	if i.Region == "" {
		i.Region = s.regionOf(i.Zone)
	}
	wrong = append(wrong, remaining(wrong, i.Validate(), s.policy.Check(i.Address), s.checkEdges(i.Address))...)
	if len(wrong) > 0 {
		return federation.Instance{}, wrong
	}
	return i, nil
}

// remaining are the errors of fields that nothing was found wrong with yet: one
// that was not read has its zero value, which is no news.
func remaining(known federation.FieldErrors, errs ...error) (more federation.FieldErrors) {
	seen := make(map[string]bool)
	for _, e := range known {
		seen[e.Field] = true
	}
	for _, err := range errs {
		found, ok := errors.AsType[federation.FieldErrors](err)
		if !ok {
			continue
		}
		for _, e := range found {
			if e.Field == "healthPath" { // as the stored form spells it
				e.Field = "health_path"
			}
			if !seen[e.Field] {
				more = append(more, e)
			}
		}
		for _, e := range more {
			seen[e.Field] = true
		}
	}
	return more
}

// regionOf is the region of a zone's edges, "" when this edge knows none.
func (s *Server) regionOf(zone string) string {
	if zone == s.opts.Self.Zone {
		return s.opts.Self.Region
	}
	for _, e := range s.opts.Catalog.Snapshot().Edges {
		if e.Zone == zone && e.Region != "" {
			return e.Region
		}
	}
	return ""
}

// checkEdges refuses the API of any edge: all edges will send requests there,
// and each has only its own addresses in its policy. Addresses are compared, not
// texts, since one address has several: 10.0.0.2 is ::ffff:10.0.0.2 too.
func (s *Server) checkEdges(address string) error {
	wanted, _ := netip.ParseAddrPort(address) // one that is none equals none
	snap := s.opts.Catalog.Snapshot()
	for n := range snap.Edges {
		admin, err := url.Parse(snap.Edges[n].Admin)
		if err != nil {
			continue
		}
		at, err := netip.ParseAddrPort(admin.Host)
		if err == nil && at.Port() == wanted.Port() && at.Addr().Unmap() == wanted.Addr().Unmap() {
			return federation.FieldErrors{{Field: "address", Found: federation.Quote(address), Allowed: "not an edge's admin address"}}
		}
	}
	return nil
}

func (s *Server) deleteInstance(w http.ResponseWriter, c *call) error {
	options, err := emptyWrite(w, c)
	if err != nil {
		return err
	}
	if err := s.opts.Registrar.Deregister(c.Context(), c.key(), options); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) postHeartbeat(w http.ResponseWriter, c *call) error {
	if err := emptyBody(w, c); err != nil {
		return err
	}
	if err := s.opts.Heartbeats.Heartbeat(c.Context(), c.key()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) postDrain(w http.ResponseWriter, c *call) error {
	options, err := emptyWrite(w, c)
	if err != nil {
		return err
	}
	stored, err := s.opts.Registrar.Drain(c.Context(), c.key(), options)
	if err != nil {
		return err
	}
	s.replyStored(w, http.StatusOK, &stored)
	return nil
}

// replyStored answers with what was stored; 202 when etcd has yet to confirm.
func (s *Server) replyStored(w http.ResponseWriter, status int, i *federation.Instance) {
	if i.Revision == 0 {
		status = http.StatusAccepted
	} else {
		w.Header().Set("ETag", `"`+strconv.FormatInt(i.Revision, 10)+`"`)
	}
	answer := wireInstance(i)
	// What is known of its health is still true of the same address.
	if e := s.opts.Catalog.Snapshot().Endpoint(i.Key); e != nil && e.Address == i.Address {
		seen := wireEndpoint(e)
		answer.Health, answer.InFlight = seen.Health, seen.InFlight
		answer.Usable = seen.Usable && !answer.Draining
	}
	s.replyJSON(w, status, answer)
}

// emptyWrite is for writes without a body.
func emptyWrite(w http.ResponseWriter, c *call) (WriteOptions, error) {
	options, err := writeOptions(c)
	if err != nil {
		return options, err
	}
	return options, emptyBody(w, c)
}

// emptyBody refuses what would be ignored, and names that no instance can
// have. Some clients send {} for nothing.
func emptyBody(w http.ResponseWriter, c *call) error {
	if key := c.key(); !federation.ValidName(key.Service) || !federation.ValidName(key.ID) {
		return ErrNotFound
	}
	data, err := readBody(w, c.Request)
	if err != nil || data == nil {
		return err
	}
	wrong, err := decodeStrict(data, &struct{}{})
	if err == nil && len(wrong) > 0 {
		return wrong
	}
	return err
}

// writeOptions reads the preconditions (RFC 9110, 13.1). The revision is the
// entity tag, and it is strong.
func writeOptions(c *call) (WriteOptions, error) {
	options := WriteOptions{Actor: c.actor}
	if c.Header.Get("If-None-Match") != "" || c.Header.Get("If-Unmodified-Since") != "" {
		return options, badHeader("If-None-Match, If-Unmodified-Since", "a precondition", "If-Match alone")
	}
	fields := c.Header.Values("If-Match")
	if len(fields) == 0 {
		return options, nil
	}
	tag := strings.TrimSpace(fields[0])
	if len(fields) > 1 || len(tag) < 2 || tag[0] != '"' || strings.IndexByte(tag[1:], '"') != len(tag)-2 {
		return options, badHeader("If-Match", federation.Quote(strings.Join(fields, ", ")), `one revision in quotes, such as "42"`)
	}
	revision, err := strconv.ParseInt(tag[1:len(tag)-1], 10, 64)
	if err != nil || revision < 1 {
		return options, ErrPreconditionFailed // well formed, and no revision of anything
	}
	options.IfMatch = revision
	return options, nil
}
