package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func TestAddressesBecomeInstances(t *testing.T) {
	for _, tls := range []bool{false, true} {
		r := newRig(t)
		u := Upstream{Host: "api.example", Port: 8443, TLS: tls}
		wait := r.resolve(u, zone{records: map[string][]record{"api.example.": {
			{"A", "10.0.0.9", 30}, {"A", "10.0.0.7", 40}, {"A", "10.0.0.7", 40}, {"AAAA", "2001:db8::7", 20},
		}}})
		within(t, wait, 20*time.Second, 20*time.Second)
		r.want("api.example:8443", "10.0.0.7:8443", "10.0.0.9:8443", "[2001:db8::7]:8443")
		e := r.catalog.Snapshot().Endpoint(federation.Key{Service: "api.example:8443", ID: "10.0.0.7:8443"})
		protocol := federation.HTTP1
		if tls {
			protocol = federation.HTTPS
		}
		if e == nil || e.Protocol != protocol || e.Weight != 100 || e.Zone != "az1" || e.Region != "east" || e.Owner != "edge-1" || !e.Usable() {
			t.Errorf("TLS %t: endpoint %+v", tls, e)
		}
		if got, want := r.server.take(), []string{"udp A api.example.", "udp AAAA api.example."}; !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
}

func TestNameIsAskedAgainAtItsTTL(t *testing.T) {
	r := newRig(t)
	within(t, r.resolve(api, one("10.0.0.7", 7)), 7*time.Second, 7*time.Second)
	r.want("api.example:8080", "10.0.0.7:8080")

	writes := r.count()
	r.lookAgain()
	if r.count() != writes {
		t.Error("the same answer was written again")
	}
	r.server.set(one("10.0.0.8", 9))
	within(t, r.lookAgain(), 9*time.Second, 9*time.Second)
	r.want("api.example:8080", "10.0.0.8:8080")
}

func TestTTLIsBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MinTTL, o.MaxTTL = 2*time.Second, 100*time.Second })
	within(t, r.resolve(api, one("10.0.0.7", 0)), 2*time.Second, 2*time.Second)
	for ttl, want := range map[uint32]time.Duration{
		1: 2 * time.Second, 3: 3 * time.Second, 100: 100 * time.Second, 86400: 100 * time.Second,
		1 << 31: 2 * time.Second, // RFC 2181: counts as 0
	} {
		r.server.set(one("10.0.0.7", ttl))
		if got := r.lookAgain(); got != want {
			t.Errorf("TTL %d: waits %s, want %s", ttl, got, want)
		}
	}
}

func TestFailuresKeepTheLastAnswer(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Retry = 3 * time.Second })
	r.resolve(api, one("10.0.0.7", 60))
	for failure, z := range []zone{{broken: []string{"api.example."}}, {refer: true, records: map[string][]record{"api.example.": nil}},
		{broken: []string{"A", "AAAA"}}, {broken: []string{"A"}}} {
		r.server.set(z)
		wait := min(time.Second<<failure, 3*time.Second)
		within(t, r.lookAgain(), wait/2, wait)
		r.want("api.example:8080", "10.0.0.7:8080")
	}
	r.server.set(one("10.0.0.8", 60))
	within(t, r.lookAgain(), time.Minute, time.Minute)
	r.want("api.example:8080", "10.0.0.8:8080")
	r.server.set(zone{broken: []string{"api.example."}})
	within(t, r.lookAgain(), time.Second/2, time.Second)
	r.wantMetrics(2, 0, 5, 0)
}

func TestOneFamilyFailingKeepsItsAddresses(t *testing.T) {
	r := newRig(t)
	both := zone{records: map[string][]record{"api.example.": {{"A", "10.0.0.7", 30}, {"AAAA", "2001:db8::7", 20}}}}
	r.resolve(api, both)
	both.broken = []string{"AAAA"}
	r.server.set(both)
	within(t, r.lookAgain(), 30*time.Second, 30*time.Second)
	r.want("api.example:8080", "10.0.0.7:8080", "[2001:db8::7]:8080")
	// Its twin: an answer that there is none drops them at once.
	r.server.set(one("10.0.0.7", 30))
	r.lookAgain()
	r.want("api.example:8080", "10.0.0.7:8080")
}

