package consul

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/federation"
)

const (
	maxEntries   = 1024 // that are read; far above the edges of a federation
	maxAddresses = 8    // of one entry

	// holdTTL is after how long an edge that says nothing is out by its own
	// check. It speaks each second, but an agent without a leader may keep
	// two requests waiting for seven seconds each, and that must not put an
	// edge out.
	holdTTL = "20s"
	// checkEvery and checkTimeout are of the HTTP check. One second is the
	// least that Consul does.
	checkEvery, checkTimeout = "1s", "1s"
)

// The entry is in the service's meta, and its weight and port where Consul has
// them.
const (
	metaEdge      = "edge"
	metaZone      = "zone"
	metaRole      = "role"
	metaAddresses = "addresses" // separated by commas
)

var metaKeys = [...]string{metaEdge, metaZone, metaRole, metaAddresses}

func serviceID(service, edge string) string { return service + "-" + edge }

// holdID is the id of the check that the edge holds itself, by its service's.
func holdID(id string) string { return id + "-held" }

// httpID is the id of the check that the agent does.
func httpID(id string) string { return id + "-alive" }

// registration is the entry in Consul's words.
func (o *Options) registration(in bool, weight int) *api.AgentServiceRegistration {
	id := serviceID(o.Service, o.Edge)
	addresses := make([]string, len(o.Entry.Addresses))
	for i, a := range o.Entry.Addresses {
		addresses[i] = a.Unmap().String()
	}
	meta := map[string]string{
		metaEdge:      o.Edge,
		metaZone:      o.Entry.Zone,
		metaRole:      o.Entry.Role.String(),
		metaAddresses: strings.Join(addresses, ","),
	}
	maps.Copy(meta, o.Meta)
	state := api.HealthCritical
	if in {
		state = api.HealthPassing
	}
	checks := api.AgentServiceChecks{{
		CheckID: holdID(id),
		Name:    "held by the edge",
		TTL:     holdTTL,
		Status:  state,
	}}
	if o.CheckURL != "" {
		checks = append(checks, &api.AgentServiceCheck{
			CheckID:       httpID(id),
			Name:          "the edge answers",
			HTTP:          o.CheckURL,
			Interval:      checkEvery,
			Timeout:       checkTimeout,
			TLSSkipVerify: o.CheckSkipVerify,
		})
	}
	return &api.AgentServiceRegistration{
		ID:      id,
		Name:    o.Service,
		Tags:    []string{o.Entry.Zone, o.Entry.Role.String()},
		Meta:    meta,
		Address: addresses[0],
		Port:    int(o.Entry.Port),
		// Consul's DNS gives out what only warns, too.
		Weights: &api.AgentWeights{Passing: weight, Warning: weight},
		Checks:  checks,
	}
}

// held is an entry of any service as Consul tells it, as far as it matters.
// The types of consul/api for that are not used: decoding them panics on a
// check whose definition is null.
type held struct {
	Node    struct{ Node string }
	Service struct {
		ID          string
		Tags        []string
		Meta        map[string]string
		Address     string
		Port        int
		Weights     api.AgentWeights
		CreateIndex uint64
	}
	Checks []check
}

type check struct{ CheckID, ServiceID, Status string }

// holds reports whether found is what o and p say.
func (o *Options) holds(found *held, p *publication) bool {
	want := o.registration(p.in, p.weight)
	s := &found.Service
	if s.Address != want.Address || s.Port != want.Port || !slices.Equal(s.Tags, want.Tags) ||
		!maps.Equal(s.Meta, want.Meta) || s.Weights.Passing != want.Weights.Passing || s.Weights.Warning != want.Weights.Warning {
		return false
	}
	for _, wanted := range want.Checks {
		at := slices.IndexFunc(found.Checks, func(c check) bool { return c.CheckID == wanted.CheckID })
		if at < 0 || wanted.TTL != "" && found.Checks[at].Status != wanted.Status {
			return false
		}
	}
	return true
}

// refusal is an entry that was left out.
type refusal struct {
	where string // node and service id
	err   error
}

