package registry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/grayfed/grayfed/federation"
)

func TestUnknownFieldsOutliveRewrites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start("a", "az1", "east", mortal), r.start("b", "az1", "east")
	a.put(instance("u1", "az1"))
	name := r.keys.instance(key("u1"))
	got, err := r.raw.Get(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	r.write(name, strings.Replace(string(got.Kvs[0].Value), `{"schema":1`, `{"schema":1,"mesh":{"mtls":true}`, 1))
	r.agree(a)

	a.put(instance("u1", "az1"))
	if _, err := b.Drain(context.Background(), key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.kill()
	eventually(t, "adopted", b.ownedBy("u1", "b"))
	stored, _, _ := r.stored()
	if got := string(stored[key("u1")].Unknown["mesh"]); got != `{"mtls":true}` {
		t.Errorf("after registration, drain and adoption the unknown field is %q", got)
	}
}

func TestNewerSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	const newer = `{"schema":2,"tombstone":{"everything":"different"}}`
	r.write(r.keys.instance(key("u1")), newer)
	_, err := a.Register(context.Background(), instance("u1", "az1"), PutOptions{})
	if !errors.Is(err, federation.ErrSchema) {
		t.Errorf("register over it: %v", err)
	}
	got, err := r.raw.Get(context.Background(), r.keys.instance(key("u1")))
	if err != nil || string(got.Kvs[0].Value) != newer {
		t.Errorf("etcd holds %s, %v", got.Kvs[0].Value, err)
	}
}

func TestMalformedValuesAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := map[string]string{
		r.keys.instance(key("not-json")):             `{"schema":1,`,
		r.keys.instance(key("no-schema")):            `{}`,
		r.keys.instance(key("of-another")):           encoded(t, instance("x", "az1")),
		r.keys.instance(key("no-owner")):             strings.Replace(encoded(t, instance("no-owner", "az1")), `"owner":"x"`, `"owner":""`, 1),
		r.keys.instances + "no-slash":                `{}`,
		r.keys.instances + "bad service/id":          `{}`,
		r.keys.edges + "ghost":                       `nonsense`,
		r.keys.instance(key("bad-tomb")):             `{"schema":1,"tombstone":{"service":"user-service","id":"bad-tomb"}}`,
		r.keys.instance(key("newer")):                `{"schema":99}`,
		r.keys.instance(key("tombstone-in-a-field")): strings.Replace(encoded(t, instance("tombstone-in-a-field", "az1")), `{"schema":1`, `{"schema":1,"x":"\"tombstone\""`, 1),
	}
	const good = 1 // the last one
	put := func() {
		for name, value := range bad {
			r.write(name, value)
		}
	}
	put()
	listed := r.start("a", "az1", "east")
	if got := listed.Status().Malformed; got != uint64(len(bad)-good) {
		t.Errorf("the list counted %d, want %d", got, len(bad)-good)
	}
	if listed.get("tombstone-in-a-field") == nil {
		t.Error("a good value was skipped")
	}
	put()
	eventually(t, "the watch counts them too", func() bool { return listed.Status().Malformed == 2*uint64(len(bad)-good) })
	listed.put(instance("u1", "az1"))
	eventually(t, "life goes on", listed.has("u1"))

	// What was last read stands until the key is readable or gone.
	r.write(r.keys.instance(key("u1")), "nonsense")
	eventually(t, "noticed", func() bool { return listed.Status().Malformed == 2*uint64(len(bad)-good)+1 })
	if listed.get("u1") == nil {
		t.Error("an unreadable value took the instance away")
	}
	if _, err := r.raw.Delete(context.Background(), r.keys.instance(key("u1"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return listed.get("u1") == nil })
}

func encoded(t *testing.T, i federation.Instance) string {
	t.Helper()
	i.Owner, i.Stamp = "x", federation.Stamp{Lamport: 1, Origin: "x"}
	data, err := federation.EncodeInstance(&i)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryWriteLeavesAnAuditEntry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	a := r.start("a", "az1", "east")
	i := instance("u1", "az1")
	stored, err := a.Register(ctx, i, PutOptions{Actor: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Drain(ctx, key("u1"), PutOptions{Actor: strings.Repeat("x", 300)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Deregister(ctx, key("u1"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	resp, err := r.raw.Get(ctx, r.keys.audit+"a/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ action, actor string }{{"register", "alice"}, {"drain", strings.Repeat("x", 256)}, {"deregister", "edge a"}}
	if len(resp.Kvs) != len(want) {
		t.Fatalf("%d entries, want %d", len(resp.Kvs), len(want))
	}
	for n, kv := range resp.Kvs {
		var e AuditEntry
		if err := json.Unmarshal(kv.Value, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action != want[n].action || e.Actor != want[n].actor || e.Key != key("u1") || e.Stamp.Origin != "a" || e.At.IsZero() || e.Schema != federation.Schema {
			t.Errorf("entry %d: %+v", n, e)
		}
		if kv.Lease == 0 {
			t.Error("an entry stays for ever")
		}
		if n == 0 && (e.Stamp != stored.Stamp || kv.ModRevision != stored.Revision) {
			t.Errorf("the entry of %s at %d is %s at %d", stored.Stamp, stored.Revision, e.Stamp, kv.ModRevision)
		}
	}
}
