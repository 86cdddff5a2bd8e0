package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/failover"
	"github.com/grayfed/grayfed/failover/consul/consultest"
	"github.com/grayfed/grayfed/federation"
)

const testDomain = "example.test"

// failoverSettings are those of an edge with an entry, which answers DNS. Its
// clients reach it at an address of its own.
func failoverSettings(t testing.TB, zone, etcd string) *config.Process {
	t.Helper()
	p := settings(t, zone, etcd)
	p.Failover = config.DefaultFailover()
	f := p.Failover
	f.Heartbeat, f.Misses, f.Hold, f.Steps, f.StepEvery = 100*time.Millisecond, 3, 100*time.Millisecond, []int{100}, 100*time.Millisecond
	f.Addresses, f.Port = []netip.Addr{netip.MustParseAddr("203.0.113." + strings.TrimPrefix(zone, "az"))}, 443
	p.DNS = &config.DNS{Address: "127.0.0.1:0", Domain: testDomain}
	p.Shutdown.DrainTimeout = 5 * time.Second
	return p
}

// meet has edges know each other.
func meet(all ...*config.Process) {
	for _, p := range all {
		for _, other := range all {
			if other != p {
				p.Gossip.Peers = append(p.Gossip.Peers, other.Gossip.Bind)
			}
		}
	}
}

// srv asks an edge's DNS for all edges: the weight of each by its address.
func (r *running) srv() (map[string]int, error) {
	query := new(wire.Msg)
	query.SetQuestion("_http._tcp.gateway."+testDomain+".", wire.TypeSRV)
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
	defer cancel()
	answer, _, err := (&wire.Client{Net: "tcp"}).ExchangeContext(ctx, query, r.edge.failover.server.Address().String())
	if err != nil {
		return nil, err
	}
	if answer.Rcode == wire.RcodeSuccess && len(answer.Answer) == 0 {
		r.t.Fatalf("an empty answer: %s", answer)
	}
	weights, addresses := make(map[string]int), make(map[string]string)
	for _, record := range answer.Extra {
		if a, ok := record.(*wire.A); ok {
			addresses[a.Hdr.Name] = a.A.String()
		}
	}
	for _, record := range answer.Answer {
		if srv, ok := record.(*wire.SRV); ok {
			weights[addresses[srv.Target]] = int(srv.Weight)
		}
	}
	return weights, nil
}

// answers returns a check that DNS answers with these weights.
func (r *running) answers(want map[string]int) func() error {
	return func() error {
		got, err := r.srv()
		if err == nil && !maps.Equal(got, want) {
			status, _ := r.api.Failover(r.t.Context())
			err = fmt.Errorf("answered %v, want %v; it knows %s", got, want, toJSON(status))
		}
		return err
	}
}

// TestFailoverWithoutConsul: edges know of each other's entries by gossip
// alone, with what each asks for, and drop one that is killed or frozen.
func TestFailoverWithoutConsul(t *testing.T) {
	etcd, _ := startEtcd(t)
	p1, p2, p3 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd), failoverSettings(t, "az3", etcd)
	p2.Failover.Weight = 25
	p3.Failover.Role, p3.Failover.Primaries = "standby", []string{"az1", "az2"}
	meet(p1, p2, p3)
	one, two, three := start(t, p1), startChild(t, p2), start(t, p3)
	one.ready()
	two.ready()
	three.ready()
	both := map[string]int{"203.0.113.1": 50, "203.0.113.2": 25}
	eventually(t, "the first is in", isIn(t, one.api))
	eventually(t, "the second is in", isIn(t, two.api))
	eventually(t, "both primaries are answered", one.answers(both))
	eventually(t, "and by the standby", three.answers(both))

	two.signal(syscall.SIGSTOP)
	eventually(t, "the frozen edge is dropped", one.answers(map[string]int{"203.0.113.1": 50}))
	status, err := one.api.Failover(t.Context())
	if err != nil || len(status.Entries) != 3 || status.Entries[1].Probe != "dead" || status.Entries[1].Gossip != "dead" {
		t.Errorf("known of the frozen edge: %s, %v", toJSON(status), err)
	}
	two.signal(syscall.SIGCONT)
	eventually(t, "it is back", one.answers(both))

	two.kill()
	eventually(t, "the killed edge is dropped", one.answers(map[string]int{"203.0.113.1": 50}))
	one.stop()
	// Nobody lives that may be answered: what is known is, and no standby goes
	// in that no Consul leader has told to.
	eventually(t, "no answer is empty", func() error {
		status, err := three.api.Failover(t.Context())
		for n := 0; err == nil && n < 2; n++ {
			if e := status.Entries[n]; e.Gossip == "dead" && e.Probe == "dead" {
				continue
			}
			err = fmt.Errorf("it knows %s", toJSON(status))
		}
		return err
	})
	if got, err := three.srv(); err != nil || len(got) != 2 || got["203.0.113.3"] != 0 {
		t.Errorf("answered %v, %v", got, err)
	}
	if status, err := three.api.Failover(t.Context()); err != nil || status.Decision.In {
		t.Errorf("the standby is in: %s, %v", toJSON(status), err)
	}
}

