package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/grayfed/grayfed/chaos/fault"
	"github.com/grayfed/grayfed/chaos/report"
	"github.com/grayfed/grayfed/edge/api"
)

// site is a target of real listeners that do as they are told.
type site struct {
	target *Target
	edges  []*standIn
	broke  atomic.Int64 // faults that are broken now
	tried  atomic.Int64 // breaks
}

// standIn is an edge: data and admin listeners.
type standIn struct {
	zone      string
	failing   atomic.Bool
	lying     atomic.Bool // answers with a version that nobody asked for
	falling   atomic.Bool // answers what is permissive with the baseline
	homeless  atomic.Bool // has no instances: those of a neighbour answer
	secret    atomic.Bool // tells nobody who is who
	notReady  atomic.Bool
	neighbour string
	known     string      // answer of GET /v1/federation
	events    chan string // each is written to who follows them
}

func (e *standIn) data(w http.ResponseWriter, r *http.Request) {
	version := "v1"
	if r.Header.Get(tagHeader) != "" {
		version = "v2-beta"
	}
	switch {
	case e.failing.Load():
		http.Error(w, "x", http.StatusBadGateway)
		return
	case e.lying.Load():
		version = "v9"
	case e.falling.Load() && r.Header.Get(tagHeader) == "v2-beta":
		version = "v1"
	}
	zone := e.zone
	if e.homeless.Load() {
		zone = e.neighbour
	}
	_, _ = fmt.Fprintf(w, `{"version":%q,"zone":%q}`, version, zone)
}

func (e *standIn) admin(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/readyz":
		if e.notReady.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case "/v1/federation":
		if e.secret.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, e.known)
	case "/v1/services":
		_, _ = io.WriteString(w, `{"services":[{"name":"users","instances":2},{"name":"crowd","instances":1000000}]}`)
	case "/v1/services/users/instances":
		_, _ = io.WriteString(w, `{"service":"users","instances":[{"id":"i1","zone":"dc-az1"},{"id":"i2","zone":"dc-az2"}]}`)
	case "/v1/events":
		w.Header().Set("Content-Type", api.ContentTypeEvents)
		w.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case text := <-e.events:
				_, _ = io.WriteString(w, "data: "+text+"\n\n")
			}
		}
	}
}

// hooks is a fault that does what a test says.
type hooks struct {
	site        *site
	name        string
	break1      func(context.Context) error
	mend        func(context.Context) error
	effect      func(context.Context) error // nil: it always has one
	begun, done bool
}

var _ fault.Effective = (*hooks)(nil)

func (h *hooks) Effect(ctx context.Context) error {
	if h.effect == nil {
		return nil
	}
	return h.effect(ctx)
}

func (h *hooks) String() string { return h.name }

func (h *hooks) Break(ctx context.Context) error {
	h.begun = true
	h.site.tried.Add(1)
	h.site.broke.Add(1)
	return h.break1(ctx)
}

func (h *hooks) Mend(ctx context.Context) error {
	if !h.begun || h.done {
		return nil
	}
	if err := h.mend(ctx); err != nil {
		return err
	}
	h.done = true
	h.site.broke.Add(-1)
	return nil
}

// faults are by kind what a site can do.
type faults map[string]func() *hooks

func (f faults) Command(spec fault.Spec) (fault.Fault, bool) {
	if f[spec.Kind] == nil {
		return nil, false
	}
	return f[spec.Kind](), true
}

func newSite(t *testing.T, zones ...string) *site {
	t.Helper()
	s := &site{target: testTarget(zones...)}
	// What the edges call their zones is not what the target calls them.
	var known []string
	for _, zone := range append(zones, "az9") {
		known = append(known, fmt.Sprintf(`{"id":"%s-edge","zone":"dc-%[1]s"}`, zone))
	}
	for n, zone := range zones {
		e := &standIn{
			zone: zone, neighbour: zones[(n+1)%len(zones)], events: make(chan string, 10),
			known: fmt.Sprintf(`{"edge":"%s-edge","edges":[%s]}`, zone, strings.Join(known, ",")),
		}
		data, admin := httptest.NewServer(http.HandlerFunc(e.data)), httptest.NewServer(http.HandlerFunc(e.admin))
		client, err := api.NewClient(api.ClientOptions{URL: admin.URL})
		if err != nil {
			t.Fatal(err)
		}
		s.target.Edges[n].Data, s.target.Edges[n].Client = data.URL, client
		s.edges = append(s.edges, e)
		t.Cleanup(func() {
			client.Close()
			admin.CloseClientConnections()
			admin.Close()
			data.Close()
		})
	}
	s.target.Faults = faults{"kill": func() *hooks { return s.failing(0) }}
	return s
}

// failing is a fault that makes an edge fail.
func (s *site) failing(edge int) *hooks {
	return &hooks{site: s, name: "fail " + s.edges[edge].zone,
		break1: func(context.Context) error {
			s.edges[edge].failing.Store(true)
			s.edges[edge].events <- `{"id":"1","type":"edge.status","edge":"` + s.edges[edge].zone + `-edge","status":"dead"}`
			return nil
		},
		mend: func(context.Context) error { s.edges[edge].failing.Store(false); return nil },
	}
}

// runner is what runs a drill against the site, which it has met already.
func (s *site) runner(t *testing.T, d *Drill) *runner {
	t.Helper()
	r, err := newRunner(&Options{Drill: d, Target: s.target, Progress: report.NewProgress(io.Discard, false)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.close)
	if r.who, err = takeCensus(t.Context(), s.target); err != nil {
		t.Fatal(err)
	}
	return r
}
