package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
)

// deathLoad asks an edge again and again.
type deathLoad struct {
	t        testing.TB
	stop     chan struct{}
	ended    chan string
	answered atomic.Int64
}

const deathWorkers = 8

// startLoad has workers ask with a tag for what instances with a prefix answer.
func startLoad(t testing.TB, url, tag, prefix string) *deathLoad {
	client := clientFrom(t, "127.0.0.1")
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = deathWorkers
	l := &deathLoad{t: t, stop: make(chan struct{}), ended: make(chan string, deathWorkers)}
	once := func() error {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		request.Header.Set("X-Release-Tag", tag)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != http.StatusOK || !strings.HasPrefix(string(text), prefix)) {
			err = fmt.Errorf("%d %s", response.StatusCode, text)
		}
		return err
	}
	for range deathWorkers {
		go func() {
			for {
				select {
				case <-l.stop:
					l.ended <- ""
					return
				default:
				}
				if err := once(); err != nil {
					l.ended <- err.Error()
					return
				}
				l.answered.Add(1)
			}
		}()
	}
	return l
}

// more waits until n more requests have been answered.
func (l *deathLoad) more(n int64) {
	l.t.Helper()
	before := l.answered.Load()
	eventually(l.t, "more answers", func() error {
		if now := l.answered.Load(); now < before+n {
			return fmt.Errorf("%d answers since", now-before)
		}
		return nil
	})
}

// end ends it; not one request may have been lost.
func (l *deathLoad) end() {
	l.t.Helper()
	close(l.stop)
	for range deathWorkers {
		if failure := <-l.ended; failure != "" {
			l.t.Errorf("a request was lost: %s", failure)
		}
	}
}

// sends waits until an edge has sent n more requests through another.
func (r *running) sends(through string, n int) {
	r.t.Helper()
	sent := func() (n int) {
		_, _ = fmt.Sscan(r.through(through, "served"), &n)
		return n
	}
	before := sent()
	eventually(r.t, "requests through "+through, func() error {
		if now := sent(); now < before+n {
			return fmt.Errorf("%d since", now-before)
		}
		return nil
	})
}

// expectUnblamed requires that no instance was held to be ill.
func (r *running) expectUnblamed() {
	r.t.Helper()
	eventually(r.t, "nothing is in flight", func() error {
		list, err := r.api.Instances(r.t.Context(), "users")
		if err != nil {
			return err
		}
		for _, i := range list.Instances {
			if !i.Usable && i.Health.Status == "unhealthy" {
				r.t.Fatalf("%s was blamed: %s", i.ID, toJSON(i))
			}
		}
		if slices.ContainsFunc(list.Instances, func(i api.Instance) bool { return i.InFlight > 0 }) {
			return errors.New(toJSON(list))
		}
		return nil
	})
}

// cutPeering ends the listener for other edges as a dead process ends it, while
// gossip says that the edge lives.
func (r *running) cutPeering() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.edge.peering.listener.Close()
	_ = r.edge.peering.codec.Drain(now) // cut: it says so
}

// knows waits until an edge counts the usable instances of a tag in a zone.
func (r *running) knows(tag, zone string, usable int) {
	r.t.Helper()
	knowsBy(r.t, r.api, tag, zone, usable)
}

func knowsBy(t testing.TB, client *api.Client, tag, zone string, usable int) {
	t.Helper()
	eventually(t, "instances are known", func() error {
		x, err := client.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: tag})
		if err == nil && !slices.ContainsFunc(x.Steps, func(s api.Step) bool { return s.Zone == zone && s.Usable == usable }) {
			err = errors.New(toJSON(x))
		}
		return err
	})
}

// TestPeerListenerDiesUnderLoad: of two edges of a zone one is cut off, and
// nobody says so. Requests that may be sent again all succeed, and no endpoint
// is blamed.
func TestPeerListenerDiesUnderLoad(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", releaseDocuments("strict"))
	one, two := f.start("az2-one", "az2", releaseDocuments("strict")), f.start("az2-two", "az2", releaseDocuments("strict"))
	f.meet()
	f.serve("canary-a", "az2", "v2-beta")
	f.serve("canary-b", "az2", "v2-beta")
	for _, r := range []*running{az1, one, two} {
		r.knows("v2-beta", "az2", 2)
	}
	l := startLoad(t, az1.url("/users/1"), "v2-beta", "canary-")
	az1.sends("az2-one", 200)
	az1.sends("az2-two", 200)
	one.cutPeering()
	l.more(500)
	l.end()
	az1.expectUnblamed()
}

// TestEdgesDieUnderLoad kills and freezes edges of another zone: of two that it
// has, then both. Not one request that may be sent again is lost, and the zone
// comes back.
func TestEdgesDieUnderLoad(t *testing.T) {
	f := newPeered(t)
	documents := releaseDocuments("permissive")
	az1 := f.start("az1-edge", "az1", documents)
	children := make(map[string]*child)
	for _, id := range []string{"az2-one", "az2-two"} {
		p := f.settings(id, "az2", documents)
		p.Peer.Address = "127.0.0.1:" + freePort(t)
		children[id] = startChild(t, p)
	}
	for id, c := range children {
		c.ready()
		eventually(t, "az1 knows "+id, func() error {
			fed, err := az1.api.Federation(t.Context())
			if err == nil && !slices.ContainsFunc(fed.Edges, func(e api.Edge) bool { return e.ID == id && e.Status == "alive" && e.Peer != "" }) {
				err = errors.New(toJSON(fed.Edges))
			}
			return err
		})
	}
	f.serve("canary-a", "az2", "v2-beta")
	f.serve("canary-b", "az2", "v2-beta")
	f.serve("stable", "az1", "v1")
	for _, client := range []*api.Client{az1.api, children["az2-one"].api, children["az2-two"].api} {
		knowsBy(t, client, "v2-beta", "az2", 2)
	}
	az1.knows("", "az1", 1)

	l := startLoad(t, az1.url("/users/1"), "v2-beta", "")
	az1.sends("az2-one", 200)
	az1.sends("az2-two", 200)
	children["az2-one"].signal(syscall.SIGSTOP)
	eventually(t, "what waits at the frozen edge is moved", func() error {
		if az1.through("az2-one", "moved") == "" {
			return errors.New("nothing is")
		}
		return nil
	})
	az1.sends("az2-two", 500)
	children["az2-one"].signal(syscall.SIGCONT)
	az1.sends("az2-one", 100) // it is back
	children["az2-two"].kill()
	az1.sends("az2-one", 500)
	before := l.answered.Load()
	children["az2-one"].kill()
	l.more(500)
	eventually(t, "no way is left", func() error {
		x, err := az1.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: "v2-beta"})
		if err == nil && (x.Endpoint == nil || x.Endpoint.ID != "stable") {
			err = errors.New(toJSON(x))
		}
		return err
	})
	l.end()
	if l.answered.Load() <= before {
		t.Error("nothing was answered after both edges had died")
	}
	az1.expectUnblamed()
}