func TestAbsenceMustBeConfirmed(t *testing.T) {
	missing := map[string]zone{
		"no such name":   {soaTTL: 42},
		"no such record": {soaTTL: 42, records: map[string][]record{"api.example.": {}}},
	}
	for name, z := range missing {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.resolve(api, one("10.0.0.7", 60))
			r.server.set(z)
			for range 2 {
				within(t, r.lookAgain(), 42*time.Second, 42*time.Second)
				r.want("api.example:8080", "10.0.0.7:8080")
			}
			r.server.set(one("10.0.0.7", 60)) // it is back: counting begins anew
			r.lookAgain()
			r.server.set(z)
			for range 2 {
				r.lookAgain()
				r.want("api.example:8080", "10.0.0.7:8080")
			}
			r.server.set(zone{broken: []string{"A", "AAAA"}}) // no answer says nothing
			r.lookAgain()
			r.want("api.example:8080", "10.0.0.7:8080")
			r.server.set(z)
			r.lookAgain()
			r.want("api.example:8080")
			r.server.set(one("10.0.0.8", 60))
			r.lookAgain()
			r.want("api.example:8080", "10.0.0.8:8080")
			r.wantMetrics(3, 5, 1, 0)
		})
	}
}

func TestAbsenceWithoutATTLBacksOff(t *testing.T) {
	r := newRig(t)
	within(t, r.resolve(api, zone{}), time.Second/2, time.Second)
	within(t, r.lookAgain(), time.Second, 2*time.Second)
	within(t, r.lookAgain(), 2*time.Second, 4*time.Second)
	r.want("api.example:8080")
}

func TestAliases(t *testing.T) {
	chain := map[string][]record{
		"api.example.":       {{"CNAME", "Front.Example.", 50}},
		"Front.Example.":     {{"CNAME", "pool.cdn.example.", 5}},
		"pool.cdn.example.":  {{"A", "10.0.0.7", 60}},
		"other.cdn.example.": {{"A", "10.6.6.6", 60}},
	}
	for _, partial := range []bool{false, true} {
		r := newRig(t)
		if partial { // names are asked as they are found, in lower case
			chain["front.example."] = chain["Front.Example."]
		}
		within(t, r.resolve(api, zone{records: chain, partial: partial}), 5*time.Second, 5*time.Second)
		r.want("api.example:8080", "10.0.0.7:8080")
		if asked := r.server.take(); slices.Contains(asked, "udp A pool.cdn.example.") != partial {
			t.Errorf("partial %t: asked %q", partial, asked)
		}

		r.server.set(zone{partial: partial, records: map[string][]record{
			"api.example.": {{"CNAME", "b.example.", 5}}, "b.example.": {{"CNAME", "api.example.", 5}},
		}})
		within(t, r.lookAgain(), time.Second/2, time.Second)
		r.wantMetrics(1, 0, 1, 0) // a circle is a failure, no absence
		r.want("api.example:8080", "10.0.0.7:8080")
	}
}

// An address of a name that was not asked for is nobody's.
func TestStrayRecordsDoNotCount(t *testing.T) {
	r := newRig(t)
	r.resolve(api, zone{strangers: true, records: map[string][]record{"api.example.": {{"A", "10.0.0.7", 60}}}})
	r.want("api.example:8080", "10.0.0.7:8080")
}