// decode reads what Consul holds of a service. Others write it: what is not an
// edge's entry is refused, not believed.
func decode(service string, found []held) (entries []Reported, refused []refusal) {
	type candidate struct {
		Reported
		created uint64
		where   string
	}
	best := make(map[string]candidate)
	for i := range found {
		f := &found[i]
		if i == maxEntries {
			refused = append(refused, refusal{"the rest", fmt.Errorf("there are %d entries, read are %d", len(found), maxEntries)})
			break
		}
		c := candidate{where: where(f)}
		var err error
		if c.Reported, err = read(service, f); err != nil {
			refused = append(refused, refusal{c.where, err})
			continue
		}
		c.created = f.Service.CreateIndex
		// The same edge at two nodes is one that moved to another agent: the
		// one that passes counts, else the newer.
		old, twice := best[c.Edge]
		if twice {
			older := old
			if cmp.Or(order(old.Passing, c.Passing), cmp.Compare(old.created, c.created), cmp.Compare(old.where, c.where)) > 0 {
				c, older = old, c
			}
			refused = append(refused, refusal{older.where, fmt.Errorf("edge %s is also at %s", c.Edge, c.where)})
		}
		best[c.Edge] = c
	}
	for _, edge := range slices.Sorted(maps.Keys(best)) {
		entries = append(entries, best[edge].Reported)
	}
	return entries, refused
}

// order is 1 when a alone holds, -1 when b alone does.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// where names an entry in a log, however strange it is.
func where(f *held) string {
	return federation.Quote(f.Node.Node) + " " + federation.Quote(f.Service.ID)
}

// read reads one entry.
func read(service string, f *held) (Reported, error) {
	s := &f.Service
	r := Reported{Entry: failover.Entry{
		Edge:   s.Meta[metaEdge],
		Zone:   s.Meta[metaZone],
		Weight: s.Weights.Passing,
	}}
	var err error
	if r.Role, err = failover.ParseRole(s.Meta[metaRole]); err != nil {
		return Reported{}, fmt.Errorf("role %s: allowed primary or standby", federation.Quote(s.Meta[metaRole]))
	}
	if r.Addresses, err = parseAddresses(s.Meta[metaAddresses]); err != nil {
		return Reported{}, err
	}
	if s.Port < 0 || s.Port > math.MaxUint16 {
		return Reported{}, fmt.Errorf("port is %d, allowed 1 to 65535", s.Port)
	}
	r.Port = uint16(s.Port)
	if err := validEntry(r.Entry); err != nil {
		return Reported{}, err
	}
	if s.ID != serviceID(service, r.Edge) {
		return Reported{}, fmt.Errorf("edge %s is not the one of service %s", r.Edge, federation.Quote(s.ID))
	}
	r.Passing = passing(s.ID, f.Checks)
	return r, nil
}

// passing reports whether the edge holds itself in and nothing else has it
// out. An entry that has lost the edge's own check is out: a standby must not
// come in that way.
func passing(id string, checks []check) bool {
	own := false
	for _, c := range checks {
		if c.CheckID == holdID(id) && c.ServiceID == id {
			own = c.Status == api.HealthPassing
			if !own {
				return false
			}
		} else if c.Status != api.HealthPassing && c.Status != api.HealthWarning {
			return false
		}
	}
	return own
}

// parseAddresses reads addresses separated by commas. A hostile text is not
// split beyond what is allowed.
func parseAddresses(text string) ([]netip.Addr, error) {
	if len(text) > maxMetaValue {
		return nil, fmt.Errorf("addresses take %d bytes, allowed %d", len(text), maxMetaValue)
	}
	var addresses []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, fmt.Errorf("address %s is none", federation.Quote(part))
		}
		addresses = append(addresses, a.Unmap())
	}
	return addresses, nil
}

// validEntry checks what may be published or believed.
func validEntry(e failover.Entry) error {
	switch {
	case !federation.ValidName(e.Edge):
		return fmt.Errorf("edge %s is not a name", federation.Quote(e.Edge))
	case !federation.ValidName(e.Zone):
		return fmt.Errorf("zone %s is not a name", federation.Quote(e.Zone))
	case e.Role != failover.Primary && e.Role != failover.Standby:
		return fmt.Errorf("role is %s, allowed primary or standby", e.Role)
	case len(e.Addresses) < 1 || len(e.Addresses) > maxAddresses:
		return fmt.Errorf("there are %d addresses, allowed 1 to %d", len(e.Addresses), maxAddresses)
	case e.Port == 0:
		return errors.New("port is 0, allowed 1 to 65535")
	case e.Weight < 1 || e.Weight > failover.MaxWeight:
		return fmt.Errorf("weight is %d, allowed 1 to %d", e.Weight, failover.MaxWeight)
	}
	for i, a := range e.Addresses {
		a = a.Unmap()
		switch {
		case !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast():
			return fmt.Errorf("address %s cannot be reached by clients", a)
		case slices.ContainsFunc(e.Addresses[:i], func(b netip.Addr) bool { return b.Unmap() == a }):
			return fmt.Errorf("address %s is there twice", a)
		}
	}
	return nil
}
