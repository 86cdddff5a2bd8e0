package registry

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// rig is one federation in an etcd.
type rig struct {
	testing.TB
	etcd   string
	prefix string
	raw    *clientv3.Client // for looking at what etcd holds
	keys   keyspace
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigAt(t, sharedEtcd)
}

func newRigAt(t testing.TB, etcd string) *rig {
	t.Helper()
	// The time keeps runs of one test apart (-count), which share the etcd.
	name := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	r := &rig{TB: t, etcd: etcd, prefix: fmt.Sprintf("/%s-%d", name, time.Now().UnixNano())}
	r.raw = connect(t, etcd)
	r.keys = newKeyspace(r.prefix)
	return r
}

func connect(t testing.TB, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := Connect(ConnectOptions{Endpoints: []string{"http://" + endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// node is one edge's registry with all that is around it.
type node struct {
	*Registry
	t       testing.TB
	catalog *federation.Catalog
	sink    *checkedSink
	events  *eventLog
	log     *logBuffer
	gate    *gate // before etcd

	cancel context.CancelFunc
	done   chan struct{}
	err    error // after done
}

// fast are intervals that tests can wait for.
func fast() Timing {
	return Timing{
		EdgeLease: 20 * time.Second, Write: 10 * time.Second, Progress: 100 * time.Millisecond,
		AdoptGrace: 50 * time.Millisecond, AdoptTier: 300 * time.Millisecond, OrphanProbe: 100 * time.Millisecond,
		ReplayAge: time.Hour, Audit: time.Hour, CacheAfter: 100 * time.Millisecond, CacheEvery: 20 * time.Millisecond,
		BackoffMax: 50 * time.Millisecond,
	}
}

// mortal is for an edge whose lease is to end within a test.
func mortal(o *Options) { o.Timing.EdgeLease = 2 * time.Second }

var incarnations atomic.Uint64

func (r *rig) node(id, zone, region string, edits ...func(*Options)) *node {
	r.Helper()
	n := &node{t: r.TB, events: &eventLog{}, log: &logBuffer{}, gate: newGate(r.TB, r.etcd), done: make(chan struct{})}
	clock, err := federation.OpenClock(id, "")
	if err != nil {
		r.Fatal(err)
	}
	n.catalog = federation.NewCatalog(federation.CatalogOptions{
		Self: id, NewRuntime: func(*federation.Instance) federation.Runtime { return noRuntime{} }, RecordTTL: time.Minute,
	})
	n.sink = &checkedSink{t: r.TB, to: n.catalog}
	opts := Options{
		Client: connect(r.TB, n.gate.addr()), Prefix: r.prefix,
		Self: federation.Edge{
			ID: id, Locality: federation.Locality{Zone: zone, Region: region}, Incarnation: incarnations.Add(1),
			Admin: "http://" + id + ":9081",
		},
		Clock: clock, Sink: n.sink, Edges: n.catalog, OnEvent: n.events.add, Timing: fast(),
		Log:   slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Probe: func(context.Context, *federation.Instance) bool { return true },
	}
	for _, edit := range edits {
		edit(&opts)
	}
	if n.Registry, err = New(opts); err != nil {
		r.Fatal(err)
	}
	return n
}

// start runs a node until the test ends or it is killed or stopped, and waits
// until it is a part of the federation.
func (r *rig) start(id, zone, region string, edits ...func(*Options)) *node {
	r.Helper()
	n := r.node(id, zone, region, edits...)
	n.run()
	eventually(r, id+" is registered and synced", func() bool {
		s := n.Status()
		return s.Registered && s.Synced && n.edge(id) != nil
	})
	return n
}

func (n *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		n.err = n.Run(ctx)
	}()
	n.t.Cleanup(n.stop)
}

// stop says goodbye.
func (n *node) stop() {
	n.cancel()
	<-n.done
}

// kill does not: nothing of this node reaches etcd any more.
func (n *node) kill() {
	n.gate.shut()
	_ = n.client.Close()
	n.stop()
}

func (n *node) edge(id string) *federation.Edge {
	for _, e := range n.catalog.Snapshot().Edges {
		if e.ID == id {
			return &e
		}
	}
	return nil
}

// get returns what the node's sink has of an instance, nil when nothing.
func (n *node) get(id string) *federation.Instance {
	e := n.catalog.Snapshot().Endpoint(key(id))
	if e == nil {
		return nil
	}
	return e.Instance
}

func (n *node) put(i federation.Instance) federation.Instance {
	n.t.Helper()
	stored, err := n.Register(context.Background(), i, PutOptions{})
	if err != nil {
		n.t.Fatalf("register at %s: %v", n.self, err)
	}
	return stored
}

func (n *node) has(id string) func() bool { return func() bool { return n.get(id) != nil } }

func (n *node) ownedBy(id, owner string) func() bool {
	return func() bool {
		i := n.get(id)
		return i != nil && i.Owner == owner && i.OrphanedAt.IsZero()
	}
}

func key(id string) federation.Key { return federation.Key{Service: "user-service", ID: id} }

func instance(id, zone string) federation.Instance {
	return federation.Instance{
		Key: key(id), Locality: federation.Locality{Zone: zone, Region: regionOf(zone)},
		Address: "10.0.0.7:8080", Version: "v1", Weight: 100, TTL: federation.Duration(time.Minute),
	}
}

func regionOf(zone string) string {
	if zone == "az3" {
		return "south"
	}
	return "east"
}

// stored returns everything etcd holds below the instances.
func (r *rig) stored() (instances map[federation.Key]*federation.Instance, tombs map[federation.Key]*tombstone, revision int64) {
	r.Helper()
	resp, err := r.raw.Get(context.Background(), r.keys.instances, clientv3.WithPrefix())
	if err != nil {
		r.Fatal(err)
	}
	instances, tombs = make(map[federation.Key]*federation.Instance), make(map[federation.Key]*tombstone)
	for _, kv := range resp.Kvs {
		k, err := r.keys.instanceKey(string(kv.Key))
		if err != nil {
			continue
		}
		rec := decodeRecord(string(kv.Key), k, kv.Value, kv.ModRevision)
		if rec.instance != nil {
			instances[k] = rec.instance
		}
		if rec.tomb != nil {
			tombs[k] = rec.tomb
		}
	}
	return instances, tombs, resp.Header.Revision
}

func (r *rig) write(name, value string) {
	r.Helper()
	if _, err := r.raw.Put(context.Background(), name, value); err != nil {
		r.Fatal(err)
	}
}

// agree waits until the sinks of all nodes are what etcd holds, to the
// revision and the digest.
func (r *rig) agree(nodes ...*node) {
	r.Helper()
	want, _, revision := r.stored()
	var digest federation.Fingerprint
	for _, i := range want {
		digest = digest.Add(i.Fingerprint)
	}
	for _, n := range nodes {
		eventually(r, n.self+" has what etcd has", func() bool { return n.catalog.Snapshot().Revision >= revision })
		snap := n.catalog.Snapshot()
		if snap.Instances != len(want) {
			r.Errorf("%s has %d instances, etcd %d", n.self, snap.Instances, len(want))
		}
		for k, i := range want {
			e := snap.Endpoint(k)
			if e == nil {
				r.Errorf("%s lacks %s", n.self, k)
			} else if e.Revision != i.Revision || e.Stamp != i.Stamp || e.Owner != i.Owner {
				r.Errorf("%s has %+v, etcd %+v", n.self, e.Instance, i)
			}
		}
		if snap.Digest != digest {
			r.Errorf("%s has digest %s, etcd %s", n.self, snap.Digest, digest)
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

type noRuntime struct{}

func (noRuntime) InFlight() int64 { return 0 }
func (noRuntime) Admits() bool    { return true }
func (noRuntime) Close()          {}

// checkedSink passes on to a catalog and checks what Sink promises.
type checkedSink struct {
	t        testing.TB
	to       *federation.Catalog
	busy     atomic.Bool
	revision int64
	replaced atomic.Int64
}

func (s *checkedSink) Replace(all []*federation.Instance, revision int64) {
	defer s.enter()()
	s.revision = revision
	s.to.Replace(all, revision)
	s.replaced.Add(1)
}

func (s *checkedSink) Apply(changes []federation.Change, revision int64) {
	defer s.enter()()
	if revision < s.revision {
		s.t.Errorf("revision went from %d back to %d", s.revision, revision)
	}
	for _, c := range changes {
		if c.Revision <= s.revision || c.Revision > revision {
			s.t.Errorf("a change at %d came with the step from %d to %d", c.Revision, s.revision, revision)
		}
	}
	s.revision = revision
	s.to.Apply(changes, revision)
}

func (s *checkedSink) Anticipate(i *federation.Instance) { s.to.Anticipate(i) }

func (s *checkedSink) enter() func() {
	if !s.busy.CompareAndSwap(false, true) {
		s.t.Error("the sink is called by two goroutines at once")
	}
	return func() { s.busy.Store(false) }
}

// eventLog keeps the events in the order in which they came.
type eventLog struct {
	mu  sync.Mutex
	all []Event
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *eventLog) of(id string, kinds ...EventKind) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Event
	for _, e := range l.all {
		if e.ID == id && (len(kinds) == 0 || slices.Contains(kinds, e.Kind)) {
			found = append(found, e)
		}
	}
	return found
}

// shared returns the events that every edge is told, shortened to what must be
// the same everywhere.
func (l *eventLog) shared() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.all {
		switch e.Kind {
		case EventSuperseded, EventReplayRefused, EventReplayExpired:
		default:
			out = append(out, fmt.Sprintf("%d %s %s %s<%s", e.Revision, e.Kind, e.Stamp, e.Owner, e.Previous))
		}
	}
	return out
}

// logBuffer is what a node logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}
