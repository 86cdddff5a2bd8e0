package api

import "time"

// Federation is the answer of GET /v1/federation: what one edge knows of the
// whole.
type Federation struct {
	// Edge is the id of the edge that answers.
	Edge string `json:"edge"`
	// Revision is etcd's up to which facts are folded in, Digest covers those
	// facts: two edges with the same digest know the same instances.
	Revision int64  `json:"revision"`
	Digest   string `json:"digest"`
	// Clock is the edge's Lamport time.
	Clock uint64 `json:"clock"`
	// Instances counts the registered, Unhealthy those judged unhealthy.
	Instances int `json:"instances"`
	Unhealthy int `json:"unhealthy"`
	// Edges are all known edges by id, this one included.
	Edges     []Edge    `json:"edges"`
	Registry  Registry  `json:"registry"`
	Documents Documents `json:"documents"`
	// Certificates are those that the listeners for clients and for other edges
	// show; absent when none speaks TLS.
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Edge is one edge as the answering edge knows it.
type Edge struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster,omitempty"`
	Zone    string `json:"zone"`
	Region  string `json:"region"`
	// Status is what gossip says: alive, suspect, dead, left, or unknown
	// (registered but never met).
	Status string `json:"status"`
	// Incarnation grows with each start.
	Incarnation uint64 `json:"incarnation"`
	Data        string `json:"data,omitempty"`  // host:port of its data listener
	Admin       string `json:"admin,omitempty"` // URL of its API
	Peer        string `json:"peer,omitempty"`  // host:port of its listener for other edges
	// What it said of itself last.
	Revision int64  `json:"revision"`
	Clock    uint64 `json:"clock"`
	Digest   string `json:"digest"`
	Config   string `json:"config"` // hash of its documents
	LagMS    int64  `json:"lag_ms"` // how long ago etcd confirmed its view
}

// Registry is how the edge stands to etcd.
type Registry struct {
	// Synced: the edge had a full view from etcd since it started.
	Synced bool `json:"synced"`
	// FromCache: the view is that of an earlier run, kept on disk.
	FromCache bool `json:"from_cache"`
	// StaleSince is when etcd last confirmed the view; absent while fresh.
	StaleSince time.Time `json:"stale_since,omitzero"`
	LagMS      int64     `json:"lag_ms"`
	// Registered: the edge holds its own lease, so it takes registrations.
	Registered bool `json:"registered"`
	// Owned counts the instances whose heartbeats this edge keeps.
	Owned int `json:"owned"`
	// Orphans counts the instances of all edges that no living edge owns.
	Orphans int `json:"orphans"`
	// Queued counts the writes that wait for etcd.
	Queued int `json:"queued"`
	// Error is what last went wrong in following etcd; absent while all is well.
	Error string `json:"error,omitempty"`
}

// Documents is the configuration that the edge runs on.
type Documents struct {
	Hash      string    `json:"hash"`
	AppliedAt time.Time `json:"applied_at,omitzero"`
	// Error is why newer documents were refused; the edge goes on with those
	// of Hash. Absent when what was read last is what runs.
	Error string `json:"error,omitempty"`
	// Warnings are legal but probably not meant.
	Warnings []string `json:"warnings,omitempty"`
}

// Certificate is what a listener shows whoever connects with TLS.
type Certificate struct {
	Listener string    `json:"listener"`
	File     string    `json:"file"`
	NotAfter time.Time `json:"not_after"` // of the one in force
	// Error is why what the file holds now was refused; the listener goes on
	// with what it had. Absent when what was read last is in force.
	Error string `json:"error,omitempty"`
}
