package gateway

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// A mistake in what a request is decided by costs that request, and no place.
func TestPanicCostsOneRequest(t *testing.T) {
	var armed atomic.Bool
	text := &logged{}
	reg := prometheus.NewRegistry()
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.Registerer, o.Log = reg, slog.New(slog.NewTextHandler(text, nil))
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Rand = func() uint64 {
			if armed.Load() {
				panic("no randomness")
			}
			return 0
		}
	})
	r.configure(limited(Policy{MaxRequests: 1, MaxServiceRequests: 1, Queue: admission.Options{Size: 2, Wait: time.Minute}}))
	waits, open := gate("ok")
	r.stage(place{"a", "az1", "v1", waits})
	service := r.gateway.routing.Load().services["users"]

	// One in the queue, whose turn comes when the first is done.
	got := make(chan answer, 2)
	for n := range 2 {
		go func() { got <- r.ask("GET", "/", "X-Request-ID: mine") }()
		eventually(t, "it is where it belongs", func() bool {
			return service.waitingRoom().of("baseline").Waiting() == int64(n) && service.limit.InFlight() == 1
		})
	}
	armed.Store(true)
	close(open)
	if a, b := (<-got).StatusCode, (<-got).StatusCode; a+b != 200+500 {
		t.Fatalf("got %d and %d", a, b)
	}
	if n := service.waitingRoom().of("baseline").Waiting(); n != 0 {
		t.Fatalf("%d wait", n)
	}
	// One at its endpoint's choice, one at its very beginning.
	for _, fields := range [][]string{{"X-Request-ID: mine"}, nil} {
		a := r.ask("GET", "/", fields...)
		a.expect(t, 500, "")
		if !a.Close {
			t.Error("the connection goes on")
		}
	}
	armed.Store(false)
	for range 3 {
		r.ask("GET", "/").expect(t, 200, "ok")
	}
	r.settled()
	eventually(t, "no place is taken", func() bool { return service.limit.InFlight() == 0 })
	if counted := counters(t, reg); !slices.Contains(counted, "grayfed_gateway_panics_total{} 3") {
		t.Errorf("counted %v", counted)
	}
	if log := text.String(); strings.Count(log, "no randomness") != 3 || !strings.Contains(log, "request_id=mine") || !strings.Contains(log, "identify.go") {
		t.Errorf("log: %s", log)
	}
	eventually(t, "three lines", func() bool { return strings.Count(r.log.String(), `"status":500`) == 3 })
}

// panicUpstream panics with the exchange in its hands.
type panicUpstream struct{}

func (panicUpstream) RoundTrip(*exchange.Exchange) error { panic("transport") }
func (panicUpstream) Close() error                       { return nil }

// A transport that panicked may be at work with buffers still: nothing goes on
// behind that.
func TestPanicOfTransportGoesOn(t *testing.T) {
	g, prepare, x := pipeline(t, func(_ *Config, o *Options) {
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return panicUpstream{}, nil }
	})
	prepare(x)
	defer func() {
		if cause := recover(); cause != "transport" {
			t.Errorf("recovered %v", cause)
		}
	}()
	g.Serve(x)
	t.Error("it went on")
}
