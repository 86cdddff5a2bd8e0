package registry

import (
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// keyspace lays the facts out below one prefix of etcd:
//
//	{prefix}/v1/audit/{edge}/{slot}             who did what, leased, a ring
//	{prefix}/v1/edges/{id}                      an edge, on its lease
//	{prefix}/v1/instances/{service}/{id}        an instance or its tombstone
//
// Edges and instances lie next to each other so that one watch brings both in
// the one order etcd gave them, and the audit lies outside of it.
type keyspace struct {
	root      string
	audit     string
	edges     string
	instances string
	end       string // first key after the instances
}

func newKeyspace(prefix string) keyspace {
	root := strings.TrimRight(prefix, "/") + "/v1/"
	k := keyspace{root: root, audit: root + "audit/", edges: root + "edges/", instances: root + "instances/"}
	k.end = clientv3.GetPrefixRangeEnd(k.instances)
	return k
}

func (k keyspace) instance(key federation.Key) string {
	return k.instances + key.Service + "/" + key.ID
}

func (k keyspace) edge(id string) string { return k.edges + id }

func (k keyspace) auditSlot(edge string, slot uint64) string {
	return k.audit + edge + "/" + strconv.FormatUint(slot, 10)
}

// edgeID returns the edge that a key names, or false for another key.
func (k keyspace) edgeID(key string) (string, bool) {
	return strings.CutPrefix(key, k.edges)
}

// instanceKey returns the instance that a key names.
func (k keyspace) instanceKey(key string) (federation.Key, error) {
	path, ok := strings.CutPrefix(key, k.instances)
	service, id, slash := strings.Cut(path, "/")
	if !ok || !slash || !federation.ValidName(service) || !federation.ValidName(id) {
		return federation.Key{}, fmt.Errorf("key %s names no instance", federation.Quote(key))
	}
	return federation.Key{Service: service, ID: id}, nil
}
