package admin

import (
	"net/http"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

func (s *Server) getReleases(w http.ResponseWriter, _ *call) error {
	snap := s.opts.Catalog.Snapshot()
	answer := api.Releases{Revision: snap.Revision, Releases: []api.Release{}}
	for _, r := range s.opts.Documents.Releases() {
		answer.Releases = append(answer.Releases, wireRelease(r, snap))
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) getRelease(w http.ResponseWriter, c *call) error {
	for _, r := range s.opts.Documents.Releases() {
		if r.Name == c.vars["name"] {
			s.replyJSON(w, http.StatusOK, wireRelease(r, s.opts.Catalog.Snapshot()))
			return nil
		}
	}
	return problem(http.StatusNotFound, api.ProblemNoRelease, "No Such Release", "no document of this edge names it")
}

// wireRelease adds to a release where its canaries are.
func wireRelease(r *federation.Release, snap *federation.Snapshot) api.Release {
	answer := api.Release{Name: r.Name, Fallback: r.Fallback, Paused: r.Paused, Services: make(map[string]api.Canaries, len(r.Services))}
	for name, selector := range r.Services {
		canaries := api.Canaries{Selector: selector, Zones: map[string]int{}}
		if view := snap.Service(name); view != nil {
			for _, e := range view.Endpoints {
				if !selector.Matches(e.Instance) {
					continue
				}
				canaries.Instances++
				if !usable(e) {
					canaries.Zones[e.Zone] += 0
					continue
				}
				canaries.Usable++
				canaries.Zones[e.Zone]++
			}
		}
		answer.Services[name] = canaries
	}
	return answer
}

func (s *Server) getRoutes(w http.ResponseWriter, _ *call) error {
	answer := s.opts.Documents.Routes()
	if answer.Routes == nil {
		answer.Routes = []api.Route{}
	}
	s.replyJSON(w, http.StatusOK, answer)
	return nil
}
