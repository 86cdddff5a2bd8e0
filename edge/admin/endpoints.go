package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/grayfed/grayfed/federation"
)

// endpoint is one thing that the API does.
type endpoint struct {
	method string // GET stands for HEAD too
	path   string
	write  bool // needs the role write
	health bool // is on the health listener too
	open   bool // needs no token on the other listener either
	serve  func(*Server, http.ResponseWriter, *call) error
}

// call is one request on its way to its endpoint.
type call struct {
	*http.Request
	caller
	vars map[string]string // of the path
}

// key is the instance that the path names.
func (c *call) key() federation.Key {
	return federation.Key{Service: c.vars["service"], ID: c.vars["id"]}
}

// allEndpoints is the API. openapi.json describes the same.
func allEndpoints() []endpoint {
	const instance = "/v1/services/{service}/instances/{id}"
	return []endpoint{
		{method: http.MethodGet, path: "/v1/federation", serve: (*Server).getFederation},
		{method: http.MethodGet, path: "/v1/services", serve: (*Server).getServices},
		{method: http.MethodGet, path: "/v1/services/{service}/instances", serve: (*Server).getInstances},
		{method: http.MethodPut, path: instance, write: true, serve: (*Server).putInstance},
		{method: http.MethodDelete, path: instance, write: true, serve: (*Server).deleteInstance},
		{method: http.MethodPost, path: instance + "/heartbeat", write: true, serve: (*Server).postHeartbeat},
		{method: http.MethodPost, path: instance + "/drain", write: true, serve: (*Server).postDrain},
		{method: http.MethodGet, path: "/v1/releases", serve: (*Server).getReleases},
		{method: http.MethodGet, path: "/v1/releases/{name}", serve: (*Server).getRelease},
		{method: http.MethodGet, path: "/v1/routes", serve: (*Server).getRoutes},
		{method: http.MethodPost, path: "/v1/explain", serve: (*Server).postExplain},
		{method: http.MethodGet, path: "/v1/events", serve: (*Server).getEvents},
		{method: http.MethodGet, path: "/v1/failover", serve: (*Server).getFailover},
		{method: http.MethodGet, path: "/v1/failover/check", health: true, open: true, serve: (*Server).getFailoverCheck},
		{method: http.MethodGet, path: "/metrics", health: true, serve: (*Server).getMetrics},
		{method: http.MethodGet, path: "/healthz", health: true, serve: (*Server).getHealthz},
		{method: http.MethodGet, path: "/readyz", health: true, serve: (*Server).getReadyz},
		{method: http.MethodGet, path: "/openapi.json", serve: (*Server).getOpenAPI},
	}
}

// newRouter has one named route for each endpoint.
func newRouter() (*mux.Router, map[string]*endpoint) {
	router := mux.NewRouter().SkipClean(true)
	byName := make(map[string]*endpoint)
	for _, e := range allEndpoints() {
		name := e.method + " " + e.path
		methods := []string{e.method}
		if e.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		router.Path(e.path).Methods(methods...).Name(name)
		byName[name] = &e
	}
	return router, byName
}

// find returns the endpoint of a request, or the problem 404 or 405.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (*endpoint, map[string]string, error) {
	var match mux.RouteMatch
	if s.router.Match(r, &match) && match.MatchErr == nil {
		return s.endpoints[match.Route.GetName()], match.Vars, nil
	}
	if allowed := s.allowedMethods(r); len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return nil, nil, plainProblem(http.StatusMethodNotAllowed, "allowed: "+strings.Join(allowed, ", "))
	}
	return nil, nil, plainProblem(http.StatusNotFound, "GET /openapi.json says what there is")
}

// openEndpoint returns the endpoint of a request that needs no token, else nil.
func (s *Server) openEndpoint(r *http.Request) (*endpoint, map[string]string) {
	var match mux.RouteMatch
	if s.router.Match(r, &match) && match.MatchErr == nil {
		if e := s.endpoints[match.Route.GetName()]; e.open {
			return e, match.Vars
		}
	}
	return nil, nil
}

// allowedMethods are those that the path of a request has.
func (s *Server) allowedMethods(r *http.Request) []string {
	var allowed []string
	for _, e := range s.endpoints {
		other := *r
		other.Method = e.method
		var match mux.RouteMatch
		if s.router.Match(&other, &match) && match.MatchErr == nil && !slices.Contains(allowed, e.method) {
			allowed = append(allowed, e.method)
		}
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	return allowed
}
