package api

import (
	"time"

	"github.com/grayfed/grayfed/federation"
)

// EventType says what an [Event] is about.
type EventType string

// The types. Those of instances are seen by every edge in etcd's order, but
// for the last five, which only the edge concerned tells.
const (
	EventInstanceRegistered    EventType = "instance.registered"
	EventInstanceUpdated       EventType = "instance.updated"
	EventInstanceDraining      EventType = "instance.draining"
	EventInstanceAdopted       EventType = "instance.adopted"
	EventInstanceOrphaned      EventType = "instance.orphaned"
	EventInstanceDeregistered  EventType = "instance.deregistered"
	EventInstanceExpired       EventType = "instance.expired"
	EventInstanceOrphanExpired EventType = "instance.orphan-expired"
	EventInstanceSuperseded    EventType = "instance.superseded"
	EventInstanceReplayRefused EventType = "instance.replay-refused"
	EventInstanceReplayExpired EventType = "instance.replay-expired"

	// EventInstanceEjected and EventInstanceReadmitted: this edge's own evidence
	// against an instance, and its end; Detail has the reason.
	EventInstanceEjected    EventType = "instance.ejected"
	EventInstanceReadmitted EventType = "instance.readmitted"

	// EventEdge: gossip changed its mind about an edge; Status has the news.
	EventEdge EventType = "edge.status"
	// EventZoneDemoted: all edges of Zone are dead and an endpoint there failed,
	// so that requests go elsewhere; EventZoneRestored ends it.
	EventZoneDemoted  EventType = "zone.demoted"
	EventZoneRestored EventType = "zone.restored"
	// EventFailover: this edge has decided anew on its own entry in DNS; Status
	// is in or out, Detail has weight and reason.
	EventFailover EventType = "failover.changed"
	// EventDocumentsApplied and EventDocumentsRefused: a change of the
	// configuration; Detail has the hash or what is wrong.
	EventDocumentsApplied EventType = "documents.applied"
	EventDocumentsRefused EventType = "documents.refused"

	// EventMissed: the reader was too slow or came back too late, and events
	// before the next one are lost to it: read the state again.
	EventMissed EventType = "missed"
)

// Event is one event of GET /v1/events.
type Event struct {
	// ID goes back in Last-Event-ID to go on after this event. It means
	// something to the edge that wrote it until that restarts.
	ID   string    `json:"id"`
	Type EventType `json:"type"`
	Time time.Time `json:"time"` // when the edge saw it

	Service  string `json:"service,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Edge is the edge that it is about; Status what gossip says of it, or
	// what it has decided. Zone is the zone that it is about.
	Edge   string `json:"edge,omitempty"`
	Zone   string `json:"zone,omitempty"`
	Status string `json:"status,omitempty"`
	// Owner owns the instance after it, Previous before, when that differs.
	Owner    string `json:"owner,omitempty"`
	Previous string `json:"previous,omitempty"`
	// Revision is etcd's of the write that stands.
	Revision int64 `json:"revision,omitempty"`
	// Stamp is that of the write told of, By that of the write that won over it.
	Stamp *federation.Stamp `json:"stamp,omitempty"`
	By    *federation.Stamp `json:"by,omitempty"`
	// Detail is more for people.
	Detail string `json:"detail,omitempty"`
}
