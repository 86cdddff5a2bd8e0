package admin

import (
	_ "embed" // openapi.json
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/grayfed/grayfed/edge/api"
)

//go:embed openapi.json
var openAPI string

// getHealthz says that the process lives, whatever it knows.
func (s *Server) getHealthz(w http.ResponseWriter, _ *call) error {
	s.replyJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// getReadyz says whether the edge serves on a full view.
func (s *Server) getReadyz(w http.ResponseWriter, _ *call) error {
	if err := s.opts.Ready(); err != nil {
		return problem(http.StatusServiceUnavailable, api.ProblemNotReady, "Not Ready", err.Error())
	}
	s.replyJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

func (s *Server) getMetrics(w http.ResponseWriter, c *call) error {
	promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{
		// Scrapes in parallel gain nothing and cost much.
		MaxRequestsInFlight: 4,
	}).ServeHTTP(w, c.Request)
	return nil
}

func (s *Server) getOpenAPI(w http.ResponseWriter, _ *call) error {
	w.Header().Set("Content-Type", api.ContentTypeJSON)
	_, _ = io.WriteString(w, openAPI) // a client that went away needs no answer
	return nil
}
