package edge

import (
	"reflect"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/breaker"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/gateway"
)

// What documents say of timeouts, retries and policies the gateway gets.
func TestPoliciesReachTheGateway(t *testing.T) {
	docs, err := config.ReadDocuments("config/testdata/accepted/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := gatewayConfig(docs)
	steady, _ := breaker.Profile("steady")
	for name, want := range map[string]gateway.Policy{
		"users": {
			Balance: gateway.ConsistentHash, Hash: []gateway.HashKey{{Source: gateway.HashHeader, Name: "x-user"}, {Source: gateway.HashQuery, Name: "user"}},
			LoadBound: 1.5, MaxRequests: 500, MaxServiceRequests: 2000, Queue: admission.Options{Size: 100, Wait: 250 * time.Millisecond},
			Breaker: &breaker.Options{FailureRatio: 0.5, MinRequests: 8, OpenFor: 5 * time.Second, Window: 20 * time.Second, Trials: 2},
		},
		"orders": {
			Balance: gateway.WeightedRoundRobin, MaxRequests: 10, Queue: admission.Options{Size: 1, Wait: time.Second}, Breaker: &steady,
		},
	} {
		if got := c.Policies[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, r := range c.Routes {
		switch r.ID {
		case "users":
			timeouts := exchange.Timeouts{Connect: 100 * time.Millisecond, TLS: 300 * time.Millisecond, Head: time.Second}
			keys := []gateway.HashKey{{Source: gateway.HashCookie, Name: "session"}, {Source: gateway.HashClientIP}}
			if r.Timeouts != timeouts || r.PerTry != 2*time.Second || r.Total != 10*time.Second || r.Retries != 2 ||
				r.RetryOn != gateway.RetryReset|gateway.RetryGatewayError || !reflect.DeepEqual(r.Hash, keys) {
				t.Errorf("%+v", r)
			}
		case "external":
			if (r.Timeouts != exchange.Timeouts{Idle: time.Minute}) || r.Total != 3*time.Second || r.RetryOn != gateway.RetryAll || r.Hash != nil {
				t.Errorf("%+v", r)
			}
		}
	}
}
