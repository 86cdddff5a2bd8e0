package sample_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/lab/sample"
	"github.com/grayfed/grayfed/edge/api"
)

// deadline bounds every wait; it says nothing about speed.
const deadline = 20 * time.Second

type call struct {
	what string
	said api.Registration
}

// newEdge stands in for an edge: it takes all there is, and tells of it.
func newEdge(t *testing.T) (url string, calls chan call) {
	calls = make(chan call, 100)
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := call{what: r.Method + " " + r.URL.Path}
		if r.Method == http.MethodPut {
			if err := json.NewDecoder(r.Body).Decode(&c.said); err != nil {
				t.Errorf("registration: %v", err)
			}
		}
		_, _ = io.WriteString(w, "{}")
		calls <- c
	}))
	t.Cleanup(edge.Close)
	return edge.URL, calls
}

func await(t *testing.T, calls chan call, what string) api.Registration {
	t.Helper()
	late := time.After(deadline)
	for {
		select {
		case c := <-calls:
			if c.what == what {
				return c.said
			}
		case <-late:
			t.Fatalf("no %s", what)
		}
	}
}

func TestRun(t *testing.T) {
	edge, calls := newEdge(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- sample.Run(ctx, sample.Options{
			Service: "users", Zone: "az1", Region: "east", Version: "v2", Edges: []string{edge}, Output: io.Discard,
		})
	}()
	const instance = "/v1/services/users/instances/az1-v2"
	said := await(t, calls, "PUT "+instance)
	if said.Zone != "az1" || said.Region != "east" || said.Version != "v2" {
		t.Errorf("registered as %+v", said)
	}
	for path, id := range map[string]string{said.HealthPath: "", "/api/v1/users/42": "42"} {
		response, err := http.Get("http://" + said.Address + path)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		_ = response.Body.Close()
		if got["service"] != "users" || got["version"] != "v2" || got["zone"] != "az1" || got["instance"] != "az1-v2" || got["id"] != id {
			t.Errorf("%s: answered %v", path, got)
		}
	}
	http.DefaultClient.CloseIdleConnections()

	cancel()
	await(t, calls, "POST "+instance+"/drain")
	await(t, calls, "DELETE "+instance)
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if conn, err := net.Dial("tcp", said.Address); err == nil {
		t.Error("it still listens")
		_ = conn.Close()
	}
}

func TestOptions(t *testing.T) {
	for name, opts := range map[string]sample.Options{
		"no zone":  {Service: "users", Version: "v1", Edges: []string{"http://127.0.0.1:1"}, Output: io.Discard},
		"no edges": {Service: "users", Version: "v1", Zone: "az1", Output: io.Discard},
		"no token file": {
			Service: "users", Zone: "az1", Version: "v1", Edges: []string{"http://127.0.0.1:1"}, Output: io.Discard, TokenFile: "/no/such/file",
		},
		"a CA without a certificate": {
			Service: "users", Zone: "az1", Version: "v1", Edges: []string{"http://127.0.0.1:1"}, Output: io.Discard, CAFile: "/dev/null",
		},
		"no folder for the address": {
			Service: "users", Zone: "az1", Version: "v1", Edges: []string{"http://127.0.0.1:1"}, Output: io.Discard, AddressFile: "/no/such/folder/file",
		},
		"an address of another machine": {
			Service: "users", Zone: "az1", Version: "v1", Edges: []string{"http://127.0.0.1:1"}, Output: io.Discard, Listen: "192.0.2.1:0",
		},
		"no output": {Service: "users", Version: "v1", Zone: "az1", Edges: []string{"http://127.0.0.1:1"}},
	} {
		if err := sample.Run(t.Context(), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
