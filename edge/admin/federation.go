package admin

import (
	"net/http"
	"slices"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

func (s *Server) getFederation(w http.ResponseWriter, _ *call) error {
	snap := s.opts.Catalog.Snapshot()
	answer := api.Federation{
		Edge:      s.opts.Self.ID,
		Revision:  snap.Revision,
		Digest:    snap.Digest.String(),
		Clock:     s.opts.Status.Clock(),
		Instances: snap.Instances,
		Unhealthy: snap.Unhealthy,
		Edges:     make([]api.Edge, 0, len(snap.Edges)),
		Registry:  s.opts.Status.Registry(),
		Documents: s.opts.Status.Documents(),
	}
	if s.opts.Certificates != nil {
		answer.Certificates = s.opts.Certificates()
	}
	for n := range snap.Edges {
		answer.Edges = append(answer.Edges, wireEdge(&snap.Edges[n]))
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}

func wireEdge(e *federation.Edge) api.Edge {
	status := string(e.Status)
	if e.Status == federation.EdgeUnknown {
		status = "unknown"
	}
	return api.Edge{
		ID: e.ID, Cluster: e.Cluster, Zone: e.Zone, Region: e.Region, Status: status,
		Incarnation: e.Incarnation, Data: e.Data, Admin: e.Admin, Peer: e.Peer,
		Revision: e.Revision, Clock: e.Clock, Digest: e.Digest, Config: e.Config,
		LagMS: time.Duration(e.Lag).Milliseconds(),
	}
}

func (s *Server) getServices(w http.ResponseWriter, _ *call) error {
	snap := s.opts.Catalog.Snapshot()
	declared := make(map[string]*federation.Service)
	names := snap.Services()
	for _, service := range s.opts.Documents.Services() {
		declared[service.Name] = service
		names = append(names, service.Name)
	}
	covering := make(map[string][]string)
	for _, release := range s.opts.Documents.Releases() {
		for name := range release.Services {
			covering[name] = append(covering[name], release.Name)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	answer := api.Services{Revision: snap.Revision, Services: make([]api.Service, 0, len(names))}
	for _, name := range names {
		service := summary(name, snap.Service(name))
		service.Releases = covering[name]
		if d := declared[name]; d != nil {
			service.Baseline = d.Baseline
		}
		answer.Services = append(answer.Services, service)
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}

// summary counts a service's instances; view is nil when there is none.
func summary(name string, view *federation.ServiceView) api.Service {
	service := api.Service{Name: name, Zones: map[string]int{}, Versions: map[string]int{}}
	if view == nil {
		return service
	}
	service.Instances, service.Unhealthy = len(view.Endpoints), view.Unhealthy
	for _, e := range view.Endpoints {
		service.Zones[e.Zone]++
		service.Versions[e.Version]++
		if usable(e) {
			service.Usable++
		}
		if e.Draining {
			service.Draining++
		}
	}
	return service
}
