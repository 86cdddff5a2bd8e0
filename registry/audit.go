package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// auditSlots is how many entries each edge keeps; the oldest is overwritten,
// save that a restart goes on at another place of the ring. With entries of
// some 200 bytes that is 1 MB an edge.
const auditSlots = 4096

// AuditEntry is what the registry keeps of one write: who did what to which
// instance, in which order.
type AuditEntry struct {
	Schema int              `json:"schema"`
	Action string           `json:"action"`
	Key    federation.Key   `json:"key"`
	Stamp  federation.Stamp `json:"stamp"`
	Actor  string           `json:"actor"` // who asked: PutOptions.Actor, else the edge
	At     time.Time        `json:"at"`    // by the edge's clock; Stamp is what orders
}

// audit returns the operation that leaves an entry, for the same transaction
// as the write it tells of.
func (r *Registry) audit(ctx context.Context, key federation.Key, stamp federation.Stamp, w write) (clientv3.Op, error) {
	lease, err := r.audits.get(ctx)
	if err != nil {
		return clientv3.Op{}, err
	}
	actor := w.actor
	if actor == "" {
		actor = "edge " + r.self
	}
	entry, err := json.Marshal(AuditEntry{
		Schema: federation.Schema, Action: w.action, Key: key, Stamp: stamp,
		Actor: actor[:min(len(actor), 256)], At: time.Now().UTC().Truncate(time.Millisecond),
	})
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("encode audit entry: %w", err)
	}
	slot := r.auditSlot.Add(1) % auditSlots
	return clientv3.OpPut(r.keys.auditSlot(r.self, slot), string(entry), clientv3.WithLease(lease)), nil
}
