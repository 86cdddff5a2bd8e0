package edge

import (
	"fmt"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/federation"
)

// failoverEvent tells what this edge has decided of its entry in DNS.
func (e *Edge) failoverEvent(d failover.Decision) {
	told := api.Event{Type: api.EventFailover, Time: e.now().UTC(), Edge: e.self.ID, Zone: e.self.Zone, Status: "out", Detail: d.Reason}
	if d.In {
		told.Status, told.Detail = "in", fmt.Sprintf("weight %d: %s", d.Weight, d.Reason)
	}
	e.log.Info("edge decided on its entry in DNS", "edge", e.self.ID, "status", told.Status, "weight", d.Weight, "reason", d.Reason)
	e.events.Publish(told)
}

// zoneEvent tells that the gateway has given a zone up, or has it back.
func (e *Edge) zoneEvent(zone string, demoted bool) {
	told := api.Event{Type: api.EventZoneRestored, Time: e.now().UTC(), Zone: zone}
	if demoted {
		told.Type = api.EventZoneDemoted
	}
	e.events.Publish(told)
}

// ejections are the instances that this edge's own evidence is against. They
// are for the goroutine of the health monitor.
type ejections map[federation.Key]struct{}

// ejectionEvents tells what this edge's own evidence newly says of instances.
func (e *Edge) ejectionEvents(records []federation.HealthRecord) {
	for n := range records {
		r := &records[n]
		_, ejected := e.ejected[r.Subject]
		told := api.Event{Time: e.now().UTC(), Service: r.Subject.Service, Instance: r.Subject.ID, Detail: r.Reason}
		switch {
		case r.Status == federation.Unhealthy && !ejected:
			e.ejected[r.Subject] = struct{}{}
			told.Type = api.EventInstanceEjected
		case r.Status != federation.Unhealthy && ejected:
			delete(e.ejected, r.Subject)
			if r.Status == federation.HealthUnknown {
				continue // it is gone
			}
			told.Type = api.EventInstanceReadmitted
		default:
			continue
		}
		e.events.Publish(told)
	}
}
