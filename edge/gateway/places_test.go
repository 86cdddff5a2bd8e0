package gateway

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/federation"
)

func limited(p Policy) Config {
	config := usersConfig(federation.Strict)
	config.Policies = map[string]Policy{"users": p}
	return config
}

func TestServiceLimit(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxServiceRequests: 2}))
	waits, open := gate("slow")
	r.stage(place{"a", "az1", "v1", waits}, place{"b", "az1", "v1", waits})
	got := make(chan answer, 2)
	for range 2 {
		go func() { got <- r.send(request{method: "GET"}) }()
	}
	eventually(t, "both are upstream", func() bool { return r.gateway.inFlight() == 2 })
	a := r.send(request{method: "GET"})
	a.expect(t, 503, "service-limit")
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	close(open)
	for range 2 {
		(<-got).expect(t, 200, "slow")
	}
	r.settled()
	for range 5 { // their places are free again, and none is lost
		r.send(request{method: "GET"}).expect(t, 200, "slow")
	}
	// A request that found no endpoint holds no place.
	r.register()
	for range 5 {
		r.send(request{method: "GET"}).expect(t, 503, "no-")
	}
	eventually(t, "no place is taken", func() bool {
		return r.gateway.routing.Load().services["users"].limit.InFlight() == 0
	})
}

func TestQueue(t *testing.T) {
	for name, policy := range map[string]Policy{
		"endpoint": {MaxRequests: 1}, "service": {MaxServiceRequests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			r := newRig(t, func(o *Options) {
				patient(t)(o)
				o.Registerer = reg
			})
			policy.Queue = admission.Options{Size: 2, Wait: time.Minute}
			r.configure(limited(policy))
			waits, open := gate("served")
			r.stage(place{"a", "az1", "v1", waits})
			queue := func() *admission.Queue {
				return r.gateway.routing.Load().services["users"].waitingRoom().of("baseline")
			}
			got := make(chan answer, 3)
			for n := range 3 {
				go func() { got <- r.send(request{method: "GET"}) }()
				eventually(t, "it is where it belongs", func() bool {
					return r.gateway.inFlight() == 1 && queue().Waiting() == int64(n)
				})
			}
			r.send(request{method: "GET"}).expect(t, 503, "queue-full")
			close(open)
			for range 3 {
				(<-got).expect(t, 200, "served")
			}
			r.settled()
			counted := counters(t, reg)
			for _, want := range []string{
				"grayfed_requests_queued_total{outcome=full,service=users} 1",
				"grayfed_requests_queued_total{outcome=served,service=users} 2",
			} {
				if !slices.Contains(counted, want) {
					t.Errorf("counted %v, want %s", counted, want)
				}
			}
		})
	}
}

func TestQueueTimeout(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxRequests: 1, Queue: admission.Options{Size: 2, Wait: 50 * time.Millisecond}}))
	waits, open := gate("slow")
	r.stage(place{"a", "az1", "v1", waits})
	got := make(chan answer, 1)
	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "it is upstream", func() bool { return r.gateway.inFlight() == 1 })
	r.send(request{method: "GET"}).expect(t, 503, "queue-timeout")
	// The request's own time is shorter.
	config := limited(Policy{MaxRequests: 1, Queue: admission.Options{Size: 2, Wait: time.Minute}})
	config.Routes[0].Total = 50 * time.Millisecond
	r.configure(config)
	r.send(request{method: "GET"}).expect(t, 503, "queue-timeout")
	close(open)
	(<-got).expect(t, 200, "slow")
}

