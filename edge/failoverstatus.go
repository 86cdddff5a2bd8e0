package edge

import (
	"math"
	"time"

	"github.com/grayfed/grayfed/edge/admin"
	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul"
)

// failoverStatus shows the edge's part in DNS.
type failoverStatus struct{ edge *Edge }

var _ admin.Failover = failoverStatus{}

func (s failoverStatus) Failover() api.Failover {
	e := s.edge
	told := api.Failover{
		Edge: e.self.ID, Zone: e.self.Zone, Consul: api.FailoverConsul{ConfirmedMS: -1}, Entries: []api.FailoverEntry{},
	}
	f := e.failover
	if f == nil {
		return told
	}
	told.Role = f.options.Role.String()
	if f.publisher != nil {
		told.Consul = apiConsul(f.publisher.Status())
	}
	if f.server != nil {
		c := e.process.DNS
		told.DNS = &api.FailoverDNS{Domain: c.Domain, Address: f.server.Address().String(), TTLMS: c.TTL.Milliseconds()}
	}
	p := f.shown.Load()
	if p == nil {
		return told // before the first heartbeat
	}
	told.Decision = &api.FailoverDecision{
		In: p.decision.In, Weight: p.decision.Weight, Reason: p.decision.Reason, Since: p.since.UTC(),
	}
	shares := sharePercents(p.shares)
	for n := range p.entries {
		s := &p.entries[n]
		told.Entries = append(told.Entries, apiEntry(s, shares[s.Edge]))
	}
	return told
}

func apiConsul(s consul.Status) api.FailoverConsul {
	told := api.FailoverConsul{
		Configured: true, Registered: s.Registered, Leader: s.Leader, ConfirmedMS: -1, Error: s.Error,
	}
	if !s.Confirmed.IsZero() {
		told.ConfirmedMS = time.Since(s.Confirmed).Milliseconds()
	}
	return told
}

func apiEntry(s *failover.Sighting, share float64) api.FailoverEntry {
	told := api.FailoverEntry{
		Edge: s.Edge, Zone: s.Zone, Role: s.Role.String(), Addresses: make([]string, 0, len(s.Addresses)), Port: int(s.Port),
		Weight: s.Weight, Consul: s.Consul.String(), Gossip: s.Gossip.String(), Probe: s.Probe.String(), SharePercent: share,
	}
	for _, address := range s.Addresses {
		told.Addresses = append(told.Addresses, address.String())
	}
	return told
}

// sharePercents are the shares by edge, to a tenth of a percent.
func sharePercents(shares []failover.Share) map[string]float64 {
	total := 0
	for n := range shares {
		total += shares[n].Weight
	}
	percents := make(map[string]float64, len(shares))
	for n := range shares {
		percents[shares[n].Edge] = math.Round(1000*float64(shares[n].Weight)/float64(total)) / 10
	}
	return percents
}
