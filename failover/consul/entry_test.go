package consul

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/failover"
)

// found is what Consul holds of an edge that published as these tests do.
func found(edge string, weight int, state string) held {
	o := Options{Service: defaultService, Edge: edge, Entry: entryOf(edge, failover.Primary), CheckURL: "http://127.0.0.1/"}
	f := told(o.registration(false, weight))
	f.Checks = []check{
		{CheckID: "serfHealth", Status: api.HealthPassing},
		{CheckID: f.Checks[0].CheckID, ServiceID: f.Service.ID, Status: state},
		{CheckID: f.Checks[1].CheckID, ServiceID: f.Service.ID, Status: api.HealthPassing},
	}
	return f
}

// told is what Consul tells of a registration.
func told(r *api.AgentServiceRegistration) held {
	var f held
	f.Node.Node = "n1"
	s := &f.Service
	s.ID, s.Meta, s.Tags, s.Address, s.Port, s.Weights = r.ID, r.Meta, r.Tags, r.Address, r.Port, *r.Weights
	for _, c := range r.Checks {
		f.Checks = append(f.Checks, check{CheckID: c.CheckID, ServiceID: r.ID, Status: c.Status})
	}
	return f
}

func TestDecode(t *testing.T) {
	t.Parallel()
	want := entryOf("a", failover.Primary)
	want.Weight = 7
	entries, refused := decode(defaultService, []held{found("b", 9, api.HealthCritical), found("a", 7, api.HealthPassing)})
	if len(refused) != 0 || len(entries) != 2 || entries[1].Edge != "b" || entries[1].Passing ||
		!reflect.DeepEqual(entries[0], Reported{Entry: want, Passing: true}) {
		t.Errorf("read %+v, refused %v", entries, refused)
	}
}

func TestPassing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*held)
		want bool
	}{
		"all pass":                  {func(*held) {}, true},
		"the node warns":            {func(f *held) { f.Checks[0].Status = api.HealthWarning }, true},
		"the node is dead":          {func(f *held) { f.Checks[0].Status = api.HealthCritical }, false},
		"the edge does not answer":  {func(f *held) { f.Checks[2].Status = api.HealthCritical }, false},
		"under maintenance":         {func(f *held) { f.Checks[0].Status = api.HealthMaint }, false},
		"a state that nobody knows": {func(f *held) { f.Checks[0].Status = "fine" }, false},
		"a check that is none":      {func(f *held) { f.Checks[0] = check{} }, false},
		"without checks":            {func(f *held) { f.Checks = nil }, false},
		"without the edge's own":    {func(f *held) { f.Checks = slices.Delete(f.Checks, 1, 2) }, false},
		"the own is of another":     {func(f *held) { f.Checks[1].ServiceID = "x" }, false},
		"the own warns":             {func(f *held) { f.Checks[1].Status = api.HealthWarning }, false},
		"the own passes and is not": {func(f *held) {
			f.Checks[0] = check{f.Checks[1].CheckID, f.Checks[1].ServiceID, api.HealthCritical}
		}, false},
		"the own is not, and passes": {func(f *held) {
			f.Checks[2] = check{f.Checks[1].CheckID, f.Checks[1].ServiceID, api.HealthCritical}
		}, false},
	} {
		f := found("a", 7, api.HealthPassing)
		c.edit(&f)
		entries, refused := decode(defaultService, []held{f})
		if len(entries) != 1 || len(refused) != 0 || entries[0].Passing != c.want {
			t.Errorf("%s: read %+v, refused %v; want passing %v", name, entries, refused, c.want)
		}
	}
}

