package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/balance"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// hopped is what became of a request that another edge sent.
type hopped struct {
	status  int
	verdict string
	body    string
}

// hop sends a request to the handler for other edges.
func (r *rig) hop(method, hop string, fields ...string) hopped {
	r.t.Helper()
	x := &exchange.Exchange{Conn: &exchange.Conn{Remote: netip.MustParseAddrPort("192.0.2.7:1234")}, Start: time.Now()}
	if r.shown != nil {
		x.Conn.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.shown}}
	}
	x.Request = exchange.Request{Method: method, Scheme: "https", Authority: "users.test", Path: "/a", Proto: exchange.HTTP2}
	for n := 0; n < len(fields); n += 2 {
		x.Request.Header.Add(fields[n], fields[n+1])
	}
	if hop != "" {
		x.Request.Header.Add("x-gray-hop", hop)
	}
	h := r.gateway.PeerHandler()
	h.Serve(x)
	got := hopped{status: x.Response.Status}
	got.verdict, _ = x.Response.Header.Get(exchange.FieldXGrayHop)
	if n := x.Response.Header.Count(exchange.FieldXGrayHop); n != 1 {
		r.t.Errorf("%d verdicts", n)
	}
	for body := x.Response.Body; body != nil; {
		piece, err := body.Next()
		if err == io.EOF { //nolint:errorlint // as bodies return it
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
		got.body += string(piece)
	}
	if x.Response.Body != nil {
		_ = x.Response.Body.Close()
	}
	h.Done(x, nil)
	x.Release()
	return got
}

// from is what az2's edge says of a request for a subset, as this edge's
// documents have it.
func (r *rig) from(release string, change ...func(*hop)) string {
	h := hop{from: "az2-edge", hops: 1, service: "users", release: release, client: "198.51.100.7"}
	decision, _ := r.gateway.routing.Load().services["users"].current.Load().Named(release)
	h.selects = decision.Lane.Selects
	for _, c := range change {
		c(&h)
	}
	return string(h.append(nil))
}

func receiving(o *Options) { o.Edge, o.Peers = "az1-edge", true }

