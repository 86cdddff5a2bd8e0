package consul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grayfed/grayfed/failover"
)

// An edge that goes out says so before its new weight, and one that comes in
// after it: clients never get it with a weight that it was not in with.
func TestOutIsSaidFirstAndInLast(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var last string   // guarded by mu
	var told []string // guarded by mu; what only repeats the last is left out
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			<-r.Context().Done() // nothing is read, so nothing is put right
			return
		}
		var body struct {
			Status  string
			Weights struct{ Passing int }
		}
		_ = json.NewDecoder(r.Body).Decode(&body) // of what is unknown, nothing
		what := body.Status
		if strings.HasSuffix(r.URL.Path, "/service/register") {
			what = fmt.Sprint(body.Weights.Passing)
		}
		mu.Lock()
		defer mu.Unlock()
		if what != last {
			told, last = append(told, what), what
		}
	}))
	t.Cleanup(server.Close)
	a := start(t, Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Standby)})
	for _, c := range []struct {
		decision failover.Decision
		want     []string
	}{
		{failover.Decision{In: false, Weight: 50}, []string{"50", "critical"}},
		{failover.Decision{In: true, Weight: 5}, []string{"5", "passing"}},
		{failover.Decision{In: true, Weight: 6}, []string{"6", "passing"}},
		{failover.Decision{In: false, Weight: 7}, []string{"critical", "7", "critical"}},
		{failover.Decision{In: true, Weight: 7}, []string{"passing"}},
		{failover.Decision{In: false, Weight: 7}, []string{"critical"}},
	} {
		a.Set(c.decision)
		var got []string
		until(t, fmt.Sprintf("%+v is told", c.decision), func() bool {
			mu.Lock()
			defer mu.Unlock()
			got = slices.Clone(told)
			return len(got) >= len(c.want)
		})
		if !slices.Equal(got, c.want) {
			t.Fatalf("of %+v the agent was told %q, want %q", c.decision, got, c.want)
		}
		mu.Lock()
		told = nil
		mu.Unlock()
	}
}

// An entry that Consul has lost is registered as another one by its notes: a
// newer agent passes nothing on that is as it was.
func TestCorrectionDiffers(t *testing.T) {
	t.Parallel()
	notes := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-KnownLeader", "true")
			_, _ = w.Write([]byte("[]"))
			return
		}
		var body struct{ Checks []struct{ Notes string } }
		_ = json.NewDecoder(r.Body).Decode(&body) // of what is unknown, nothing
		for _, check := range body.Checks {
			select {
			case notes <- check.Notes:
			default:
			}
		}
	}))
	t.Cleanup(server.Close)
	start(t, Options{Address: server.URL, Edge: "a", Entry: entryOf("a", failover.Primary), CheckURL: server.URL})
	for _, want := range []string{"", "", "correction 1", "correction 1"} { // of both checks
		if got := <-notes; got != want {
			t.Errorf("registered with the note %q, want %q", got, want)
		}
	}
}