// TestWeightFollowsCapacity: what an edge's zone has lost is told by its
// weight.
func TestWeightFollowsCapacity(t *testing.T) {
	etcd, _ := startEtcd(t)
	p1, p2 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd)
	p1.Failover.Addresses[0] = netip.MustParseAddr("2001:db8::1")
	p1.Failover.Addresses = append(p1.Failover.Addresses, netip.MustParseAddr("203.0.113.1"))
	meet(p1, p2)
	one, two := start(t, p1), start(t, p2)
	one.ready()
	two.ready()
	one.instance("a", "v1")
	one.instance("b", "v1")
	eventually(t, "the capacity is seen", func() error {
		if p := one.edge.failover.picture(); !p.decision.In || p.healthy != 200*100 {
			return fmt.Errorf("in %t with %d of %d", p.decision.In, p.healthy, p.capacity)
		}
		return nil
	})
	eventually(t, "both are in", two.answers(map[string]int{"203.0.113.1": 50, "203.0.113.2": 50}))
	if err := one.api.Deregister(t.Context(), federation.Key{Service: "users", ID: "b"}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	place := one.place()
	// Half of the capacity, 1.4 times over.
	eventually(t, "less capacity, less weight", two.answers(map[string]int{"203.0.113.1": 35, "203.0.113.2": 50}))
	if err := one.api.Deregister(t.Context(), federation.Key{Service: "users", ID: "a"}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no capacity, no clients", two.answers(map[string]int{"203.0.113.2": 50}))
	one.instance("c", "v1")
	eventually(t, "it is back", two.answers(map[string]int{"203.0.113.1": 35, "203.0.113.2": 50}))
	one.told(place, "the edge went out", func(e api.Event) bool {
		return e.Type == api.EventFailover && e.Edge == "az1-edge" && e.Status == "out"
	})
	one.told(place, "the edge went in", func(e api.Event) bool {
		return e.Type == api.EventFailover && e.Status == "in" && strings.Contains(e.Detail, "weight 35")
	})
}

// place is where the edge's events are now.
func (r *running) place() string {
	r.t.Helper()
	for missed, err := range r.api.Events(r.t.Context(), "no-1") { // of no run
		if err != nil {
			r.t.Fatal(err)
		}
		return missed.ID
	}
	return ""
}

// told waits for an event that came after a place.
func (r *running) told(place, what string, is func(api.Event) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for event, err := range r.api.Events(ctx, place) {
		if err != nil {
			break
		}
		if is(event) {
			return
		}
	}
	r.t.Errorf("not told: %s", what)
}

// isIn returns a check that an edge is in by its own decision; until it is, it
// may be answered for want of a better one.
func isIn(t testing.TB, edge *api.Client) func() error {
	return func() error {
		status, err := edge.Failover(t.Context())
		if err == nil && (status.Decision == nil || !status.Decision.In) {
			err = fmt.Errorf("it says %s", toJSON(status.Decision))
		}
		return err
	}
}

// withConsul has edges publish their entries there.
func withConsul(c *consultest.Cluster, all ...*config.Process) {
	for _, p := range all {
		p.Consul = &config.Consul{Address: c.Address(0), Service: "grayfed-gateway"}
	}
}

// inConsul reports an entry's weight in Consul when all its checks pass, else
// 0.
func inConsul(t testing.TB, c *consultest.Cluster, edge string) (weight int, registered bool) {
	t.Helper()
	entries, _, err := c.Client(0).Health().Service("grayfed-gateway", "", false, nil)
	if err != nil {
		return 0, false
	}
	for _, entry := range entries {
		if entry.Service.Meta["edge"] == edge {
			registered = true
			if entry.Checks.AggregatedStatus() == "passing" {
				weight = entry.Service.Weights.Passing
			}
		}
	}
	return weight, registered
}

func isInConsul(t testing.TB, c *consultest.Cluster, edge string, want int) func() error {
	return func() error {
		if got, registered := inConsul(t, c, edge); got != want || !registered {
			return fmt.Errorf("weight of %s in Consul is %d, registered %t, want %d", edge, got, registered, want)
		}
		return nil
	}
}

// TestFailoverByConsul: entries are in Consul, outlive a restart of the agent,
// and the standby goes in when both primaries are gone, and out again when they
// are back.
func TestFailoverByConsul(t *testing.T) {
	cluster := consultest.Start(t, 1, consultest.Options{})
	etcd, _ := startEtcd(t)
	p1, p2, p3 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd), failoverSettings(t, "az3", etcd)
	p2.Failover.Weight = 25
	p3.Failover.Role, p3.Failover.Primaries = "standby", []string{"az1", "az2"}
	meet(p1, p2, p3)
	withConsul(cluster, p1, p2, p3)
	one, two, three := startChild(t, p1), startChild(t, p2), start(t, p3)
	one.ready()
	two.ready()
	three.ready()
	both := map[string]int{"203.0.113.1": 50, "203.0.113.2": 25}
	eventually(t, "the first is in Consul", isInConsul(t, cluster, "az1-edge", 50))
	eventually(t, "the second too", isInConsul(t, cluster, "az2-edge", 25))
	eventually(t, "the standby is out there", isInConsul(t, cluster, "az3-edge", 0))
	eventually(t, "DNS answers", three.answers(both))

	cluster.Kill(0)
	eventually(t, "no leader", func() error {
		status, err := three.api.Failover(t.Context())
		if err == nil && (status.Consul.Leader || !status.Consul.Configured || status.Consul.Error == "") {
			err = fmt.Errorf("it says %s", toJSON(status.Consul))
		}
		return err
	})
	if err := three.answers(both)(); err != nil {
		t.Errorf("Consul is gone: %v", err)
	}
	cluster.Restart(0)
	eventually(t, "registered again", isInConsul(t, cluster, "az1-edge", 50))
	eventually(t, "the leader is back", func() error {
		status, err := three.api.Failover(t.Context())
		if err == nil && (!status.Consul.Leader || status.Entries[0].Consul != "alive" || status.Entries[1].Consul != "alive") {
			err = fmt.Errorf("it says %s", toJSON(status))
		}
		return err
	})

	two.kill()
	eventually(t, "one primary is enough", three.answers(map[string]int{"203.0.113.1": 50}))
	if status, err := three.api.Failover(t.Context()); err != nil || status.Decision.In {
		t.Errorf("the standby is in beside a primary: %s, %v", toJSON(status), err)
	}
	one.kill()
	eventually(t, "the standby stands in", three.answers(map[string]int{"203.0.113.3": 50}))
	eventually(t, "in Consul too", isInConsul(t, cluster, "az3-edge", 50))
	status, err := three.api.Failover(t.Context())
	if err != nil || !status.Decision.In || status.Decision.Since.IsZero() || status.Role != "standby" || status.Entries[2].SharePercent != 100 {
		t.Errorf("it says %s, %v", toJSON(status), err)
	}
	again := startChild(t, p1)
	again.ready()
	eventually(t, "the primary is back, the standby out", three.answers(map[string]int{"203.0.113.1": 50}))
	eventually(t, "in Consul too", isInConsul(t, cluster, "az3-edge", 0))
}