// TestHopsThatAreNotProcessed: each says why, has no body, and reached nobody.
func TestHopsThatAreNotProcessed(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRig(t, func(o *Options) { patient(t)(o); receiving(o); o.Registerer = reg })
	config := usersConfig(federation.Permissive)
	config.Releases = append(config.Releases, &federation.Release{
		Name: "paused", Paused: true, Services: map[string]federation.Selector{"users": {Version: "v2"}},
	})
	config.Policies = map[string]Policy{"users": {MaxServiceRequests: 1}}
	r.configure(config)
	here, there := newOrigin(t, answering("here")), newOrigin(t, answering("there"))
	r.register(instance("stable", "az1", "v1", here.address), instance("canary", "az2", "v2", there.address))
	for name, c := range map[string]struct{ hop, reason string }{
		"no word":           {"", "malformed-hop"},
		"malformed":         {"from=az2-edge", "malformed-hop"},
		"sent on before":    {r.from("", func(h *hop) { h.hops = 2 }), "hop-limit"},
		"unknown service":   {r.from("", func(h *hop) { h.service = "orders" }), "unknown-service"},
		"unknown release":   {r.from("", func(h *hop) { h.release = "v9" }), "unknown-subset"},
		"release elsewhere": {r.from("", func(h *hop) { h.release = "elsewhere" }), "unknown-subset"},
		"paused":            {r.from("", func(h *hop) { h.release = "paused" }), "unknown-subset"},
		"other selector":    {r.from("", func(h *hop) { h.selects++ }), "other-subset"},
		// It is in the sender's zone: nothing goes back.
		"canary elsewhere":       {r.from("v2-beta"), "no-endpoint"},
		"the one that failed it": {r.from("", func(h *hop) { h.not = "other,stable" }), "no-endpoint"},
	} {
		got := r.hop("POST", c.hop)
		if got.status != 503 || got.verdict != "not-processed;reason="+c.reason || got.body != "" {
			t.Errorf("%s: %+v, want %s", name, got, c.reason)
		}
	}
	for what, more := range map[string][]string{
		"twice":                {"x-gray-hop", r.from("")},
		"twice, empty between": {"x-gray-hop", r.from(""), "x-gray-hop", ""},
	} {
		if got := r.hop("POST", r.from(""), more...); got.verdict != "not-processed;reason=malformed-hop" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if here.heads.Load() != 0 || there.heads.Load() != 0 {
		t.Errorf("endpoints were asked %d and %d times", here.heads.Load(), there.heads.Load())
	}
	// The twin, and that no place was kept.
	if got := r.hop("POST", r.from("")); got != (hopped{200, "served;instance=stable", "here"}) {
		t.Errorf("the baseline: %+v", got)
	}
	r.settled()
	if got := fmt.Sprint(counters(t, reg)); !strings.Contains(got, "grayfed_peer_requests_total{edge=unknown,outcome=not-processed} 12") {
		t.Errorf("counted %s", got)
	}
	r.gateway.SetPeer(edgeOf("az2-edge", federation.EdgeAlive), false)
	r.hop("POST", r.from(""))
	if got := fmt.Sprint(counters(t, reg)); !strings.Contains(got, "grayfed_peer_requests_total{edge=az2-edge,outcome=served} 1") {
		t.Errorf("counted %s", got)
	}
}

// TestEdgesGoByTheirCertificates: one whose certificate bears its id cannot pass
// for another; of others this edge takes the word.
func TestEdgesGoByTheirCertificates(t *testing.T) {
	named := func(name string, dns ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: dns}
	}
	for what, c := range map[string]struct {
		shown      *x509.Certificate
		said, want string
	}{
		"its common name":          {named("az2-edge"), "az2-edge", "az2-edge"},
		"its DNS name":             {named("", "edge.internal", "az2-edge"), "az2-edge", "az2-edge"},
		"one of several edges":     {named("az3-edge", "az2-edge", "az3-edge"), "az2-edge", "az2-edge"},
		"another's common name":    {named("az3-edge"), "az2-edge", "az3-edge"},
		"another's DNS name":       {named("edge", "edge.internal", "az3-edge"), "az2-edge", "az3-edge"},
		"nobody's name":            {named("edge", "edge.internal"), "az2-edge", "az2-edge"},
		"no certificate":           {nil, "az2-edge", "az2-edge"},
		"one that is unknown here": {named("az9-edge"), "az9-edge", "unknown"},
	} {
		reg := prometheus.NewRegistry()
		r := newRig(t, func(o *Options) { patient(t)(o); receiving(o); o.Registerer = reg })
		r.configure(usersConfig(federation.Strict))
		r.register(instance("stable", "az1", "v1", newOrigin(t, answering("here")).address))
		for _, id := range []string{"az2-edge", "az3-edge"} {
			r.gateway.SetPeer(edgeOf(id, federation.EdgeAlive), false)
		}
		r.shown = c.shown
		if got := r.hop("GET", r.from("", func(h *hop) { h.from = c.said })); got.verdict != "served;instance=stable" {
			t.Errorf("%s: %+v", what, got)
		}
		want := "grayfed_peer_requests_total{edge=" + c.want + ",outcome=served} 1"
		if got := counters(t, reg); !slices.Contains(got, want) {
			t.Errorf("%s: counted %s, want %s", what, got, want)
		}
	}
}

