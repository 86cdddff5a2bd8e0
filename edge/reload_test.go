package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// changingDocuments are a configuration that differs from those of other numbers
// in everything but what users are answered.
func changingDocuments(random *rand.Rand, n int) string {
	var docs strings.Builder
	fmt.Fprintf(&docs, `
apiVersion: grayfed/v1
kind: Service
metadata: { name: chat }
spec: { baseline: { version: v1 }, balance: %s, breaker: %s, limits: { max_requests: %d, queue: { size: 1000 } } }
---
apiVersion: grayfed/v1
kind: Route
metadata: { name: chat-%d }
spec: { path: "/chat/**", upstream: chat, timeouts: { total: %ds }, retries: { attempts: %d } }
`, []string{"p2c", "weighted-round-robin", "consistent-hash, hash: [{ header: x-request-id }]"}[random.IntN(3)],
		[]string{"steady", "low-frequency"}[random.IntN(2)], 500+random.IntN(500), n%3, 10+n%7, random.IntN(3))
	// A release that comes and goes, and selects the same.
	if random.IntN(2) == 0 {
		docs.WriteString(`---
apiVersion: grayfed/v1
kind: Release
metadata: { name: v2-beta }
spec: { services: { chat: { version: v1 } }, fallback: permissive }
`)
	}
	for extra := range random.IntN(20) {
		fmt.Fprintf(&docs, "---\napiVersion: grayfed/v1\nkind: Route\nmetadata: { name: extra-%d-%d }\nspec: { path: \"/extra/%d/%d\", upstream: chat }\n", n, extra, n, extra)
	}
	return docs.String()
}

// TestConfigurationsChangeUnderLoad changes the documents as fast as they are
// taken, under 1,000 requests a second over both protocols, none of which may
// fail. WebSockets of the first configuration go on.
func TestConfigurationsChangeUnderLoad(t *testing.T) {
	changes := length(30, 100, 1000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := &hostile{whole: startWhole(t, changingDocuments(random, 0), func(p *config.Process) {
		p.Shutdown.DrainTimeout = time.Second
		p.Log.Level = "warn"
	}, func(e *Edge) {
		e.source = config.NewPathSource(e.process.Documents, 2*time.Millisecond)
	})}
	for n := range 3 {
		h.registerAs(fmt.Sprintf("v1-%d", n), "chat", "v1", h.ca.serve(t, federation.HTTP1, func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				chat("v1")(rw, r)
				return
			}
			_, _ = io.WriteString(rw, "ok")
		}), federation.HTTP1)
	}
	var talks []talk
	for _, kind := range talkKinds {
		c, err := h.dialTalk(kind, "")
		if err != nil {
			t.Fatal(err)
		}
		if name, err := c.hear(); name != "v1" {
			t.Fatalf("%q, %v", name, err)
		}
		talks = append(talks, c)
	}
	load := h.startLoad()
	for n := range changes {
		before := h.edge.configHash()
		writeFile(t, h.edge.process.Documents, changingDocuments(random, n+1))
		eventually(t, "the change is in force", func() error {
			if state := h.edge.config.Load(); state.problem != nil {
				t.Fatal(state.problem)
			}
			if h.edge.configHash() == before {
				return errors.New("it is not")
			}
			return nil
		})
	}
	served, took := load.stop()
	t.Logf("%d changes in %s, %d requests (%.0f/s), %d failed", changes, took, served, float64(served)/took.Seconds(), load.failed.Load())
	for n, c := range talks {
		if err := c.say("still"); err != nil {
			t.Error(err)
		}
		if heard, err := c.hear(); heard != "still" {
			t.Errorf("%s: heard %q, %v", talkKinds[n], heard, err)
		}
		_ = c.Close()
	}
}

// load is clients that make 1,000 requests a second.
type load struct {
	t        testing.TB
	began    time.Time
	cancel   context.CancelFunc
	running  sync.WaitGroup
	requests atomic.Int64
	failed   atomic.Int64
}

// loadWorkers are the clients, each of which has a connection of its own. A
// client that comes too late makes up for it.
const loadWorkers = 20

func (h *hostile) startLoad() *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: h.t, began: time.Now(), cancel: cancel}
	for n := range loadWorkers {
		client := h.client(func(p *http.Protocols) {
			p.SetHTTP1(n%2 == 0)
			p.SetUnencryptedHTTP2(n%2 == 1)
		})
		l.running.Go(func() {
			const every = loadWorkers * time.Millisecond
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for done := time.Duration(0); ctx.Err() == nil; done++ {
				if time.Since(l.began) < done*every {
					select {
					case <-ctx.Done():
						return
					case <-ticker.C:
					}
				}
				l.ask(client, h.url("/chat/room"), n%4 > 1)
			}
		})
	}
	return l
}

// ask makes one request, which is not ended with the load.
func (l *load) ask(client *http.Client, url string, tagged bool) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		l.t.Error(err)
		return
	}
	if tagged {
		request.Header.Set("X-Release-Tag", "v2-beta")
	}
	l.requests.Add(1)
	response, err := client.Do(request)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil && (response.StatusCode != http.StatusOK || string(body) != "ok") {
			err = fmt.Errorf("%s %s", response.Status, body)
		}
	}
	if err != nil && l.failed.Add(1) < 10 {
		l.t.Errorf("request %d: %v", l.requests.Load(), err)
	}
}

func (l *load) stop() (requests int64, took time.Duration) {
	took = time.Since(l.began)
	l.cancel()
	l.running.Wait()
	return l.requests.Load(), took
}

// TestNewCertificateIsServed swaps the files of a listener's certificate: who
// connects gets the new one, and who is connected goes on.
func TestNewCertificateIsServed(t *testing.T) {
	w := startWhole(t, testDocuments, nil)
	w.instance("stable", "v1")
	eventually(t, "served", w.wants("/users/1", "", "stable"))
	client := w.client(func(p *http.Protocols) { p.SetHTTP2(true) })
	url := "https://" + w.secure + "/users/1"
	ask := func() (*tls.ConnectionState, error) {
		response, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		defer func() { _ = response.Body.Close() }()
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			return nil, errors.Join(err, errors.New(response.Status))
		}
		return response.TLS, nil
	}
	first, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	next := newAuthority(t)
	for from, to := range map[string]string{next.certFile: w.ca.certFile, next.keyFile: w.ca.keyFile} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, to, string(data))
	}
	eventually(t, "the new certificate is served", func() error {
		conn, err := tls.Dial("tcp", w.secure, &tls.Config{RootCAs: next.pool})
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	again, err := ask()
	if err != nil || !again.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Errorf("the connection did not go on: %v", err)
	}
}
