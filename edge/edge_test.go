package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

var loopbackRange = netip.MustParsePrefix("127.0.0.0/8")

// freePort returns a port that is free for TCP and UDP, below those that the
// kernel gives to outgoing connections.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		stream, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		packets, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err := stream.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			continue
		}
		if err := packets.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("found no free port")
	return ""
}

func TestEdgeServesWhatIsRegistered(t *testing.T) {
	etcd, _ := startEtcd(t)
	e := start(t, settings(t, "az1", etcd))
	e.ready()
	if status, body, _ := e.get("/users/1", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "no-baseline-usable") && !strings.Contains(body, "no-instance") {
		t.Errorf("nothing registered: %d %s", status, body)
	}
	e.instance("stable", "v1")
	e.instance("canary", "v2-beta")
	eventually(t, "baseline", e.wants("/users/1", "", "stable"))
	eventually(t, "canary", e.wants("/users/1", "v2-beta", "canary"))
	if status, body, _ := e.get("/users/1", "no-such-tag"); status != http.StatusOK || body != "stable" {
		t.Errorf("unknown tag: %d %s", status, body)
	}
	if _, _, decision := e.get("/users/1", "v2-beta"); !strings.Contains(decision, "rung=canary-here") {
		t.Errorf("decision %q", decision)
	}
	x, err := e.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: "v2-beta"})
	if err != nil || x.Endpoint == nil || x.Endpoint.ID != "canary" || x.Rung != "canary-here" {
		t.Errorf("explained as %s, %v", toJSON(x), err)
	}
	fed, err := e.api.Federation(t.Context())
	if err != nil || fed.Instances != 2 || len(fed.Edges) != 1 || fed.Edges[0].Status != "alive" || !fed.Registry.Synced {
		t.Errorf("federation %s, %v", toJSON(fed), err)
	}
	routes, err := e.api.Routes(t.Context())
	if err != nil || len(routes.Routes) != 1 || routes.Routes[0].Service != "users" || routes.Config != fed.Documents.Hash {
		t.Errorf("routes %s, %v", toJSON(routes), err)
	}
}

func TestSiblingServesAndAdoptsWhatAnEdgeLeaves(t *testing.T) {
	etcd, _ := startEtcd(t)
	first, second := settings(t, "az1", etcd), settings(t, "az2", etcd)
	first.Gossip.Peers, second.Gossip.Peers = []string{second.Gossip.Bind}, []string{first.Gossip.Bind}
	a, b := start(t, first), start(t, second)
	a.ready()
	b.ready()
	a.instance("stable", "v1")
	eventually(t, "the other edge serves it", b.wants("/users/1", "", "stable"))
	eventually(t, "edges meet", func() error {
		fed, err := b.api.Federation(t.Context())
		if err != nil {
			return err
		}
		for _, e := range fed.Edges {
			if e.ID == "az1-edge" && e.Status == "alive" && e.Digest == fed.Digest {
				return nil
			}
		}
		return fmt.Errorf("az2 knows %s", toJSON(fed.Edges))
	})
	a.stop()
	eventually(t, "the instance has another owner", func() error {
		list, err := b.api.Instances(t.Context(), "users")
		if err != nil {
			return err
		}
		if len(list.Instances) != 1 {
			t.Fatalf("the edge's end took instances with it: %s", toJSON(list))
		}
		if list.Instances[0].Owner != "az2-edge" {
			return fmt.Errorf("owned by %s", list.Instances[0].Owner)
		}
		return nil
	})
	if err := b.wants("/users/1", "", "stable")(); err != nil {
		t.Error(err)
	}
}

func TestBadDocumentsKeepTheOldOnesInForce(t *testing.T) {
	etcd, _ := startEtcd(t)
	p := settings(t, "az1", etcd)
	e := start(t, p)
	e.ready()
	e.instance("stable", "v1")
	eventually(t, "served", e.wants("/users/1", "", "stable"))
	before, err := e.api.Federation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.Documents, strings.Replace(testDocuments, "explain: true", "typo: 1", 1))
	var told *api.Federation
	eventually(t, "the refusal is shown", func() error {
		if told, err = e.api.Federation(t.Context()); err != nil {
			return err
		}
		if told.Documents.Error == "" {
			return errors.New("no error is shown")
		}
		return nil
	})
	if !strings.Contains(told.Documents.Error, "documents.yaml:") || !strings.Contains(told.Documents.Error, "typo") {
		t.Errorf("the refusal does not say where: %s", told.Documents.Error)
	}
	if told.Documents.Hash != before.Documents.Hash {
		t.Error("refused documents are in force")
	}
	if err := e.wants("/users/1", "", "stable")(); err != nil {
		t.Error(err)
	}
	// Going back is news to whoever was told of the refusal.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	place := ""
	for missed, err := range e.api.Events(ctx, "no-1") { // of no run: tells where the events are
		if place = missed.ID; err != nil {
			t.Fatal(err)
		}
		break
	}
	writeFile(t, p.Documents, testDocuments)
	for event, err := range e.api.Events(ctx, place) {
		if err != nil {
			t.Fatalf("the way back is not told: %v", err)
		}
		if event.Type == api.EventDocumentsApplied && event.Detail == before.Documents.Hash {
			break
		}
	}
	if again, err := e.api.Federation(ctx); err != nil || again.Documents.Error != "" {
		t.Errorf("after going back: %s, %v", toJSON(again.Documents), err)
	}
	writeFile(t, p.Documents, strings.Replace(testDocuments, "/users/**", "/people/**", 1))
	eventually(t, "new route", e.wants("/people/1", "", "stable"))
	if status, _, _ := e.get("/users/1", ""); status != http.StatusNotFound {
		t.Errorf("a route that is gone answers %d", status)
	}
	after, err := e.api.Federation(t.Context())
	if err != nil || after.Documents.Error != "" || after.Documents.Hash == before.Documents.Hash {
		t.Errorf("after the repair: %s, %v", toJSON(after.Documents), err)
	}
}