// What is no edge's entry is left out, the rest stays.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(*held){
		"edge nothing is not a name":  func(f *held) { delete(f.Service.Meta, metaEdge) },
		`edge "a b" is not a name`:    func(f *held) { f.Service.Meta[metaEdge] = "a b" },
		"zone nothing is not a name":  func(f *held) { f.Service.Meta[metaZone] = "" },
		`role "king"`:                 func(f *held) { f.Service.Meta[metaRole] = "king" },
		`role "unknown"`:              func(f *held) { f.Service.Meta[metaRole] = "unknown" },
		"address nothing is none":     func(f *held) { f.Service.Meta[metaAddresses] = "" },
		`address "example.com"`:       func(f *held) { f.Service.Meta[metaAddresses] = "example.com" },
		"address 0.0.0.0 cannot":      func(f *held) { f.Service.Meta[metaAddresses] = "::ffff:0.0.0.0" },
		"address ff02::1 cannot":      func(f *held) { f.Service.Meta[metaAddresses] = "192.0.2.1,ff02::1" },
		"address fe80::1%eth0 cannot": func(f *held) { f.Service.Meta[metaAddresses] = "fe80::1%eth0" },
		"address 192.0.2.1 is there":  func(f *held) { f.Service.Meta[metaAddresses] = "192.0.2.1,::ffff:192.0.2.1" },
		"there are 9 addresses": func(f *held) {
			f.Service.Meta[metaAddresses] = "::1,::2,::3,::4,::5,::6,::7,::8,::9"
		},
		"addresses take 1024 bytes": func(f *held) { f.Service.Meta[metaAddresses] = strings.Repeat("1", 1024) },
		"weight is 0":               func(f *held) { f.Service.Weights.Passing = 0 },
		"weight is -1":              func(f *held) { f.Service.Weights.Passing = -1 },
		"weight is 1001":            func(f *held) { f.Service.Weights.Passing = failover.MaxWeight + 1 },
		"port is 0":                 func(f *held) { f.Service.Port = 0 },
		"port is 65536":             func(f *held) { f.Service.Port = 65536 },
		"port is -1":                func(f *held) { f.Service.Port = -1 },
		"edge bad is not the one of service": func(f *held) {
			f.Service.ID = defaultService + "-good" // whose entry it would be
		},
	} {
		bad := found("bad", 5, api.HealthPassing)
		edit(&bad)
		entries, refused := decode(defaultService, []held{{}, bad, found("good", 5, api.HealthPassing)})
		if len(entries) != 1 || entries[0].Edge != "good" || !entries[0].Passing {
			t.Errorf("%s: read %+v", want, entries)
		}
		if len(refused) != 2 || !strings.Contains(refused[1].err.Error(), want) {
			t.Errorf("refused %v, want one that says %q", refused, want)
		}
	}
}

// An edge that moved to another agent is left behind at the old one.
func TestDecodeOfAnEdgeAtTwoNodes(t *testing.T) {
	t.Parallel()
	at := func(node string, created uint64, weight int, state string) held {
		f := found("a", weight, state)
		f.Node.Node, f.Service.CreateIndex = node, created
		return f
	}
	for name, c := range map[string]struct {
		one, other held // the one counts
	}{
		"one passes": {at("n1", 1, 7, api.HealthPassing), at("n2", 2, 9, api.HealthCritical)},
		"both pass":  {at("n1", 2, 7, api.HealthPassing), at("n2", 1, 9, api.HealthPassing)},
		"none does":  {at("n1", 2, 7, api.HealthCritical), at("n2", 1, 9, api.HealthCritical)},
		"same age":   {at("n2", 1, 7, api.HealthPassing), at("n1", 1, 9, api.HealthPassing)},
	} {
		for _, order := range [][]held{{c.one, c.other}, {c.other, c.one}} {
			entries, refused := decode(defaultService, order)
			if len(entries) != 1 || entries[0].Weight != 7 || len(refused) != 1 || refused[0].where != where(&c.other) {
				t.Errorf("%s: read %+v, refused %v", name, entries, refused)
			}
		}
	}
}

func TestDecodeIsBounded(t *testing.T) {
	t.Parallel()
	var all []held
	for i := range maxEntries + 5 {
		all = append(all, found(fmt.Sprintf("e%04d", i), 1, api.HealthPassing))
	}
	entries, refused := decode(defaultService, all)
	if len(entries) != maxEntries || len(refused) != 1 {
		t.Errorf("read %d, refused %v", len(entries), refused)
	}
}

