package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// fakeEtcd listens where it is told to, and no more.
func fakeEtcd(args []string) error {
	listener, err := net.Listen("tcp", args[3])
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}

// fakeGrayfed does as much of an edge's work as the benchmark checks for. What
// is registered with one is seen by all that have their documents in the same
// folder, for it is kept there.
type fakeGrayfed struct {
	dir   string
	zone  string
	edges int
	log   bool
	ids   atomic.Int64
	polls atomic.Int64 // of its metrics
}

// fakeInstance is the file of one registration.
type fakeInstance struct {
	registration
	Service string
}

func fakeEdge(args []string) error {
	config, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	setting := func(pattern string) string {
		return string(append(regexp.MustCompile(pattern).FindSubmatch(config), nil, nil)[1])
	}
	addresses := regexp.MustCompile(`(?m)^  address: (\S+)$`).FindAllStringSubmatch(string(config), -1)
	if len(addresses) != 2 {
		return fmt.Errorf("%d addresses in edge.yaml", len(addresses))
	}
	f := &fakeGrayfed{
		dir:   filepath.Join(filepath.Dir(setting(`documents: "(.*)"`)), "registered"),
		zone:  setting(`(?m)^zone: (\S+)$`),
		edges: 1 + strings.Count(setting(`peers: \[(.*)\]`), `"`)/2,
		log:   strings.Contains(string(config), "access: true"),
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	admin := http.NewServeMux()
	admin.HandleFunc("PUT /v1/services/{service}/instances/{id}", f.put)
	admin.HandleFunc("GET /v1/services/{service}/instances", f.list)
	admin.HandleFunc("GET /v1/services", f.sum)
	admin.HandleFunc("GET /v1/federation", func(w http.ResponseWriter, _ *http.Request) {
		edge := map[string]string{"status": edgeAlive}
		answerJSON(w, map[string]any{"edges": slices.Repeat([]any{edge}, f.edges)})
	})
	admin.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, "ready") })
	admin.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "go_memstats_heap_alloc_bytes 1e6\ngo_gc_duration_seconds_count %d\n", f.polls.Add(1))
	})
	ended := make(chan error, 2)
	cert, key := setting(`cert_file: "(.*)"`), setting(`key_file: "(.*)"`)
	go func() {
		if cert == "" {
			ended <- http.ListenAndServe(addresses[0][1], f.data())
			return
		}
		ended <- http.ListenAndServeTLS(addresses[0][1], cert, key, f.data())
	}()
	go func() { ended <- http.ListenAndServe(addresses[1][1], admin) }()
	return <-ended
}

func answerJSON(w http.ResponseWriter, value any) { _ = json.NewEncoder(w).Encode(value) }

func (f *fakeGrayfed) put(w http.ResponseWriter, r *http.Request) {
	instance := fakeInstance{Service: r.PathValue("service")}
	if err := json.NewDecoder(r.Body).Decode(&instance.registration); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, err := json.Marshal(instance)
	name := filepath.Join(f.dir, instance.Service+" "+r.PathValue("id"))
	if err == nil {
		err = os.WriteFile(name+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name+".json")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// registered are the instances of a service, those of this zone first.
func (f *fakeGrayfed) registered(service string) (here []fakeInstance) {
	var elsewhere []fakeInstance
	files, _ := filepath.Glob(filepath.Join(f.dir, service+" *.json"))
	for _, name := range files {
		var instance fakeInstance
		text, err := os.ReadFile(name)
		if err != nil || json.Unmarshal(text, &instance) != nil {
			continue
		}
		if instance.Zone == f.zone {
			here = append(here, instance)
		} else {
			elsewhere = append(elsewhere, instance)
		}
	}
	return append(here, elsewhere...)
}

func (f *fakeGrayfed) list(w http.ResponseWriter, r *http.Request) {
	usable := map[string]bool{"usable": true}
	answerJSON(w, map[string]any{"instances": slices.Repeat([]any{usable}, len(f.registered(r.PathValue("service"))))})
}

func (f *fakeGrayfed) sum(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, map[string]any{"services": []any{map[string]int{"instances": len(f.registered("*"))}}})
}

func (f *fakeGrayfed) data() http.Handler {
	return &httputil.ReverseProxy{Transport: f, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme = "http"
		r.Out.Host = r.In.Host
		r.SetXForwarded()
		r.Out.Header.Set("X-Real-IP", "127.0.0.1")
		r.Out.Header.Set("X-Request-ID", fmt.Sprintf("%016d", f.ids.Add(1)))
		if f.log {
			fmt.Println("{}")
		}
	}}
}

// RoundTrip tries the instances of the version that the tag asks for, one after
// the other, until one answers.
func (f *fakeGrayfed) RoundTrip(r *http.Request) (*http.Response, error) {
	service, _, _ := strings.Cut(r.URL.Path[1:], "/")
	if strings.HasPrefix(r.URL.Path, pathPrefix) {
		service = benchService
	}
	version := stableRelease
	if r.Header.Get(tagHeader) == canaryRelease {
		version = canaryRelease
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	for _, instance := range f.registered(service) {
		if instance.Version != version {
			continue
		}
		r.URL.Host = instance.Address
		r.Body = io.NopCloser(bytes.NewReader(body))
		if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
			return response, nil
		}
	}
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody, Request: r}, nil
}
