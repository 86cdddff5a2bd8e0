package federation

// fold judges an instance by the evidence held: own fresh evidence wins, else
// the edge of the instance's zone, else the majority of the other observers,
// else nothing is known and it is usable.
//
// Only deviations are gossiped, so the silence of a live edge about its own
// zone is evidence that the instance is well: without that rule, one far
// observer with a broken path would decide for everybody.
func (p *patch) fold(i *Instance) Health {
	held := p.catalog.evidence[i.Key]
	if len(held) == 0 {
		return Health{}
	}
	self := p.catalog.opts.Self
	var zone, others tally
	for n := range held {
		r := &held[n]
		switch {
		case r.Status == HealthUnknown:
		case r.Observer == self:
			return Health{Status: r.Status, Percent: percent(r), Source: SourceOwn}
		case p.zoneOf(r.Observer) == i.Zone:
			zone.add(r)
		default:
			others.add(r)
		}
	}
	if zone.count == 0 && p.zoneObserved(i.Zone, self) {
		return Health{Status: Healthy, Percent: 100, Source: SourceZone}
	}
	if zone.count > 0 {
		return zone.health(SourceZone)
	}
	if others.count > 0 {
		return others.health(SourceMajority)
	}
	return Health{}
}

func (p *patch) zoneOf(edge string) string {
	for n := range p.edges {
		if p.edges[n].ID == edge {
			return p.edges[n].Zone
		}
	}
	return ""
}

func (p *patch) zoneObserved(zone, self string) bool {
	for n := range p.edges {
		if e := &p.edges[n]; e.Zone == zone && e.ID != self && e.observes() {
			return true
		}
	}
	return false
}

// tally counts observers of one kind.
type tally struct {
	count, unhealthy int
	recovering       uint8 // lowest percent among those that say Recovering; 0: none
}

func (t *tally) add(r *HealthRecord) {
	t.count++
	switch r.Status {
	case Unhealthy:
		t.unhealthy++
	case Recovering:
		if pc := percent(r); t.recovering == 0 || pc < t.recovering {
			t.recovering = pc
		}
	case Healthy, HealthUnknown:
	}
}

// health is unhealthy only when more than half say so: a tie is usable.
func (t *tally) health(source HealthSource) Health {
	switch {
	case 2*t.unhealthy > t.count:
		return Health{Status: Unhealthy, Source: source}
	case t.recovering > 0:
		return Health{Status: Recovering, Percent: t.recovering, Source: source}
	}
	return Health{Status: Healthy, Percent: 100, Source: source}
}

// percent is a record's share within its range: records come from strangers.
func percent(r *HealthRecord) uint8 {
	switch r.Status {
	case Healthy:
		return 100
	case Recovering:
		return min(max(r.Percent, 1), 100)
	case Unhealthy, HealthUnknown:
	}
	return 0
}
