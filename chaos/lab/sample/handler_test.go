package sample_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/chaos/lab/sample"
)

// instance runs one until the test ends and returns where it says it listens.
func instance(t *testing.T) (base string) {
	t.Helper()
	edge, calls := newEdge(t)
	file := filepath.Join(t.TempDir(), "address")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- sample.Run(ctx, sample.Options{
			Service: "users", Zone: "az1", Version: "v2", ID: "seven", AddressFile: file, Edges: []string{edge}, Output: io.Discard,
		})
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	said := await(t, calls, "PUT /v1/services/users/instances/seven")
	address, err := os.ReadFile(file)
	if err != nil || string(address) != said.Address {
		t.Fatalf("it listens on %q by its file, and on %q by its registration; %v", address, said.Address, err)
	}
	return "http://" + said.Address
}

func send(t *testing.T, method, url, body string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestBehaviour(t *testing.T) {
	base := instance(t)
	// failures is how many of many requests are answered 503, and how many of
	// its health checks.
	failures := func(sent int) (failed int) {
		t.Helper()
		for n := range sent {
			switch status, text := send(t, http.MethodGet, fmt.Sprintf("%s/api/v1/users/%d", base, n), ""); {
			case status == http.StatusServiceUnavailable:
				failed++
			case status != http.StatusOK || !strings.Contains(text, `"instance":"seven"`):
				t.Fatalf("answered %d: %s", status, text)
			}
			if status, _ := send(t, http.MethodGet, base+"/healthz", ""); status != http.StatusOK {
				t.Fatalf("its health is answered %d", status)
			}
		}
		return failed
	}
	behave := func(body string) {
		t.Helper()
		if status, text := send(t, http.MethodPut, base+"/chaos", body); status != http.StatusNoContent {
			t.Fatalf("%s is answered %d: %s", body, status, text)
		}
	}
	if n := failures(20); n != 0 {
		t.Errorf("%d of 20 fail by themselves", n)
	}
	behave(`{"error_percent": 100}`)
	if n := failures(20); n != 20 {
		t.Errorf("%d of 20 fail at 100%%", n)
	}
	// 100 of 200 fail, with a deviation of 7.
	behave(`{"error_percent": 50}`)
	if n := failures(200); n < 40 || n > 160 {
		t.Errorf("%d of 200 fail at 50%%", n)
	}
	const delay = 100 * time.Millisecond
	behave(`{"delay": "100ms"}`)
	begun := time.Now()
	if n := failures(1); n != 0 || time.Since(begun) < delay {
		t.Errorf("%d failed, after %s", n, time.Since(begun))
	}
	behave(`{}`)
	if n := failures(20); n != 0 {
		t.Errorf("%d of 20 fail after all was mended", n)
	}
}

func TestBehaviourIsRefused(t *testing.T) {
	base := instance(t)
	for _, body := range []string{
		"", "{", `{"error_percent": 101}`, `{"error_percent": -1}`, `{"delay": "-1s"}`, `{"delay": "61s"}`, `{"delay": 5}`,
	} {
		if status, _ := send(t, http.MethodPut, base+"/chaos", body); status != http.StatusBadRequest {
			t.Errorf("%.40q is answered %d", body, status)
		}
	}
	if status, _ := send(t, http.MethodGet, base+"/api/v1/users/1", ""); status != http.StatusOK {
		t.Errorf("a request after refused changes is answered %d", status)
	}
	if status, _ := send(t, http.MethodPost, base+"/chaos", "{}"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered %d", status)
	}
}
