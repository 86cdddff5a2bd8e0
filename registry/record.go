package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// record is what one instance key holds: an instance, a tombstone, something
// this program cannot read, or, with mod 0, nothing.
type record struct {
	instance *federation.Instance
	tomb     *tombstone
	broken   error
	mod      int64 // ModRevision
}

// stamp is the order of the write that made the record.
func (r record) stamp() federation.Stamp {
	switch {
	case r.instance != nil:
		return r.instance.Stamp
	case r.tomb != nil:
		return r.tomb.Stamp
	}
	return federation.Stamp{}
}

// withStamp returns a copy of the record written at stamp.
func (r record) withStamp(stamp federation.Stamp) record {
	if r.instance != nil {
		i := *r.instance
		i.Stamp = stamp
		r.instance = &i
	}
	if r.tomb != nil {
		t := *r.tomb
		t.Stamp = stamp
		r.tomb = &t
	}
	return r
}

// tombstone stands in the place of a deleted instance, on a lease that lasts
// longer than any replay is accepted, so that no fact from before the delete
// can bring the instance back.
type tombstone struct {
	federation.Key
	Stamp  federation.Stamp `json:"stamp"`
	Reason EventKind        `json:"reason"`
	Owner  string           `json:"owner,omitempty"` // the last
	At     time.Time        `json:"at"`              // for people
}

type storedTombstone struct {
	Schema    int        `json:"schema"`
	Tombstone *tombstone `json:"tombstone"`
}

// encode returns the stored form of an instance or a tombstone.
func (r record) encode() ([]byte, error) {
	if r.instance != nil {
		return federation.EncodeInstance(r.instance)
	}
	return json.Marshal(storedTombstone{Schema: federation.Schema, Tombstone: r.tomb})
}

var tombstoneMark = []byte(`"tombstone"`)

// decodeRecord reads the value stored under an instance's key. What cannot be
// read is a broken record, never an error: one bad value must not stop the
// others.
func decodeRecord(name string, key federation.Key, value []byte, mod int64) record {
	if bytes.Contains(value, tombstoneMark) {
		var stored storedTombstone
		if err := json.Unmarshal(value, &stored); err == nil && stored.Tombstone != nil {
			return decodeTombstone(key, stored, mod)
		}
	}
	i, err := federation.DecodeInstance(value)
	if err != nil {
		return record{broken: err, mod: mod}
	}
	if i.Key != key {
		return record{broken: fmt.Errorf("value of %s speaks of %s", key, federation.Quote(i.String())), mod: mod}
	}
	if err := i.Validate(); err != nil {
		return record{broken: err, mod: mod}
	}
	if !federation.ValidName(i.Owner) || i.Stamp.IsZero() {
		return record{broken: errors.New("value has no owner or no stamp"), mod: mod}
	}
	i.Revision = mod
	i.Fingerprint = federation.FingerprintOf(name, mod, value)
	return record{instance: i, mod: mod}
}

func decodeTombstone(key federation.Key, stored storedTombstone, mod int64) record {
	switch {
	case stored.Schema > federation.Schema:
		return record{broken: fmt.Errorf("tombstone: %w", federation.ErrSchema), mod: mod}
	case stored.Schema < 1 || stored.Tombstone.Key != key || stored.Tombstone.Stamp.IsZero():
		return record{broken: errors.New("ill-formed tombstone"), mod: mod}
	}
	return record{tomb: stored.Tombstone, mod: mod}
}

// storedEdge is the value of an edge's key.
type storedEdge struct {
	Schema int `json:"schema"`
	federation.Edge
}

func encodeEdge(e federation.Edge) ([]byte, error) {
	// What gossip says is not a fact of the registry.
	e.Status, e.Revision, e.Clock, e.Digest, e.Config = federation.EdgeUnknown, 0, 0, "", ""
	data, err := json.Marshal(storedEdge{Schema: federation.Schema, Edge: e})
	if err != nil {
		return nil, fmt.Errorf("encode edge %s: %w", e.ID, err)
	}
	return data, nil
}

func decodeEdge(id string, value []byte) (federation.Edge, error) {
	var stored storedEdge
	if err := json.Unmarshal(value, &stored); err != nil {
		return federation.Edge{}, fmt.Errorf("decode edge: %w", err)
	}
	switch {
	case stored.Schema > federation.Schema:
		return federation.Edge{}, fmt.Errorf("decode edge: %w", federation.ErrSchema)
	case stored.Schema < 1 || stored.ID != id || !federation.ValidName(id) || !federation.ValidName(stored.Zone):
		return federation.Edge{}, errors.New("decode edge: id, zone or schema version ill-formed")
	}
	e := stored.Edge
	e.Status, e.Revision, e.Clock, e.Digest, e.Config = federation.EdgeUnknown, 0, 0, "", ""
	return e, nil
}