// What is not believed is said once, in one line, and again when it changed.
func TestComplaintsAreMadeOnce(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	w := watcher{publisher: &Publisher{opts: Options{Log: slog.New(slog.NewTextHandler(&lines, nil))}}}
	take := func(weights ...int) (counted uint64, logged int) {
		var all []held
		for i, weight := range weights {
			all = append(all, found(fmt.Sprintf("e%d", i), weight, api.HealthPassing))
		}
		before := w.publisher.counters.refused.Load()
		lines.Reset()
		_, refused := decode(defaultService, all)
		w.complain(refused)
		return w.publisher.counters.refused.Load() - before, strings.Count(lines.String(), "\n")
	}
	for i, c := range []struct {
		weights []int
		counted uint64
		logged  int
	}{
		{[]int{0, 0, 1}, 2, 1},
		{[]int{0, 0, 1}, 0, 0},
		{[]int{0, 1, 1}, 0, 0},
		{[]int{-1, 1, 1}, 1, 1},
		{[]int{1, 1, 1}, 0, 0},
		{[]int{-1, 1, 1}, 1, 1},
	} {
		if counted, logged := take(c.weights...); counted != c.counted || logged != c.logged {
			t.Errorf("answer %d: %d counted in %d lines, want %d in %d", i, counted, logged, c.counted, c.logged)
		}
	}
}

// FuzzDecode reads what anybody may have written to Consul.
func FuzzDecode(f *testing.F) {
	seed := func(entries ...held) {
		text, err := json.Marshal(entries)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	seed()
	seed(held{}, found("a", 7, api.HealthPassing))
	seed(found("a", 7, api.HealthPassing), found("a", 8, api.HealthCritical), found("b", 0, "strange"))
	f.Add([]byte(`[{"Service":{"ID":"grayfed-gateway-a","Port":1e3,"Weights":{"Passing":1},"Meta":{"edge":"a","zone":"z","role":"standby","addresses":"::1"}},"Checks":[null,{}]}]`))
	f.Add([]byte(`[null,{"Node":null,"Service":null,"Checks":[{"Definition":null}]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []held
		if json.Unmarshal(text, &all) != nil {
			return
		}
		entries, refused := decode(defaultService, all)
		if len(entries)+len(refused) > len(all)+1 || len(all) <= maxEntries && len(entries)+len(refused) != len(all) {
			t.Fatalf("of %d, %d were read and %d refused", len(all), len(entries), len(refused))
		}
		for i, e := range entries {
			if err := validEntry(e.Entry); err != nil {
				t.Errorf("entry %d was believed: %v", i, err)
			}
			if i > 0 && entries[i-1].Edge >= e.Edge {
				t.Errorf("%q comes before %q", entries[i-1].Edge, e.Edge)
			}
			if e.Addresses[0] != e.Addresses[0].Unmap() {
				t.Errorf("address %s is an IPv4 one", e.Addresses[0])
			}
			// What was read can be published, and is then read as the same.
			o := Options{Service: defaultService, Edge: e.Edge, Entry: e.Entry}
			published := told(o.registration(e.Passing, e.Weight))
			again, err := read(defaultService, &published)
			if err != nil || !reflect.DeepEqual(again, e) {
				t.Errorf("%+v came back as %+v: %v", e, again, err)
			}
		}
	})
}

// An IPv4 address in IPv6 clothes is published as what it is.
func TestMappedAddress(t *testing.T) {
	t.Parallel()
	o := Options{Service: "s", Edge: "a", Entry: failover.Entry{Addresses: []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}}}
	if got := o.registration(false, 1); got.Address != "192.0.2.1" || got.Meta[metaAddresses] != "192.0.2.1" {
		t.Errorf("published %+v", got)
	}
}