// A client that goes while it waits leaves the queue, and an endpoint that comes
// is a place.
func TestQueueEnds(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxRequests: 1, Queue: admission.Options{Size: 5, Wait: time.Minute}}))
	waits, open := gate("slow")
	origins := r.stage(place{"a", "az1", "v1", waits})
	queue := r.gateway.routing.Load().services["users"].waitingRoom().of("baseline")
	got := make(chan answer, 2)
	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "it is upstream", func() bool { return r.gateway.inFlight() == 1 })
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: users.test\r\n\r\n")
	eventually(t, "it waits", func() bool { return queue.Waiting() == 1 })
	_ = c.Close()
	eventually(t, "it does not wait any more", func() bool { return queue.Waiting() == 0 })

	go func() { got <- r.send(request{method: "GET"}) }()
	eventually(t, "it waits", func() bool { return queue.Waiting() == 1 })
	r.register(instance("a", "az1", "v1", origins["a"].address), instance("b", "az1", "v1", newOrigin(t, answering("new")).address))
	(<-got).expect(t, 200, "new")
	// A queue is no use where nothing could come free: all endpoints are gone.
	close(open)
	(<-got).expect(t, 200, "slow")
	r.settled()
	r.register()
	r.send(request{method: "GET"}).expect(t, 503, "no-")
}

// A release whose only endpoint is full keeps nobody else waiting.
func TestQueuesOfSubsets(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxRequests: 1, Queue: admission.Options{Size: 5, Wait: time.Minute}}))
	waits, open := gate("canary")
	r.stage(place{"a", "az1", "v2", waits}, place{"b", "az1", "v1", answering("baseline")})
	got := make(chan answer, 2)
	for range 2 {
		go func() { got <- r.send(request{method: "GET", tag: "v2-beta"}) }()
	}
	service := r.gateway.routing.Load().services["users"]
	eventually(t, "one canary waits", func() bool { return service.waitingRoom().of("v2-beta").Waiting() == 1 })
	r.send(request{method: "GET"}).expect(t, 200, "baseline")
	close(open)
	for range 2 {
		(<-got).expect(t, 200, "canary")
	}
}

// Who comes while others wait does not take the place that they wait for.
func TestQueueIsFair(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxRequests: 1, Queue: admission.Options{Size: 2, Wait: 50 * time.Millisecond}}))
	r.stage(place{"a", "az1", "v1", answering("ok")})
	waiter, err := r.gateway.routing.Load().services["users"].waitingRoom().of("baseline").Join()
	if err != nil {
		t.Fatal(err)
	}
	r.send(request{method: "GET"}).expect(t, 503, "queue-timeout")
	waiter.Leave()
	r.send(request{method: "GET"}).expect(t, 200, "ok")
}

// A request that the service has room for and no endpoint waits without asking
// again and again, and holds no place of the service meanwhile.
func TestQueueBehindBothLimits(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(limited(Policy{MaxRequests: 1, MaxServiceRequests: 5, Queue: admission.Options{Size: 2, Wait: time.Minute}}))
	waits, open := gate("slow")
	r.stage(place{"a", "az1", "v1", waits})
	service := r.gateway.routing.Load().services["users"]
	got := make(chan answer, 2)
	for n := range 2 {
		go func() { got <- r.send(request{method: "GET"}) }()
		eventually(t, "it is where it belongs", func() bool {
			return service.waitingRoom().of("baseline").Waiting() == int64(n) && service.limit.InFlight() == 1
		})
	}
	close(open)
	for range 2 {
		(<-got).expect(t, 200, "slow")
	}
}

// A service may be balanced another way by the time that a request has its
// turn: what it is hashed by counts no more then.
func TestQueueOutlastsTheBalance(t *testing.T) {
	policy := Policy{
		Balance: ConsistentHash, Hash: []HashKey{{Source: HashClientIP}},
		MaxRequests: 1, Queue: admission.Options{Size: 2, Wait: time.Minute},
	}
	r := newRig(t, patient(t))
	r.configure(limited(policy))
	waits, open := gate("served")
	r.stage(place{"a", "az1", "v1", waits})
	queue := r.gateway.routing.Load().services["users"].waitingRoom().of("baseline")
	got := make(chan answer, 2)
	for n := range 2 {
		go func() { got <- r.send(request{method: "GET"}) }()
		eventually(t, "it is where it belongs", func() bool {
			return r.gateway.inFlight() == 1 && queue.Waiting() == int64(n)
		})
	}
	policy.Balance, policy.Hash = P2C, nil
	r.configure(limited(policy))
	close(open)
	for range 2 {
		(<-got).expect(t, 200, "served")
	}
}