// TestDrainGoesOutFirst: an edge that stops is out of Consul and of the other
// edges' answers, and still serves, before it drains; then it takes its entry
// away.
func TestDrainGoesOutFirst(t *testing.T) {
	cluster := consultest.Start(t, 1, consultest.Options{})
	etcd, _ := startEtcd(t)
	p1, p2 := failoverSettings(t, "az1", etcd), failoverSettings(t, "az2", etcd)
	meet(p1, p2)
	withConsul(cluster, p1, p2)
	p1.Shutdown.DrainTimeout = patience
	p1.DNS.TTL = 3 * time.Second // for so long clients come yet
	one, two := start(t, p1), start(t, p2)
	one.ready()
	two.ready()
	arrived, held := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/users/slow" {
			close(arrived)
			<-held
		}
		_, _ = io.WriteString(w, "whole")
	}))
	t.Cleanup(server.Close)
	t.Cleanup(release)
	ttl := federation.Duration(0)
	if _, err := one.api.Register(t.Context(), federation.Key{Service: "users", ID: "slow"}, api.Registration{
		Zone: "az1", Address: strings.TrimPrefix(server.URL, "http://"), Version: "v1", TTL: &ttl,
	}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "served", one.wants("/users/1", "", "whole"))
	eventually(t, "the second is in", isIn(t, two.api))
	eventually(t, "both are in", two.answers(map[string]int{"203.0.113.1": 50, "203.0.113.2": 50}))
	eventually(t, "in Consul too", isInConsul(t, cluster, "az1-edge", 50))
	answered := make(chan string, 1)
	go func() {
		status, body, _ := one.get("/users/slow", "")
		answered <- fmt.Sprint(status, " ", body)
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() {
		one.stop()
		close(stopped)
	}()
	select {
	case <-one.edge.failover.left:
	case <-time.After(patience):
		t.Fatal("it does not know that it is out")
	}
	if weight, registered := inConsul(t, cluster, "az1-edge"); weight != 0 || !registered {
		t.Errorf("it believes to be out, and Consul has it with weight %d, registered %t", weight, registered)
	}
	if status, body, _ := one.get("/users/1", ""); status != http.StatusOK {
		t.Errorf("who was sent there just before gets %d %s", status, body)
	}
	eventually(t, "out of the other's answers", two.answers(map[string]int{"203.0.113.2": 50}))
	select {
	case <-stopped:
		t.Error("stopped with a request under way")
	default:
	}
	release()
	if got := <-answered; got != "200 whole" {
		t.Errorf("the request under way got %s", got)
	}
	<-stopped
	eventually(t, "its entry is taken away", func() error {
		if _, registered := inConsul(t, cluster, "az1-edge"); registered {
			return errors.New("still registered")
		}
		return nil
	})
}

