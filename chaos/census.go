package chaos

import (
	"context"
	"fmt"

	"github.com/grayfed/grayfed/edge/api"
)

// maxListed bounds the instances that a census asks an edge for. A service that
// has more is left out: an event of one of its instances is about no known zone.
const maxListed = 10_000

// census knows in which zone each edge and instance is. Zones have the names
// that the target has for them, which need not be the edges' own.
type census struct {
	zones     map[string]string // the target's name by the edges' own
	edges     map[string]string // zone by edge
	instances map[resident]string
}

// resident is an instance.
type resident struct{ service, id string }

// takeCensus asks each edge of a target which it is, and the first which
// instances there are.
func takeCensus(ctx context.Context, t *Target) (*census, error) {
	c := &census{zones: make(map[string]string), edges: make(map[string]string), instances: make(map[resident]string)}
	var own []api.Edge
	for i := range t.Edges {
		known, err := c.meet(ctx, &t.Edges[i])
		if err != nil {
			return nil, fmt.Errorf("ask the edge of %s for the edges: %w", t.Edges[i].Zone, err)
		}
		own = append(own, known...)
	}
	// Those that are no edges of the target's, once all names are known.
	for _, e := range own {
		c.edges[e.ID] = c.zone(e.Zone)
	}
	if len(t.Edges) == 0 {
		return c, nil
	}
	if err := c.count(ctx, &t.Edges[0]); err != nil {
		return nil, fmt.Errorf("ask the edge of %s for the instances: %w", t.Edges[0].Zone, err)
	}
	return c, nil
}

// meet notes what an edge calls its zone, and returns all edges that it knows.
func (c *census) meet(ctx context.Context, e *Edge) ([]api.Edge, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	known, err := e.Client.Federation(limited)
	if err != nil {
		return nil, err
	}
	for _, other := range known.Edges {
		if other.ID == known.Edge {
			c.zones[other.Zone] = e.Zone
		}
	}
	return known.Edges, nil
}

// count notes where the instances are that an edge knows.
func (c *census) count(ctx context.Context, e *Edge) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	services, err := e.Client.Services(limited)
	if err != nil {
		return err
	}
	left := maxListed
	for _, s := range services.Services {
		if s.Instances > left {
			continue
		}
		left -= s.Instances
		found, err := e.Client.Instances(limited, s.Name)
		if err != nil {
			return err
		}
		for _, i := range found.Instances {
			c.instances[resident{s.Name, i.ID}] = c.zone(i.Zone)
		}
	}
	return nil
}

// zone is the target's name for what edges call name.
func (c *census) zone(name string) string {
	if known, ok := c.zones[name]; ok {
		return known
	}
	return name
}

// about is the zone that an event is about, told by the edge of another or the
// same; "": it is not known.
func (c *census) about(e *api.Event, teller string) string {
	switch {
	case e.Type == api.EventDocumentsRefused:
		return teller
	case e.Instance != "":
		return c.instances[resident{e.Service, e.Instance}]
	case e.Zone != "":
		return c.zone(e.Zone)
	default:
		return c.edges[e.Edge]
	}
}
