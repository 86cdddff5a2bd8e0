package admin

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

var failoverState = api.Failover{
	Edge: "az1-edge", Zone: "az1", Role: "primary",
	Decision: &api.FailoverDecision{In: true, Weight: 50, Reason: "serving", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	Consul:   api.FailoverConsul{Configured: true, Registered: true, Leader: true, ConfirmedMS: 12},
	DNS:      &api.FailoverDNS{Domain: "example.com", Address: "127.0.0.1:8600", TTLMS: 1000},
	Entries: []api.FailoverEntry{{
		Edge: "az1-edge", Zone: "az1", Role: "primary", Addresses: []string{"203.0.113.5"}, Port: 443, Weight: 50,
		Consul: "alive", Gossip: "alive", Probe: "unknown", SharePercent: 100,
	}},
}

func TestFailover(t *testing.T) {
	r := newRig(t, nil)
	got, err := r.client().Failover(t.Context())
	if err != nil || !reflect.DeepEqual(*got, failoverState) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestFailoverCheckAsksForNoToken: a Consul agent has none; all the rest does
// ask for one.
func TestFailoverCheckAsksForNoToken(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("read a-token-of-enough-length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) { o.TokensFile, o.HealthAddress = tokens, "127.0.0.1:0" })
	health := "http://" + r.HealthAddress().String()
	for reason, want := range map[error]int{nil: http.StatusOK, errors.New("the edge is stopping"): http.StatusServiceUnavailable} {
		r.state.setReady(reason)
		for _, base := range []string{r.base, health} {
			if got := r.sendTo(http.DefaultClient, base, http.MethodGet, "/v1/failover/check", ""); got.StatusCode != want {
				t.Errorf("%s, %v: %s", base, reason, got.Status)
			}
		}
	}
	for _, path := range []string{"/v1/failover", "/v1/failover/check/", "/healthz", "/v1/nothing"} {
		if got := r.send(http.MethodGet, path, ""); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a token: %s", path, got.Status)
		}
	}
	if got := r.send(http.MethodPost, "/v1/failover/check", ""); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("POST without a token: %s", got.Status)
	}
	if got := r.sendTo(http.DefaultClient, health, http.MethodGet, "/v1/failover", ""); got.StatusCode != http.StatusNotFound {
		t.Errorf("the health listener tells of the entries: %s", got.Status)
	}
}