// TestConsulHoldsNothingUp: an agent that does not answer keeps no edge from
// being ready, in DNS or stopped.
func TestConsulHoldsNothingUp(t *testing.T) {
	etcd, _ := startEtcd(t)
	p := failoverSettings(t, "az1", etcd)
	p.Consul = &config.Consul{Address: "http://127.0.0.1:1", Service: "grayfed-gateway"}
	e := start(t, p)
	e.ready()
	eventually(t, "in DNS", e.answers(map[string]int{"203.0.113.1": 50}))
	eventually(t, "it says so", func() error {
		status, err := e.api.Failover(t.Context())
		if err == nil && (status.Consul.Error == "" || status.Consul.Registered || status.Consul.ConfirmedMS != -1) {
			err = fmt.Errorf("it says %s", toJSON(status.Consul))
		}
		return err
	})
	e.stop()
}

// TestEdgesThatAreOutCountAlike: where nobody is in, every edge answers with all
// primaries, each with its full weight, its own too, which is to climb from a
// tenth.
func TestEdgesThatAreOutCountAlike(t *testing.T) {
	p := failoverSettings(t, "az1", "http://127.0.0.1:1")
	e, err := New(t.Context(), Options{Process: p, Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	other := sightedEdge("az2-edge", 0)
	e.peers.hear(other)
	e.failover.observe()
	for _, c := range []struct {
		decision failover.Decision
		want     map[string]int
	}{
		{failover.Decision{Weight: 5}, map[string]int{"az1-edge": 50, "az2-edge": 50}},
		{failover.Decision{In: true, Weight: 5}, map[string]int{"az1-edge": 5}},
	} {
		e.failover.answer(picture{decision: c.decision})
		got := make(map[string]int)
		for _, share := range e.failover.picture().shares {
			got[share.Edge] = share.Weight
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%+v: answered %v, want %v", c.decision, got, c.want)
		}
	}
	if err := e.opened.run(); err != nil {
		t.Error(err)
	}
}

// TestWhereConsulChecks: what the settings say, else the health listener, else
// the admin listener.
func TestWhereConsulChecks(t *testing.T) {
	for _, c := range []struct{ health, url, want string }{
		{"", "", "http://127.0.0.1:ADMIN/v1/failover/check"},
		{"127.0.0.3:0", "", "http://127.0.0.3:HEALTH/v1/failover/check"},
		{"0.0.0.0:0", "", "http://127.0.0.1:HEALTH/v1/failover/check"},
		{"127.0.0.3:0", "https://10.0.0.1:9081/v1/failover/check", "https://10.0.0.1:9081/v1/failover/check"},
	} {
		p := failoverSettings(t, "az1", "http://127.0.0.1:1")
		p.Consul = &config.Consul{Address: "http://127.0.0.1:1", Service: "grayfed-gateway", CheckURL: c.url}
		p.Admin.HealthAddress = c.health
		e, err := New(t.Context(), Options{Process: p, Output: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		port := func(a net.Addr) string { return strconv.Itoa(a.(*net.TCPAddr).Port) }
		want := strings.Replace(c.want, "ADMIN", port(e.admin.Address()), 1)
		if health := e.admin.HealthAddress(); health != nil {
			want = strings.Replace(want, "HEALTH", port(health), 1)
		}
		if got := e.failover.checkURL(); got != want {
			t.Errorf("health listener %q, check_url %q: %s, want %s", c.health, c.url, got, want)
		}
		if err := e.opened.run(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoFailover: without the section there is no entry, and the API says so.
func TestNoFailover(t *testing.T) {
	etcd, _ := startEtcd(t)
	e := start(t, settings(t, "az1", etcd))
	e.ready()
	status, err := e.api.Failover(t.Context())
	if err != nil || status.Role != "" || status.Decision != nil || status.Consul.Configured || status.Entries == nil || len(status.Entries) != 0 {
		t.Errorf("%s, %v", toJSON(status), err)
	}
}
