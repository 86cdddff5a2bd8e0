package api

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// Services is the answer of GET /v1/services.
type Services struct {
	Revision int64     `json:"revision"`
	Services []Service `json:"services"`
}

// Service sums up the instances of one service.
type Service struct {
	Name      string `json:"name"`
	Instances int    `json:"instances"`
	Usable    int    `json:"usable"` // a request could be sent there now
	Unhealthy int    `json:"unhealthy"`
	Draining  int    `json:"draining"`
	// Zones and Versions count instances; those without a version are under "".
	Zones    map[string]int `json:"zones"`
	Versions map[string]int `json:"versions"`
	// Baseline is the declared selector of what untagged requests get.
	Baseline *federation.Selector `json:"baseline,omitempty"`
	// Releases are the names of the releases that cover it.
	Releases []string `json:"releases,omitempty"`
}

// Instances is the answer of GET /v1/services/{service}/instances.
type Instances struct {
	Revision  int64      `json:"revision"`
	Service   string     `json:"service"`
	Instances []Instance `json:"instances"` // by id
}

// Instance is one registered instance, with what the answering edge thinks of
// it.
type Instance struct {
	Service    string            `json:"service"`
	ID         string            `json:"id"`
	Cluster    string            `json:"cluster,omitempty"`
	Zone       string            `json:"zone"`
	Region     string            `json:"region,omitempty"`
	Address    string            `json:"address"`
	Version    string            `json:"version,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Weight     int               `json:"weight"`
	Capacity   int               `json:"capacity,omitempty"`
	Protocol   string            `json:"protocol"`
	HealthPath string            `json:"health_path,omitempty"`
	// TTL is how long it lives without a heartbeat; "0s": it sends none.
	TTL      federation.Duration `json:"ttl"`
	Draining bool                `json:"draining"`

	// Owner is the edge that keeps its heartbeats.
	Owner string `json:"owner"`
	// Orphaned: the owner is gone and no edge could adopt it, since when.
	Orphaned      bool      `json:"orphaned"`
	OrphanedSince time.Time `json:"orphaned_since,omitzero"`
	// Stamp is that of the last write; its origin is the edge that wrote.
	Stamp federation.Stamp `json:"stamp"`
	// Revision is etcd's of the last write: the ETag. 0: accepted, but etcd
	// has yet to confirm it.
	Revision int64 `json:"revision"`

	Health Health `json:"health"`
	// Usable: a request could be sent there now.
	Usable bool `json:"usable"`
	// InFlight is how many requests of the answering edge it works on.
	InFlight int64 `json:"in_flight"`
}

// Health is the judgement on an instance.
type Health struct {
	Status string `json:"status"` // unknown, healthy, recovering, unhealthy
	// Percent is the share of its weight that it gets, 0 to 100.
	Percent int    `json:"percent"`
	Source  string `json:"source"` // whose evidence decided: none, own, zone, majority
}

// Registration is the body of PUT /v1/services/{service}/instances/{id}. It
// replaces what was registered as a whole and counts as a heartbeat.
type Registration struct {
	// Service and ID may repeat those of the path.
	Service string `json:"service,omitempty"`
	ID      string `json:"id,omitempty"`

	Cluster string `json:"cluster,omitempty"`
	// Zone is required: an instance may register at an edge of another zone.
	Zone string `json:"zone"`
	// Region is, when empty, that of an edge in the same zone.
	Region string `json:"region,omitempty"`
	// Address is "ip:port"; required.
	Address string            `json:"address"`
	Version string            `json:"version,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	// Weight is 0 to 1000; 100 when nil.
	Weight *int `json:"weight,omitempty"`
	// Capacity is how many requests it can work on at once; 0: not declared.
	Capacity int `json:"capacity,omitempty"`
	// Protocol is http/1.1 (also when empty), h2c, h2 or https.
	Protocol string `json:"protocol,omitempty"`
	// HealthPath is what is probed; empty: what the service's document says.
	HealthPath string `json:"health_path,omitempty"`
	// TTL is how long it lives without a heartbeat, 1 s to 24 h; nil:
	// [DefaultTTL]; 0: it sends none and is judged by probes alone.
	TTL *federation.Duration `json:"ttl,omitempty"`
	// Draining registers it as draining; a registration without it ends a
	// drain.
	Draining bool `json:"draining,omitempty"`
}
