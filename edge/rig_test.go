package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/registry/etcdtest"
)

// patience bounds every wait of these tests; it says nothing about speed.
const patience = 20 * time.Second

// startEtcd starts a real one-member etcd on ports of its own.
func startEtcd(t testing.TB) (endpoint string, stop func()) {
	t.Helper()
	return etcdtest.Start(t)
}

const testDocuments = `
apiVersion: grayfed/v1
kind: Service
metadata: { name: users }
spec: { baseline: { version: v1 } }
---
apiVersion: grayfed/v1
kind: Release
metadata: { name: v2-beta }
spec: { services: { users: { version: v2-beta } }, fallback: permissive }
---
apiVersion: grayfed/v1
kind: Route
metadata: { name: users }
spec: { path: "/users/**", upstream: users, explain: true }
`

// settings are those of an edge of a zone, everything on ports of its own.
func settings(t testing.TB, zone, etcd string) *config.Process {
	t.Helper()
	p := config.DefaultProcess()
	dir := t.TempDir()
	p.ID, p.Zone, p.Region = zone+"-edge", zone, "east"
	p.DataDir = filepath.Join(dir, "data")
	p.Documents = filepath.Join(dir, "documents.yaml")
	writeFile(t, p.Documents, testDocuments)
	p.Listen.Address, p.Admin.Address = "127.0.0.1:0", "127.0.0.1:0"
	p.Gossip.Bind = "127.0.0.1:" + freePort(t)
	p.Gossip.Advertise = p.Gossip.Bind
	p.Etcd.Endpoints = []string{etcd}
	p.Log.Access = false
	p.Registration.AllowedCIDRs = append(p.Registration.AllowedCIDRs, loopbackRange)
	return p
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// running is an edge that runs until the test ends or stop is called.
type running struct {
	t    testing.TB
	edge *Edge
	api  *api.Client
	stop func()
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs an edge; prepare may change it before.
func start(t testing.TB, p *config.Process, prepare ...func(*Edge)) *running {
	t.Helper()
	r := &running{t: t, log: &lockedBuffer{}}
	var err error
	r.edge, err = New(context.Background(), Options{Process: p, Version: "test", Output: r.log})
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range prepare {
		change(r.edge)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.edge.Run(ctx) }()
	r.api, err = api.NewClient(api.ClientOptions{URL: "http://" + r.edge.admin.Address().String()})
	if err != nil {
		t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		r.api.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("edge %s: %v", p.ID, err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.ID, r.log.String())
		}
	})
	return r
}

func (r *running) url(path string) string {
	return "http://" + r.edge.data.mainListener().Address().String() + path
}

// ready waits until the edge says that it serves.
func (r *running) ready() {
	r.t.Helper()
	eventually(r.t, "edge ready", func() error { return r.api.Ready(r.t.Context()) })
}

// get asks the edge as a client would and returns status, body and decision.
func (r *running) get(path, tag string) (status int, body, decision string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url(path), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("x-gray-explain", "1")
	if tag != "" {
		request.Header.Set("x-release-tag", tag)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(data), response.Header.Get("x-gray-decision")
}

// wants returns a check that the edge answers with a body.
func (r *running) wants(path, tag, want string) func() error {
	return func() error {
		if status, body, _ := r.get(path, tag); status != http.StatusOK || body != want {
			return fmt.Errorf("GET %s with tag %q: %d %s, want %s", path, tag, status, body, want)
		}
		return nil
	}
}

// instance starts a real server that answers with its own id, in the edge's
// zone, and registers it there.
func (r *running) instance(id, version string) {
	r.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, id)
	}))
	r.t.Cleanup(server.Close)
	ttl := federation.Duration(0) // judged by probes: nobody sends heartbeats here
	_, err := r.api.Register(r.t.Context(), federation.Key{Service: "users", ID: id}, api.Registration{
		Zone: r.edge.self.Zone, Region: "east", Address: strings.TrimPrefix(server.URL, "http://"), Version: version, TTL: &ttl,
	}, api.WriteOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func toJSON(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}
