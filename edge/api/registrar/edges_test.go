package registrar_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// federated stands in for a federation's API: several edges over one registry.
// Each edge is a server of its own that can die.
type federated struct {
	t     *testing.T
	edges []*httptest.Server

	mu        sync.Mutex
	instances map[string]*api.Instance // mu; by id
	calls     []string                 // mu; "edge 0 PUT"
	refuse    *api.Problem             // mu; what every write is answered
	changed   chan struct{}            // mu; closed and replaced at each call
}

func newFederated(t *testing.T, edges int) *federated {
	f := &federated{t: t, instances: make(map[string]*api.Instance), changed: make(chan struct{})}
	for n := range edges {
		f.edges = append(f.edges, httptest.NewServer(f.edge(n)))
	}
	t.Cleanup(func() {
		for _, e := range f.edges {
			e.Close()
		}
	})
	return f
}

func (f *federated) urls() []string {
	urls := make([]string, len(f.edges))
	for n, e := range f.edges {
		urls[n] = e.URL
	}
	return urls
}

// kill ends an edge: connections break, new ones are refused.
func (f *federated) kill(n int) {
	f.edges[n].CloseClientConnections()
	f.edges[n].Close()
}

func (f *federated) edge(n int) http.Handler {
	mux := http.NewServeMux()
	const instance = "/v1/services/{service}/instances/{id}"
	mux.HandleFunc("GET /v1/services/{service}/instances", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		list := api.Instances{Service: r.PathValue("service")}
		for _, i := range f.instances {
			list.Instances = append(list.Instances, *i)
		}
		f.answer(w, list)
	})
	write := func(method, suffix string, apply func(w http.ResponseWriter, r *http.Request, id string)) {
		mux.HandleFunc(method+" "+instance+suffix, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls = append(f.calls, "edge "+strconv.Itoa(n)+" "+method+suffix)
			close(f.changed)
			f.changed = make(chan struct{})
			if f.refuse != nil {
				f.problem(w, f.refuse)
				return
			}
			id := r.PathValue("id")
			if _, known := f.instances[id]; !known && method != http.MethodPut {
				f.problem(w, &api.Problem{Type: api.ProblemNoInstance, Title: "No such instance", Status: http.StatusNotFound})
				return
			}
			apply(w, r, id)
		})
	}
	write(http.MethodPut, "", func(w http.ResponseWriter, r *http.Request, id string) {
		var said api.Registration
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
			f.t.Errorf("registration: %v", err)
		}
		i := &api.Instance{Service: r.PathValue("service"), ID: id, Zone: said.Zone, Address: said.Address, Version: said.Version}
		f.instances[id] = i
		f.answer(w, i)
	})
	write(http.MethodDelete, "", func(w http.ResponseWriter, _ *http.Request, id string) {
		delete(f.instances, id)
		w.WriteHeader(http.StatusNoContent)
	})
	write(http.MethodPost, "/heartbeat", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusNoContent)
	})
	write(http.MethodPost, "/drain", func(w http.ResponseWriter, _ *http.Request, id string) {
		f.instances[id].Draining = true
		f.answer(w, f.instances[id])
	})
	return mux
}

func (f *federated) answer(w http.ResponseWriter, value any) {
	if err := json.NewEncoder(w).Encode(value); err != nil {
		f.t.Errorf("answer: %v", err)
	}
}

func (f *federated) problem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", api.ContentTypeProblem)
	w.WriteHeader(p.Status)
	f.answer(w, p)
}

// edit changes the federation under its lock.
func (f *federated) edit(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// forget drops all instances, as an edge does whose TTL ran out.
func (f *federated) forget() { f.edit(func() { clear(f.instances) }) }

// instance is what is registered under key.
func (f *federated) instance() (i api.Instance, ok bool) {
	f.edit(func() {
		if known := f.instances[key.ID]; known != nil {
			i, ok = *known, true
		}
	})
	return i, ok
}

// await waits until the calls from some point on contain want in this order,
// and returns how many calls there were then.
func (f *federated) await(from int, want ...string) int {
	f.t.Helper()
	late := time.After(deadline)
	for {
		f.mu.Lock()
		calls, changed := slices.Clone(f.calls), f.changed
		f.mu.Unlock()
		if holds(calls[from:], want) {
			return len(calls)
		}
		select {
		case <-changed:
		case <-late:
			f.t.Fatalf("calls are %v, want %v", calls[from:], want)
		}
	}
}

func holds(calls, want []string) bool {
	for _, call := range calls {
		if len(want) > 0 && call == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// deadline bounds every wait; it says nothing about speed.
const deadline = 20 * time.Second

var key = federation.Key{Service: "users", ID: "u1"}