// TestHopsEndHere: also when the instance has moved to a zone that is reached
// through its edges, and the plan does not know yet.
func TestHopsEndHere(t *testing.T) {
	other := &fakeEdge{id: "a", answer: says(200, "served;instance=stable")}
	r := peered(t, other)
	r.gateway.opts.Peers = true
	r.configure(usersConfig(federation.Strict))
	r.register(instance("stable", "az1", "v1", newOrigin(t, answering("here")).address))
	if got := r.hop("GET", r.from("")); got != (hopped{200, "served;instance=stable", "here"}) {
		t.Fatalf("before it moves: %+v", got)
	}
	r.settled()
	r.endpoint("stable").bounds.Store(&bounds{through: r.gateway.zone("az2").through})
	if got := r.hop("GET", r.from("")); got.verdict != "not-processed;reason=no-endpoint" || other.asked.Load() != 0 {
		t.Errorf("%+v, and another edge was asked %d times", got, other.asked.Load())
	}
	r.settled()
}

// TestHopsAreTriedAgainOnlyUnwritten: what reached an endpoint is the sender's to
// decide on, also when this edge would try again.
func TestHopsAreTriedAgainOnlyUnwritten(t *testing.T) {
	r := newRig(t, func(o *Options) { patient(t)(o); receiving(o) })
	r.configure(usersConfig(federation.Strict))
	breaks := newOrigin(t, func(*origin, net.Conn, string) bool { return false })
	unwell := newOrigin(t, respondWith("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nx-gray-hop: not-processed\r\n\r\n"))
	well := newOrigin(t, answering("well"))
	for name, c := range map[string]struct {
		first string // address of the endpoint that is taken first
		want  hopped
		asked int64 // of the second
	}{
		"refuses":  {refusingAddress(t), hopped{200, "served;instance=b", "well"}, 1},
		"breaks":   {breaks.address, hopped{502, "failed;instance=a", ""}, 0},
		"answers":  {unwell.address, hopped{503, "served;instance=a", ""}, 0},
		"is asked": {well.address, hopped{200, "served;instance=a", "well"}, 1},
	} {
		before := well.heads.Load()
		r.register(instance("a", "az1", "v2", c.first), instance("b", "az1", "v2", well.address))
		got := r.hop("GET", r.from("v2-beta"))
		if asked := well.heads.Load() - before; got != c.want || asked != c.asked {
			t.Errorf("%s: %+v, the second asked %d times; want %+v and %d", name, got, asked, c.want, c.asked)
		}
		r.settled()
	}
	// None can be reached.
	r.register(instance("a", "az1", "v2", refusingAddress(t)), instance("b", "az1", "v2", refusingAddress(t)))
	if got := r.hop("GET", r.from("v2-beta")); got != (hopped{503, "not-processed;reason=not-reached;tried=2", ""}) {
		t.Errorf("none reached: %+v", got)
	}
	// The sender may leave fewer attempts to this zone than there are endpoints.
	if got := r.hop("GET", r.from("v2-beta", func(h *hop) { h.tries = 1 })); got != (hopped{503, "not-processed;reason=not-reached;tried=1", ""}) {
		t.Errorf("one try: %+v", got)
	}
}

// TestHopsKeepTheRequest: an endpoint sees the request as the sender made it.
func TestHopsKeepTheRequest(t *testing.T) {
	r := newRig(t, func(o *Options) { patient(t)(o); receiving(o) })
	r.configure(usersConfig(federation.Strict))
	o := newOrigin(t, answering("x"))
	limited := instance("stable", "az1", "v1", o.address)
	limited.Capacity = 1
	r.register(limited)
	fields := []string{
		"X-Forwarded-For", "198.51.100.7", "X-Real-IP", "198.51.100.7", "X-Request-ID", "abc", "Forwarded", "for=198.51.100.7",
		"x-release-tag", "v9", "x_mine", "1",
	}
	if got := r.hop("GET", r.from(""), fields...); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	head := o.last()
	for n := 0; n < len(fields); n += 2 {
		if line := fields[n] + ": " + fields[n+1] + "\r\n"; strings.Count(head, line) != 1 {
			t.Errorf("no %q in %q", line, head)
		}
	}
	if strings.Contains(head, "x-gray-hop") || strings.Count(head, "\r\n") != 2+1+len(fields)/2 || !strings.Contains(head, "Host: users.test\r\n") {
		t.Errorf("head %q", head)
	}
	r.hop("GET", r.from("", func(h *hop) { h.host = true }))
	if head := o.last(); !strings.Contains(head, "Host: "+o.address+"\r\n") {
		t.Errorf("head with the endpoint's host %q", head)
	}
	// Its declared capacity holds for other zones.
	r.settled()
	r.endpoint("stable").inFlight.Add(1)
	if got := r.hop("GET", r.from("")); got.verdict != "not-processed;reason=no-endpoint" {
		t.Errorf("beyond its capacity: %+v", got)
	}
	r.ask("GET", "/").expect(t, 200, "x") // within the zone the operator balances
	r.endpoint("stable").inFlight.Add(-1)
}

