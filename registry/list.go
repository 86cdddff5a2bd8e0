package registry

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

// listPage is how many keys are read at a time: some 4 MB, so that neither
// side holds the whole in one message. For each page etcd counts all the keys
// that are left, so smaller ones cost it more.
const listPage = 10_000

// listing is everything that etcd held at one revision.
type listing struct {
	revision  int64
	cluster   uint64
	instances []*federation.Instance
	tombs     map[federation.Key]record
	broken    map[federation.Key]error // present, but not readable
	strange   int                      // keys that name nothing
	edges     []knownEdge
}

func newListing() *listing {
	return &listing{tombs: make(map[federation.Key]record), broken: make(map[federation.Key]error)}
}

// list reads all instances and edges as of one revision, decoding a page while
// the next is on its way. began is closed when etcd first answers.
func (r *Registry) list(ctx context.Context, began chan<- struct{}) (*listing, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	pages := make(chan []*mvccpb.KeyValue, 1)
	out := newListing()
	var fetched error
	var fetching sync.WaitGroup
	fetching.Go(func() {
		defer close(pages)
		fetched = r.fetch(ctx, out, pages, began)
	})
	names := make(intern)
	for page := range pages {
		r.decodePage(out, page, nil, names)
	}
	cancel()
	fetching.Wait()
	if fetched != nil {
		return nil, fetched
	}
	r.names = names
	return out, nil
}

// fetch sends the pages of one revision. It sets out's revision and cluster
// before the first page.
func (r *Registry) fetch(ctx context.Context, out *listing, pages chan<- []*mvccpb.KeyValue, began chan<- struct{}) error {
	from := r.keys.edges
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(r.keys.end), clientv3.WithLimit(listPage)}
		if out.revision != 0 {
			// Quorum reads as well: a member that lags has not got this
			// revision yet.
			opts = append(opts, clientv3.WithRev(out.revision))
		}
		call, cancel := context.WithTimeout(ctx, 5*r.timing.Write)
		resp, err := r.client.Get(call, from, opts...)
		cancel()
		if err != nil {
			return fmt.Errorf("list registry from %q: %w", from, err)
		}
		if out.revision == 0 {
			out.revision, out.cluster = resp.Header.Revision, resp.Header.ClusterId
			if began != nil {
				close(began)
			}
		}
		select {
		case pages <- resp.Kvs:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// decodePage decodes a page on every processor and adds it to the listing in
// the order of its keys. prints are the fingerprints of its entries; nil: those
// of their values.
func (r *Registry) decodePage(out *listing, page []*mvccpb.KeyValue, prints []federation.Fingerprint, names intern) {
	records := make([]decoded, len(page))
	workers := min(runtime.GOMAXPROCS(0), 1+len(page)/256)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for n := w * len(page) / workers; n < (w+1)*len(page)/workers; n++ {
				records[n] = r.decode(page[n])
				if i := records[n].record.instance; i != nil && prints != nil {
					i.Fingerprint = prints[n]
				}
			}
		})
	}
	all.Wait()
	for n := range records {
		out.add(&records[n], names)
	}
}

// decoded is what one key of the watched range says.
type decoded struct {
	edge     *knownEdge
	edgeID   string
	key      federation.Key
	record   record
	nameless error // the key names nothing
}

func (r *Registry) decode(kv *mvccpb.KeyValue) decoded {
	name := string(kv.Key)
	if id, ok := r.keys.edgeID(name); ok {
		e, err := decodeEdge(id, kv.Value)
		if err != nil {
			return decoded{edgeID: id, record: record{broken: err}}
		}
		return decoded{edgeID: id, edge: &knownEdge{Edge: e, mod: kv.ModRevision}}
	}
	key, err := r.keys.instanceKey(name)
	if err != nil {
		return decoded{nameless: err}
	}
	return decoded{key: key, record: decodeRecord(name, key, kv.Value, kv.ModRevision)}
}

func (l *listing) add(d *decoded, names intern) {
	switch {
	case d.nameless != nil:
		l.strange++
	case d.edge != nil:
		l.edges = append(l.edges, *d.edge)
	case d.edgeID != "":
		// Its addresses are unreadable, but it lives: its instances are not
		// to be adopted.
		l.strange++
		l.edges = append(l.edges, knownEdge{Edge: federation.Edge{ID: d.edgeID}})
	case d.record.broken != nil:
		l.broken[d.key] = d.record.broken
	case d.record.tomb != nil:
		l.tombs[d.key] = d.record
	default:
		names.instance(d.record.instance)
		l.instances = append(l.instances, d.record.instance)
	}
}

