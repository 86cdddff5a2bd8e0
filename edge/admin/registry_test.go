package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/registry"
	"github.com/grayfed/grayfed/registry/etcdtest"
)

// adapter gives the registry to the server, as an edge does.
type adapter struct{ *registry.Registry }

var (
	_ Registrar  = adapter{}
	_ Heartbeats = adapter{}
)

func (a adapter) Register(ctx context.Context, i federation.Instance, o WriteOptions) (federation.Instance, error) {
	stored, err := a.Registry.Register(ctx, i, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor})
	return stored, translate(err)
}

func (a adapter) Deregister(ctx context.Context, key federation.Key, o WriteOptions) error {
	return translate(a.Registry.Deregister(ctx, key, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor}))
}

func (a adapter) Drain(ctx context.Context, key federation.Key, o WriteOptions) (federation.Instance, error) {
	stored, err := a.Registry.Drain(ctx, key, registry.PutOptions{IfMatch: o.IfMatch, Actor: o.Actor})
	return stored, translate(err)
}

func (a adapter) Heartbeat(ctx context.Context, key federation.Key) error {
	return translate(a.Registry.Heartbeat(ctx, key))
}

func translate(err error) error {
	if owned, ok := errors.AsType[*registry.OwnedError](err); ok {
		return &OwnedError{Owner: owned.Owner}
	}
	for theirs, ours := range map[error]error{
		registry.ErrNotFound: ErrNotFound, registry.ErrPreconditionFailed: ErrPreconditionFailed,
		registry.ErrConflict: ErrConflict, registry.ErrUnavailable: ErrUnavailable,
	} {
		if errors.Is(err, theirs) {
			return fmt.Errorf("%w: %w", ours, err)
		}
	}
	return err
}

// newRegistryRig is a server on a real registry that runs until the test ends.
func newRegistryRig(t *testing.T, etcd, id string) *rig {
	t.Helper()
	client, err := registry.Connect(registry.ConnectOptions{Endpoints: []string{etcd}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	clock, err := federation.OpenClock(id, "")
	if err != nil {
		t.Fatal(err)
	}
	catalog := federation.NewCatalog(federation.CatalogOptions{Self: id, RecordTTL: time.Hour, NewRuntime: newLoad})
	self := federation.Edge{ID: id, Locality: federation.Locality{Zone: "az1", Region: "east"}, Incarnation: 1}
	reg, err := registry.New(registry.Options{Client: client, Prefix: "/test", Self: self, Clock: clock, Sink: catalog, Edges: catalog})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- reg.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("registry of %s: %v", id, err)
		}
	})
	r := newRig(t, func(o *Options) {
		o.Self, o.Catalog = self, catalog
		o.Registrar, o.Heartbeats = adapter{reg}, adapter{reg}
		o.AllowedAddresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	eventually(t, func() error {
		if s := reg.Status(); !s.Synced || !s.Registered {
			return fmt.Errorf("registry of %s: %+v", id, s)
		}
		return nil
	})
	return r
}

// TestWithTheRegistry writes through two servers into one real etcd.
func TestWithTheRegistry(t *testing.T) {
	etcd, _ := etcdtest.Start(t)
	one, two := newRegistryRig(t, etcd, "az1-edge"), newRegistryRig(t, etcd, "az2-edge")
	c1, c2 := one.client(), two.client()
	ctx := t.Context()
	if err := c1.Heartbeat(ctx, key1); problemOfError(t, err).Type != api.ProblemNoInstance {
		t.Errorf("heartbeat of a stranger: %v", err)
	}
	// Two edges know of each other by etcd alone here.
	eventually(t, func() error {
		fed, err := c1.Federation(ctx)
		if err == nil && len(fed.Edges) != 2 {
			err = fmt.Errorf("edges are %+v", fed.Edges)
		}
		return err
	})
	stored, err := c1.Register(ctx, key1, api.Registration{Zone: "az1", Address: "10.0.0.7:80", Version: "v1"}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stored.Owner != "az1-edge" || stored.Revision == 0 || stored.Stamp.Origin != "az1-edge" {
		t.Errorf("stored %+v", stored)
	}
	eventually(t, func() error {
		list, err := c2.Instances(ctx, "user-service")
		if err == nil && (len(list.Instances) != 1 || list.Instances[0].Revision != stored.Revision) {
			err = fmt.Errorf("the other edge lists %+v", list)
		}
		return err
	})
	_, err = c2.Register(ctx, key1, api.Registration{Zone: "az2", Address: "10.0.0.8:80"}, api.WriteOptions{})
	if p := problemOfError(t, err); p.Status != http.StatusConflict || p.Type != api.ProblemOwned || p.Owner != "az1-edge" {
		t.Errorf("a live id at another edge: %v", err)
	}
	if err := c1.Heartbeat(ctx, key1); err != nil {
		t.Error(err)
	}
	drained, err := c2.Drain(ctx, key1, api.WriteOptions{IfMatch: stored.Revision})
	if err != nil || !drained.Draining || drained.Owner != "az1-edge" || drained.Revision <= stored.Revision {
		t.Errorf("drained elsewhere: %+v, %v", drained, err)
	}
	_, err = c1.Register(ctx, key1, api.Registration{Zone: "az1", Address: "10.0.0.9:80"}, api.WriteOptions{IfMatch: stored.Revision})
	if p := problemOfError(t, err); p.Status != http.StatusPreconditionFailed {
		t.Errorf("an old revision: %v", err)
	}
	if err := c2.Deregister(ctx, key1, api.WriteOptions{}); err != nil {
		t.Error(err)
	}
	if err := c1.Deregister(ctx, key1, api.WriteOptions{}); problemOfError(t, err).Status != http.StatusNotFound {
		t.Errorf("deregistered twice: %v", err)
	}
}

// TestRegistryEventsAreDescribed: each kind of the registry's events is one of
// the document's.
func TestRegistryEventsAreDescribed(t *testing.T) {
	types := readOpenAPI(t).Components.Schemas["Event"].Properties["type"].Enum
	described := make(map[string]bool)
	for _, name := range types {
		described[name] = true
	}
	for _, kind := range []registry.EventKind{
		registry.EventRegistered, registry.EventUpdated, registry.EventDraining, registry.EventAdopted, registry.EventOrphaned,
		registry.EventDeregistered, registry.EventExpired, registry.EventExpiredOrphan,
		registry.EventSuperseded, registry.EventReplayRefused, registry.EventReplayExpired,
	} {
		if !described["instance."+string(kind)] {
			t.Errorf("%s is not described", kind)
		}
	}
	for _, kind := range []api.EventType{
		api.EventInstanceRegistered, api.EventInstanceUpdated, api.EventInstanceDraining, api.EventInstanceAdopted,
		api.EventInstanceOrphaned, api.EventInstanceDeregistered, api.EventInstanceExpired, api.EventInstanceOrphanExpired,
		api.EventInstanceSuperseded, api.EventInstanceReplayRefused, api.EventInstanceReplayExpired,
		api.EventInstanceEjected, api.EventInstanceReadmitted, api.EventZoneDemoted, api.EventZoneRestored, api.EventFailover,
		api.EventEdge, api.EventDocumentsApplied, api.EventDocumentsRefused, api.EventMissed,
	} {
		if !described[string(kind)] {
			t.Errorf("%s is not described", kind)
		}
		delete(described, string(kind))
	}
	if len(described) > 0 {
		t.Errorf("described, but no type: %v", described)
	}
}