// TestHopsKeepTheirKey: what one key belongs to is asked by it, whichever edge
// took it.
func TestHopsKeepTheirKey(t *testing.T) {
	r := newRig(t, func(o *Options) { patient(t)(o); receiving(o) })
	config := usersConfig(federation.Strict)
	config.Policies = map[string]Policy{"users": {Balance: ConsistentHash, Hash: []HashKey{{HashHeader, "x-user"}}}}
	r.configure(config)
	var instances []*federation.Instance
	for _, id := range []string{"a", "b", "c", "d"} {
		instances = append(instances, instance(id, "az1", "v1", newOrigin(t, answering(id)).address))
	}
	r.register(instances...)
	met := make(map[string]bool)
	for n := range 20 {
		user := fmt.Sprint("user-", n)
		direct := r.ask("GET", "/", "x-user: "+user)
		r.settled()
		got := r.hop("GET", r.from("", func(h *hop) { h.hash, h.hashed = balance.HashKey(user), true }))
		if got.body != direct.body || got.verdict != "served;instance="+direct.body {
			t.Errorf("%s is %s's, and %+v by another edge", user, direct.body, got)
		}
		met[got.body] = true
		r.settled()
	}
	if len(met) < 3 {
		t.Errorf("all keys are those of %v", met)
	}
}

// TestPanicOfAnotherEdge opens unhealthy endpoints here to its requests alone.
func TestPanicOfAnotherEdge(t *testing.T) {
	r := newRig(t, func(o *Options) { patient(t)(o); receiving(o) })
	r.configure(usersConfig(federation.Strict))
	o := newOrigin(t, answering("ill"))
	r.register(instance("stable", "az1", "v1", o.address))
	r.catalog.ObserveHealth(time.Now(), federation.HealthRecord{
		Subject: federation.Key{Service: "users", ID: "stable"}, Observer: "edge-1", Incarnation: 1, Seq: 1,
		Status: federation.Unhealthy, Received: time.Now(),
	})
	r.follow()
	if got := r.hop("GET", r.from("")); got.verdict != "not-processed;reason=no-endpoint" {
		t.Errorf("without panic: %+v", got)
	}
	if got := r.hop("GET", r.from("", func(h *hop) { h.panicking = true })); got != (hopped{200, "served;instance=stable", "ill"}) {
		t.Errorf("with panic: %+v", got)
	}
}

// TestHopsAllocateLittle: a request that another edge sent costs the reading of
// its word beside what any costs.
func TestHopsAllocateLittle(t *testing.T) {
	g, prepare, x := pipeline(t, func(_ *Config, o *Options) { receiving(o) })
	h := g.PeerHandler()
	decision, _ := g.routing.Load().services["users"].current.Load().Named("")
	told := hop{from: "az2-edge", hops: 1, service: "users", client: "192.0.2.1", selects: decision.Lane.Selects}
	text := string(told.append(nil))
	once := func() {
		prepare(x)
		x.Request.Header.Append(exchange.Field{Name: "x-gray-hop", Value: text, ID: exchange.FieldXGrayHop})
		h.Serve(x)
		if x.Response.Status != 200 {
			t.Fatalf("status %d", x.Response.Status)
		}
		h.Done(x, nil)
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n > 3 {
		t.Errorf("%v allocations per request", n)
	}
}
