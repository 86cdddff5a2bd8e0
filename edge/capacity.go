package edge

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// peakWindow is for how long, at least, weight that vanished from the registry
// counts as lost, and not as weight that never was; at most twice that.
const peakWindow = 10 * time.Minute

// zoneCapacity follows how much of its services' weight one zone has of late
// and how much of that is usable. It is not safe for concurrent use.
type zoneCapacity struct {
	zone     string
	services map[string]*servicePeak
	turnAt   time.Time
}

// servicePeak is one service's highest weight of this window and of the one
// before, in hundredths.
type servicePeak struct {
	view              *federation.ServiceView // that the sums were made of
	registered, ready int64
	highest, before   int64
}

func newZoneCapacity(zone string) *zoneCapacity {
	return &zoneCapacity{zone: zone, services: make(map[string]*servicePeak)}
}

// look takes the snapshot of now and returns the zone's capacity, and what of it
// is usable, over all registered services. What a document declares for the
// zone counts in the place of what was seen.
func (z *zoneCapacity) look(snap *federation.Snapshot, documents []*federation.Service, now time.Time) (capacity, healthy int64) {
	turn := !now.Before(z.turnAt)
	if turn {
		z.turnAt = now.Add(peakWindow)
	}
	for _, name := range snap.Services() {
		if z.services[name] == nil && !(federation.Key{Service: name}).Local() {
			z.services[name] = &servicePeak{}
		}
	}
	declared := make(map[string]int64)
	for _, service := range documents {
		declared[service.Name] = int64(service.ZoneCapacity[z.zone]) * 100
	}
	for name, peak := range z.services {
		peak.take(snap.Service(name), z.zone)
		if turn {
			peak.before, peak.highest = peak.highest, 0
		}
		peak.highest = max(peak.highest, peak.registered)
		full := declared[name]
		if full == 0 {
			full = max(peak.highest, peak.before)
		}
		if full == 0 {
			delete(z.services, name)
		}
		capacity += full
		healthy += min(full, peak.ready)
	}
	return capacity, healthy
}

// take sums up a view that is new.
func (p *servicePeak) take(view *federation.ServiceView, zone string) {
	if view == p.view {
		return
	}
	p.view, p.registered, p.ready = view, 0, 0
	if view == nil {
		return
	}
	for _, e := range view.Endpoints {
		if e.Zone != zone {
			continue
		}
		p.registered += int64(e.Weight) * 100
		if e.Eligible() {
			p.ready += e.EffectiveWeight()
		}
	}
}
