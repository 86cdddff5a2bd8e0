package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// standIn answers as an edge whose federation is always the same, so that what
// the commands print can be held word by word. Real edges answer in the tests
// of dev.
type standIn struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	calls    []string                    // mu; "PUT /v1/..."
	said     map[string]api.Registration // mu; by path
	asked    api.ExplainRequest          // mu
	explains api.Explanation             // mu
	draining bool                        // mu
	changed  chan struct{}               // mu; closed and replaced at each call
}

const standInToken = "a-token-of-this-edge"

// newStandIn is an edge; tls and a token are wanted together.
func newStandIn(t *testing.T, secure bool) *standIn {
	s := &standIn{t: t, said: make(map[string]api.Registration), explains: explanation, changed: make(chan struct{})}
	if secure {
		s.Server = httptest.NewUnstartedServer(s.guard(s.handler()))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
		s.StartTLS()
	} else {
		s.Server = httptest.NewServer(s.handler())
	}
	t.Cleanup(s.Close)
	return s
}

func (s *standIn) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer " + standInToken:
			next.ServeHTTP(w, r)
		case "Bearer may-only-read":
			s.problem(w, api.Problem{Type: api.ProblemRole, Title: "Forbidden", Status: http.StatusForbidden, Detail: "the token may only read"})
		default:
			s.problem(w, api.Problem{Type: api.ProblemToken, Title: "Unauthorized", Status: http.StatusUnauthorized})
		}
	})
}

func (s *standIn) handler() http.Handler {
	mux := http.NewServeMux()
	reply := func(path string, value any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { s.answer(w, value) })
	}
	reply("/v1/federation", theFederation)
	reply("/v1/services", theServices)
	reply("/v1/releases", theReleases)
	reply("/v1/routes", theRoutes)
	reply("/v1/failover", theFailover)
	mux.HandleFunc("GET /v1/services/{service}/instances", func(w http.ResponseWriter, r *http.Request) {
		list := api.Instances{Revision: 42, Service: r.PathValue("service"), Instances: []api.Instance{}}
		for _, i := range theInstances {
			if i.Service == list.Service {
				list.Instances = append(list.Instances, i)
			}
		}
		for range s.registered() {
			list.Instances = append(list.Instances, api.Instance{Service: list.Service, ID: "p1", Draining: s.drains()})
		}
		s.answer(w, list)
	})
	mux.HandleFunc("POST /v1/explain", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = api.ExplainRequest{}
		err := json.NewDecoder(r.Body).Decode(&s.asked)
		answer := s.explains
		s.mu.Unlock()
		if err != nil {
			s.t.Errorf("explain: %v", err)
		}
		s.answer(w, answer)
	})
	mux.HandleFunc("/v1/services/{service}/instances/{id}", s.write)
	mux.HandleFunc("POST /v1/services/{service}/instances/{id}/{what}", s.write)
	return mux
}

// write takes what register and drain send. The instance p1 is the one of
// register, others are those of theInstances.
func (s *standIn) write(w http.ResponseWriter, r *http.Request) {
	key := federation.Key{Service: r.PathValue("service"), ID: r.PathValue("id")}
	at := slices.IndexFunc(theInstances, func(i api.Instance) bool { return i.Service == key.Service && i.ID == key.ID })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	close(s.changed)
	s.changed = make(chan struct{})
	_, registered := s.said[key.ID]
	switch {
	case r.Method == http.MethodPut:
		var said api.Registration
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
			s.t.Errorf("registration: %v", err)
		}
		s.said[key.ID] = said
		s.answer(w, api.Instance{Service: key.Service, ID: key.ID})
	case at < 0 && !registered:
		s.problem(w, api.Problem{Type: api.ProblemNoInstance, Title: "No Such Instance", Status: http.StatusNotFound})
	case r.Method == http.MethodDelete:
		delete(s.said, key.ID)
		w.WriteHeader(http.StatusNoContent)
	case r.PathValue("what") == "heartbeat":
		w.WriteHeader(http.StatusNoContent)
	case registered:
		s.draining = true
		s.answer(w, api.Instance{Service: key.Service, ID: key.ID, Draining: true})
	default:
		drained := theInstances[at]
		drained.Draining = true
		s.answer(w, drained)
	}
}

// locked looks at, or changes, what handlers share.
func (s *standIn) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *standIn) registered() map[string]api.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := make(map[string]api.Registration, len(s.said))
	for id, r := range s.said {
		said[id] = r
	}
	return said
}

func (s *standIn) drains() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// await waits for a call and returns all there were until then.
func (s *standIn) await(call string) []string {
	s.t.Helper()
	late := time.After(deadline)
	for {
		s.mu.Lock()
		calls, changed := slices.Clone(s.calls), s.changed
		s.mu.Unlock()
		if slices.Contains(calls, call) {
			return calls
		}
		select {
		case <-changed:
		case <-late:
			s.t.Fatalf("calls are %v, want %s", calls, call)
		}
	}
}

func (s *standIn) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", api.ContentTypeJSON)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.t.Errorf("answer: %v", err)
	}
}

func (s *standIn) problem(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Content-Type", api.ContentTypeProblem)
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		s.t.Errorf("problem: %v", err)
	}
}
