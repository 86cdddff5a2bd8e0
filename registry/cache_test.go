package registry

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func cachedAt(path string) func(*Options) { return func(o *Options) { o.CachePath = path } }

// filledCache returns the path of the cache that an edge "a" left, and what was
// in it.
func filledCache(t *testing.T, r *rig) (path string, last *federation.Snapshot) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "snapshot")
	b := r.start("b", "az2", "east", noProbe, patient)
	a := r.start("a", "az1", "east", cachedAt(path), mortal)
	b.put(instance("u2", "az2"))
	// As a newer version would write it: other fields, another order.
	r.write(r.keys.instance(key("u1")), `{"owner":"a","mesh":{ "mtls":true},"schema":1,"service":"user-service","id":"u1","zone":"az1","region":"east","address":"10.0.0.7:8080","weight":7,"ttl":"1m","stamp":{"lamport":3,"origin":"a"}}`)
	r.agree(a, b)
	a.kill()
	b.kill()
	return path, a.catalog.Snapshot()
}

func TestColdStartWithoutEtcd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t)
	path, last := filledCache(t, r)

	a := r.node("a", "az1", "east", cachedAt(path), brief)
	a.gate.shut()
	a.run()
	<-a.Ready()
	snap := a.catalog.Snapshot()
	// The revision moves on without a change that is worth a new file.
	if snap.Instances != 2 || snap.Digest != last.Digest || snap.Revision == 0 || snap.Revision > last.Revision {
		t.Errorf("%d instances at %d with digest %s, want %d up to %d with %s",
			snap.Instances, snap.Revision, snap.Digest, last.Instances, last.Revision, last.Digest)
	}
	if i := a.get("u1"); i == nil || i.Weight != 7 || string(i.Unknown["mesh"]) != `{"mtls":true}` {
		t.Errorf("u1 is %+v", i)
	}
	if e := a.edge("b"); e == nil || e.Admin != "http://b:9081" {
		t.Errorf("edge b is %+v", e)
	}
	s := a.Status()
	if !s.FromCache || s.Synced || s.StaleSince.IsZero() || s.Owned != 1 || s.Lag <= 0 {
		t.Errorf("status %+v", s)
	}
	if err := a.Heartbeat(ctx, key("u1")); err != nil {
		t.Errorf("heartbeat of its own: %v", err)
	}
	if _, err := a.Register(ctx, versioned("u1", "v2"), PutOptions{}); err != nil {
		t.Errorf("write of its own: %v", err)
	}

	a.gate.reopen(r.etcd)
	eventually(t, "back", func() bool {
		s := a.Status()
		return s.Synced && !s.FromCache && s.Queued == 0 && s.StaleSince.IsZero()
	})
	r.agree(a)
	if stored, _, _ := r.stored(); stored[key("u1")].Version != "v2" || string(stored[key("u1")].Unknown["mesh"]) != `{"mtls":true}` {
		t.Errorf("etcd holds %+v", stored[key("u1")])
	}
	if told := a.events.of("u2", EventRegistered); len(told) != 0 {
		t.Errorf("what was known from the cache was told as %+v", told)
	}
}

// Nothing is removed on the word of a snapshot from an earlier life.
func TestCachedViewRemovesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	path, _ := filledCache(t, r)
	a := r.node("a", "az1", "east", cachedAt(path))
	a.gate.shut()
	a.run()
	<-a.Ready()
	a.mu.Lock()
	for k, held := range a.view.beats {
		held.until = time.Now().Add(-time.Hour)
		a.view.beats[k] = held
	}
	a.mu.Unlock()
	if lapsed, _ := a.lapsed(time.Now()); len(lapsed) != 0 {
		t.Errorf("%d are to be removed", len(lapsed))
	}
	a.gate.reopen(r.etcd)
	eventually(t, "synced", func() bool { return a.Status().Synced })
	if lapsed, _ := a.lapsed(time.Now()); len(lapsed) != 0 || a.get("u1") == nil {
		t.Errorf("%d are to be removed, though their heartbeats could not be heard", len(lapsed))
	}
}

func TestCacheThatCannotBeBelievedIsIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	path, _ := filledCache(t, r)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader := r.node("reader", "az1", "east")
	if _, l, err := reader.parseCache(good); err != nil || len(l.instances) != 2 || len(l.edges) != 2 {
		t.Fatalf("the good file: %v", err)
	}
	for n := range good {
		if _, _, err := reader.parseCache(good[:n]); err == nil {
			t.Fatalf("cut after %d of %d bytes, it was believed", n, len(good))
		}
	}
	for n := range good {
		bad := bytes.Clone(good)
		bad[n] ^= 1
		if _, _, err := reader.parseCache(bad); err == nil {
			t.Fatalf("with byte %d flipped, it was believed", n)
		}
	}
	foreign := r.node("reader", "az1", "east", func(o *Options) { o.Prefix = "/other" })
	if _, _, err := foreign.parseCache(good); err == nil {
		t.Error("the file of another federation was believed")
	}

	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	a := r.node("a", "az1", "east", cachedAt(path))
	a.gate.shut()
	a.run()
	eventually(t, "said", func() bool { return a.log.count("cached snapshot is ignored") == 1 })
	if s := a.Status(); s.FromCache || s.Instances != 0 {
		t.Errorf("status %+v", s)
	}
	a.gate.reopen(r.etcd)
	eventually(t, "etcd's word is taken", func() bool { return a.Status().Synced && a.Status().Instances == 2 })
}

func TestUnwritableCacheIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start("a", "az1", "east", cachedAt(filepath.Join(t.TempDir(), "no", "such", "folder")))
	eventually(t, "said", func() bool { return a.log.count("snapshot is not cached") > 0 })
	a.put(instance("u1", "az1"))
	r.agree(a)
}
