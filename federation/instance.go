package federation

import (
	"encoding/json"
	"strings"
	"time"
)

// Key names an instance. It is unique in the federation.
type Key struct {
	Service string `json:"service"`
	ID      string `json:"id"`
}

// String is "service/id".
func (k Key) String() string { return k.Service + "/" + k.ID }

// Local reports whether the key is that of an endpoint which is not registered
// but known to one edge alone: an upstream URL's, whose service is "host:port".
// Nobody says that it answers a health path, so a connection is its probe.
func (k Key) Local() bool { return strings.Contains(k.Service, ":") }

// Protocol is what an instance speaks to the edge.
type Protocol string

// The protocols. An instance that names none speaks HTTP1.
const (
	HTTP1 Protocol = "http/1.1"
	H2C   Protocol = "h2c"   // HTTP/2 over cleartext, prior knowledge
	H2    Protocol = "h2"    // HTTP/2 over TLS
	HTTPS Protocol = "https" // HTTP/1.1 over TLS
)

// Locality is where something runs.
type Locality struct {
	Cluster string `json:"cluster,omitempty"`
	Zone    string `json:"zone"`
	Region  string `json:"region,omitempty"`
}

// Instance is a registered program that serves a service: the fact that the
// registry keeps. It is immutable once it is in a [Catalog].
type Instance struct {
	Key
	Locality
	// Address is "host:port"; host is an IP address.
	Address string `json:"address"`
	// Version is free text without spaces ("v2-beta"); selectors match it.
	Version string `json:"version,omitempty"`
	// Tags are further labels that selectors match.
	Tags map[string]string `json:"tags,omitempty"`
	// Weight is the share of its subset's requests relative to the others,
	// 0 to 1000; 0 takes none. Registration fills in 100 where none is given.
	Weight int `json:"weight"`
	// Capacity is how many requests it can work on at once; 0: not declared.
	Capacity int      `json:"capacity,omitempty"`
	Protocol Protocol `json:"protocol,omitempty"`
	// HealthPath is what the active probe asks for; empty: the service's.
	HealthPath string `json:"healthPath,omitempty"`
	// Draining: it finishes what it has and gets nothing new.
	Draining bool `json:"draining,omitempty"`

	// Owner is the id of the edge that keeps its heartbeats.
	Owner string `json:"owner"`
	// TTL is how long it lives without a heartbeat; 0: it sends none and its
	// owner judges it by probes alone (static registration).
	TTL Duration `json:"ttl,omitempty"`
	// Orphaned: its owner is gone and no edge could adopt it; since when.
	OrphanedAt time.Time `json:"orphanedAt,omitzero"`

	Stamp Stamp `json:"stamp"`
	// Revision is etcd's ModRevision of the write; not part of the value.
	Revision int64 `json:"revision,omitempty"`
	// Fingerprint is a hash over key, revision and stored value, which
	// [Digest] adds up; not part of the value.
	Fingerprint Fingerprint `json:"-"`
	// Unknown holds the fields of the stored value that this version of the
	// program does not know, so that a rewrite keeps them.
	Unknown map[string]json.RawMessage `json:"-"`
}

// Duration is a time.Duration that JSON writes as text ("10s").
type Duration time.Duration

// MarshalJSON writes the text form of time.Duration.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON reads the text form of time.Duration.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	v, err := time.ParseDuration(text)
	*d = Duration(v)
	return err
}

// Edge is one gateway of the federation as the others know it.
type Edge struct {
	ID string `json:"id"`
	Locality
	// Incarnation grows with each start of the edge.
	Incarnation uint64 `json:"incarnation"`
	Data        string `json:"data,omitempty"`  // host:port of its data listener
	Admin       string `json:"admin,omitempty"` // URL of its HTTP API
	Gossip      string `json:"gossip,omitempty"`
	// Peer is the host:port of the listener on which it takes requests of other
	// edges; empty: it has none.
	Peer   string     `json:"peer,omitempty"`
	Entry  Entry      `json:"entry,omitzero"` // in DNS
	Status EdgeStatus `json:"status"`
	// What it said of itself last, by gossip.
	Revision int64    `json:"revision"`         // etcd revision applied
	Clock    uint64   `json:"clock"`            // Lamport time
	Digest   string   `json:"digest"`           // over its etcd-confirmed facts
	Config   string   `json:"config,omitempty"` // hash of its documents
	Lag      Duration `json:"-"`                // how long its registry view is behind
	Share    int      `json:"-"`                // weight of its entry now; 0: it is out
}

// EdgeStatus is what gossip says of an edge.
type EdgeStatus string

// The states of an edge. The empty string is unknown: in the registry, but
// never met by gossip.
const (
	EdgeUnknown EdgeStatus = ""
	EdgeAlive   EdgeStatus = "alive"
	EdgeSuspect EdgeStatus = "suspect"
	EdgeDead    EdgeStatus = "dead"
	EdgeLeft    EdgeStatus = "left" // shut down on purpose
)
