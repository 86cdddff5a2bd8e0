package admin

import (
	"net/http"

	"github.com/grayfed/grayfed/edge/api"
)

// Failover says what this edge has decided of its entry in DNS, and what it
// knows of the others'.
type Failover interface {
	Failover() api.Failover
}

func (s *Server) getFailover(w http.ResponseWriter, _ *call) error {
	s.replyJSON(w, http.StatusOK, s.opts.Failover.Failover())
	return nil
}

// getFailoverCheck is what a Consul agent or a load balancer asks: who knows no
// token. It says whether the edge can serve, and not whether clients are sent
// to it: that the edge itself tells Consul, which is quicker than being asked.
func (s *Server) getFailoverCheck(w http.ResponseWriter, c *call) error {
	return s.getReadyz(w, c)
}