func TestColdRestartWithoutEtcd(t *testing.T) {
	etcd, stopEtcd := startEtcd(t)
	p := settings(t, "az1", etcd)
	e := start(t, p)
	e.ready()
	e.instance("stable", "v1")
	eventually(t, "served", e.wants("/users/1", "", "stable"))
	e.stop()
	stopEtcd()
	again := start(t, p)
	again.ready()
	eventually(t, "served from the last good snapshot", again.wants("/users/1", "", "stable"))
	fed, err := again.api.Federation(t.Context())
	if err != nil || !fed.Registry.FromCache || fed.Registry.StaleSince.IsZero() || fed.Registry.Synced {
		t.Errorf("does not say how stale it is: %s, %v", toJSON(fed), err)
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	etcd, _ := startEtcd(t)
	e := start(t, settings(t, "az1", etcd))
	e.ready()
	arrived, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/users/slow" {
			close(arrived)
			<-release
		}
		_, _ = io.WriteString(w, "whole")
	}))
	defer server.Close()
	ttl := federation.Duration(0)
	if _, err := e.api.Register(t.Context(), federation.Key{Service: "users", ID: "slow"}, api.Registration{
		Zone: "az1", Address: strings.TrimPrefix(server.URL, "http://"), Version: "v1", TTL: &ttl,
	}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "served", e.wants("/users/1", "", "whole"))
	answered := make(chan string, 1)
	go func() {
		status, body, _ := e.get("/users/slow", "")
		answered <- fmt.Sprint(status, " ", body)
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() {
		e.stop()
		close(stopped)
	}()
	eventually(t, "says that it stops", func() error {
		if e.edge.notReady() == nil {
			return errors.New("still ready")
		}
		return nil
	})
	select {
	case <-stopped:
		t.Error("stopped with a request under way")
	default:
	}
	close(release)
	if got := <-answered; got != "200 whole" {
		t.Errorf("the request under way got %s", got)
	}
	<-stopped
}

func TestNewGivesBackWhatItTook(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p := settings(t, "az1", "http://127.0.0.1:1")
	free := p.Admin.Address
	p.Admin.Address = taken.Addr().String()
	for range 2 { // the second finds the folder and the data port free again
		_, err := New(context.Background(), Options{Process: p, Output: io.Discard})
		if err == nil || !strings.Contains(err.Error(), p.Admin.Address) {
			t.Fatalf("the taken port is not named: %v", err)
		}
	}
	p.Admin.Address = free
	e := start(t, p)
	_, err = New(context.Background(), Options{Process: p, Output: io.Discard})
	if err == nil || !strings.Contains(err.Error(), p.DataDir) {
		t.Errorf("a second edge on the same folder: %v", err)
	}
	e.stop()
}

func TestIncarnationsGrow(t *testing.T) {
	dir := t.TempDir()
	first, earlier, err := nextIncarnation(dir, time.UnixMilli(5000))
	if err != nil || first != 5000 || len(earlier) != 0 {
		t.Fatalf("first life is %d after %v, %v", first, earlier, err)
	}
	next, earlier, err := nextIncarnation(dir, time.UnixMilli(4000))
	if err != nil || next != 5001 || !slices.Equal(earlier, []uint64{5000}) {
		t.Errorf("after the clock was set back: %d after %v, %v", next, earlier, err)
	}
	for n := range 2 * keptLives {
		next, earlier, err = nextIncarnation(dir, time.UnixMilli(int64(6000+n)))
	}
	if err != nil || next != 6000+2*keptLives-1 || len(earlier) != keptLives || earlier[0] != next-1 || earlier[keptLives-1] != next-keptLives {
		t.Errorf("after many lives: %d after %v, %v", next, earlier, err)
	}
	for _, broken := range []string{"50x\n", "5000\n\n"} {
		writeFile(t, dir+"/incarnation", broken)
		if _, _, err := nextIncarnation(dir, time.UnixMilli(6000)); err == nil {
			t.Errorf("the broken file %q was taken for nothing", broken)
		}
	}
}