func TestTruncatedAnswerIsFetchedByTCP(t *testing.T) {
	r := newRig(t)
	z := one("10.0.0.7", 60)
	for n := range 200 {
		z.records["api.example."] = append(z.records["api.example."], record{"A", fmt.Sprintf("10.1.0.%d", n), 60})
	}
	z.truncate = true
	r.server.set(z)
	r.resolve(api, z)
	if got := len(r.catalog.Snapshot().Service("api.example:8080").Endpoints); got != 201 {
		t.Errorf("%d instances, want 201", got)
	}
	want := []string{"tcp A api.example.", "tcp AAAA api.example.", "udp A api.example.", "udp AAAA api.example."}
	if got := r.server.take(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestNextServerIsAsked(t *testing.T) {
	broken := startServer(t)
	broken.set(zone{broken: []string{"api.example."}})
	closed := netip.MustParseAddrPort("127.0.0.1:1") // refuses at once
	r := newRig(t, func(o *Options) { o.Servers = slices.Insert(o.Servers, 0, closed, broken.addr) })
	r.resolve(api, one("10.0.0.7", 60))
	r.want("api.example:8080", "10.0.0.7:8080")
	if len(broken.take()) != 2 {
		t.Error("the server before was not asked")
	}
}

func TestHostsFileComesFirst(t *testing.T) {
	r := newRig(t)
	r.file("hosts", "127.0.0.1 localhost\n10.5.0.1 other API.example. # comment\n10.5.0.2\tapi.example\n2001:db8::5 api.example\n10.5.0.3 api\n# 10.5.0.4 api.example\n")
	within(t, r.resolve(api, one("10.0.0.7", 60)), 5*time.Second, 5*time.Second)
	r.want("api.example:8080", "10.5.0.1:8080", "10.5.0.2:8080", "[2001:db8::5]:8080")
	if asked := r.server.take(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
	r.file("hosts", "127.0.0.1 localhost\n")
	r.lookAgain()
	r.want("api.example:8080", "10.0.0.7:8080")
}

func TestSearchList(t *testing.T) {
	r := newRig(t)
	r.file("resolv.conf", "search prod.example example\noptions ndots:2\n")
	records := map[string][]record{"api.example.": {{"A", "10.0.0.7", 60}}}
	r.resolve(Upstream{Host: "api", Port: 80}, zone{records: records})
	r.want("api:80", "10.0.0.7:80")
	want := []string{"udp A api.example.", "udp A api.prod.example.", "udp AAAA api.example.", "udp AAAA api.prod.example."}
	if got := r.server.take(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	// A candidate that cannot be asked might be the one: none behind it counts.
	records["api.example."] = []record{{"A", "10.6.6.6", 60}}
	r.server.set(zone{records: records, broken: []string{"api.prod.example."}})
	r.lookAgain()
	r.want("api:80", "10.0.0.7:80")
}

func TestAddressPolicyHoldsForAnswers(t *testing.T) {
	r := newRig(t)
	z := one("10.0.0.7", 60)
	z.records["api.example."] = append(z.records["api.example."], record{"A", "169.254.169.254", 60}, record{"AAAA", "fe80::1", 60}, record{"AAAA", "::ffff:169.254.169.254", 60})
	r.resolve(api, z)
	r.want("api.example:8080", "10.0.0.7:8080")
	r.wantMetrics(1, 0, 0, 3)
	// A name that leads to nothing else does not take away what there was.
	r.server.set(one("169.254.169.254", 60))
	within(t, r.lookAgain(), time.Second/2, time.Second)
	r.want("api.example:8080", "10.0.0.7:8080")
	r.wantMetrics(1, 0, 1, 4)
}

func TestIPv6WithoutARouteIsLeftOut(t *testing.T) {
	r := newRig(t)
	r.routable = func(addr netip.Addr) bool { return addr.Is4() }
	z := zone{records: map[string][]record{"api.example.": {{"A", "10.0.0.7", 30}, {"AAAA", "2001:db8::7", 20}}}}
	r.resolve(api, z)
	r.want("api.example:8080", "10.0.0.7:8080")
	// Where there is nothing else, it is used: better than no instance.
	r.server.set(zone{records: map[string][]record{"api.example.": {{"AAAA", "2001:db8::7", 20}}}})
	r.lookAgain()
	r.want("api.example:8080", "[2001:db8::7]:8080")
}

func TestAddressesNeedNoDNS(t *testing.T) {
	r := newRig(t) // and no Run
	r.SetUpstreams([]Upstream{
		{Host: "10.0.0.7", Port: 80}, {Host: "2001:db8::7", Port: 443, TLS: true},
		{Host: "169.254.169.254", Port: 80}, {Host: "10.9.9.9", Port: 9081},
	})
	r.want("10.0.0.7:80", "10.0.0.7:80")
	r.want("[2001:db8::7]:443", "[2001:db8::7]:443")
	r.want("169.254.169.254:80")
	r.want("10.9.9.9:9081") // the edge's own admin address
	r.wantMetrics(0, 0, 0, 2)

	writes := r.count()
	r.SetUpstreams([]Upstream{{Host: "10.0.0.7", Port: 80, TLS: true}, {Host: "2001:db8::7", Port: 443, TLS: true}})
	r.want("[2001:db8::7]:443", "[2001:db8::7]:443")
	if e := r.catalog.Snapshot().Service("10.0.0.7:80").Endpoints[0]; e.Protocol != federation.HTTPS {
		t.Errorf("protocol %s, want https", e.Protocol)
	}
	if got := r.count() - writes; got != 3 { // one changed, two removed
		t.Errorf("%d writes, want 3", got)
	}
	r.SetUpstreams(nil)
	r.want("10.0.0.7:80")
	if asked := r.server.take(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestUpstreamsComeAndGo(t *testing.T) {
	r := newRig(t)
	z := zone{records: map[string][]record{"api.example.": {{"A", "10.0.0.7", 60}}, "shop.example.": {{"A", "10.0.0.8", 60}}}}
	r.resolve(api, z)
	r.want("api.example:8080", "10.0.0.7:8080")

	shop := Upstream{Host: "shop.example", Port: 80}
	r.SetUpstreams([]Upstream{api, shop})
	r.looked() // shop's alone: api goes on waiting
	r.want("api.example:8080", "10.0.0.7:8080")
	r.want("shop.example:80", "10.0.0.8:80")
	if got, want := r.server.take(), 4; len(got) != want {
		t.Errorf("asked %q, want %d questions", got, want)
	}

	secure := api
	secure.TLS = true
	r.SetUpstreams([]Upstream{secure})
	r.looked()
	if e := r.catalog.Snapshot().Service("api.example:8080").Endpoints[0]; e.Protocol != federation.HTTPS {
		t.Errorf("protocol %s, want https", e.Protocol)
	}
	r.want("shop.example:80")
}

func TestRunEndsDuringALookup(t *testing.T) {
	silent := startSilentServer(t)
	r := newRig(t, func(o *Options) { o.Servers = []netip.AddrPort{silent.addr} })
	r.SetUpstreams([]Upstream{api})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	<-silent.asked
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.want("api.example:8080")
	r.wantMetrics(0, 0, 0, 0) // an end is no failure
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Sink: federation.NewCatalog(federation.CatalogOptions{}), Policy: federation.NewAddressPolicy(nil, nil)}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"sink":          func(o *Options) { o.Sink = nil },
		"policy":        func(o *Options) { o.Policy = nil },
		"TTL":           func(o *Options) { o.MinTTL = time.Millisecond },
		"upper bound":   func(o *Options) { o.MaxTTL = time.Second; o.MinTTL = time.Minute },
		"retry":         func(o *Options) { o.Retry = time.Millisecond },
		"confirmations": func(o *Options) { o.Confirmations = -1 },
		"concurrency":   func(o *Options) { o.Concurrency = -1 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
}