// intern keeps one copy of the texts that many instances share, which would
// otherwise be most of their memory.
type intern map[string]string

func (n intern) text(s *string) {
	if known, ok := n[*s]; ok {
		*s = known
		return
	}
	if len(n) < 10_000 {
		n[*s] = *s
	}
}

func (n intern) instance(i *federation.Instance) {
	n.text(&i.Service)
	n.text(&i.Cluster)
	n.text(&i.Zone)
	n.text(&i.Region)
	n.text(&i.Version)
	n.text(&i.HealthPath)
	n.text(&i.Owner)
	n.text(&i.Stamp.Origin)
	protocol := string(i.Protocol)
	n.text(&protocol)
	i.Protocol = federation.Protocol(protocol)
	if len(i.Tags) == 0 {
		return
	}
	tags := make(map[string]string, len(i.Tags))
	for name, value := range i.Tags {
		n.text(&name)
		n.text(&value)
		tags[name] = value
	}
	i.Tags = tags
}

// replace makes a listing the view and the sink's whole, and tells what
// changed since the view before.
func (r *Registry) replace(l *listing) {
	now := time.Now()
	r.mu.Lock()
	before := r.view
	next := newView(r.self)
	next.revision, next.cluster, next.live, next.changes = l.revision, l.cluster, true, before.changes+1
	if l.revision >= before.revision && (l.cluster == before.cluster || before.cluster == 0) {
		next.beats = before.beats
	} // else etcd is not what it was, and what was written to it is void
	for key := range l.broken {
		// The last that could be read stands until the key can be read
		// again or is deleted.
		if i := before.instances[key]; i != nil {
			l.instances = append(l.instances, i)
		}
	}
	for _, e := range l.edges {
		known, had := before.edges[e.ID]
		e.seen = now
		if had && known.Incarnation == e.Incarnation {
			e.seen = known.seen
		}
		next.edges[e.ID] = e
	}
	var events []Event
	for _, t := range l.tombs {
		next.lamport = max(next.lamport, t.tomb.Stamp.Lamport)
	}
	for _, i := range l.instances {
		next.lamport = max(next.lamport, i.Stamp.Lamport)
		old := before.instances[i.Key]
		next.instances[i.Key] = i
		next.count(i, 1)
		next.own(i, old, now)
		if before.live && (old == nil || old.Fingerprint != i.Fingerprint) {
			events = r.tell(events, old, i, nil, i.Revision)
		}
	}
	for key, held := range next.beats {
		if next.instances[key] == nil && held.mod <= l.revision {
			delete(next.beats, key)
		}
	}
	if !before.live {
		next.regrant(now)
	}
	for key, old := range before.instances {
		if next.instances[key] == nil && before.live {
			gone := l.tombs[key]
			events = r.tell(events, old, nil, gone.tomb, cmp.Or(gone.mod, l.revision))
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) })
	r.view = next
	r.mu.Unlock()

	r.opts.Clock.Witness(next.lamport)
	r.reportBroken(l)
	r.tellEdges(before.edges, next.edges)
	r.opts.Sink.Replace(l.instances, l.revision)
	r.emit(events...)
}

// tell adds the events between two states of an instance.
func (r *Registry) tell(events []Event, before, after *federation.Instance, removed *tombstone, revision int64) []Event {
	if e, ok := difference(before, after, removed, revision); ok {
		events = append(events, e)
	}
	if e, ok := superseding(r.self, before, after, revision); ok {
		events = append(events, e)
	}
	return events
}

func (r *Registry) tellEdges(before, after map[string]knownEdge) {
	if r.opts.Edges == nil {
		return
	}
	for id := range before {
		if _, still := after[id]; !still {
			r.opts.Edges.RemoveEdge(id)
		}
	}
	for id, e := range after {
		if old, had := before[id]; (!had || old.mod != e.mod) && e.Zone != "" {
			r.opts.Edges.PutEdge(e.Edge)
		}
	}
}

func (r *Registry) reportBroken(l *listing) {
	count := len(l.broken) + l.strange
	if count == 0 {
		return
	}
	r.counters.malformed.Add(uint64(count))
	for key, err := range l.broken {
		r.log.Warn("registry holds values that cannot be read", "count", count, "example", key.String(), "error", err)
		return
	}
	r.log.Warn("registry holds keys that name nothing", "count", l.strange)
}
