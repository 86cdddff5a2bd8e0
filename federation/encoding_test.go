package federation_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func full() *federation.Instance {
	return &federation.Instance{
		Key:      federation.Key{Service: "user-service", ID: "u-1"},
		Locality: federation.Locality{Cluster: "c1", Zone: "az1", Region: "east"},
		Address:  "10.0.0.7:8080", Version: "v2-beta",
		Tags:   map[string]string{"track": "canary", "note": `a "quoted" {brace}, [and] \ more`},
		Weight: 100, Capacity: 64, Protocol: federation.HTTP1, HealthPath: "/healthz", Draining: true,
		Owner: "edge-1", TTL: federation.Duration(10 * time.Second), OrphanedAt: time.Unix(7, 0).UTC(),
		Stamp: federation.Stamp{Lamport: 9, Origin: "edge-1"},
	}
}

func TestStoredFormRoundTrip(t *testing.T) {
	want := full()
	data, err := federation.EncodeInstance(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := federation.DecodeInstance(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestStoredFormKeepsUnknownFields(t *testing.T) {
	data, err := federation.EncodeInstance(full())
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(data), `{"schema":1`, `{"mesh":{"weight":[1,2]},"schema":1,"Draining2":true`, 1)
	i, err := federation.DecodeInstance([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	i.Draining = false
	rewritten, err := federation.EncodeInstance(i)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"mesh":{"weight":[1,2]}`, `"Draining2":true`} {
		if !strings.Contains(string(rewritten), part) {
			t.Errorf("a rewrite lost %s: %s", part, rewritten)
		}
	}
	if strings.Contains(string(rewritten), `"draining":true`) {
		t.Error("the rewrite kept the old value of a known field")
	}
}

func TestStoredFormRefusesOtherSchemas(t *testing.T) {
	if _, err := federation.DecodeInstance([]byte(`{"schema":2}`)); !errors.Is(err, federation.ErrSchema) {
		t.Errorf("a newer schema: %v", err)
	}
	if _, err := federation.DecodeInstance([]byte(`{}`)); err == nil {
		t.Error("a value without schema was taken")
	}
}

func FuzzDecodeInstance(f *testing.F) {
	data, err := federation.EncodeInstance(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":1,"service":"s","\u0069d":"x","x":{"service":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := federation.DecodeInstance(data)
		if err != nil {
			return
		}
		again, err := federation.EncodeInstance(i)
		if err != nil {
			return // a year that RFC 3339 cannot write
		}
		back, err := federation.DecodeInstance(again)
		if err != nil {
			t.Fatalf("%q was written back as %q: %v", data, again, err)
		}
		if back.Key != i.Key || back.Stamp != i.Stamp || len(back.Unknown) != len(i.Unknown) {
			t.Fatalf("%+v became %+v", i, back)
		}
	})
}

func TestValidateNamesEveryField(t *testing.T) {
	if err := full().Validate(); err != nil {
		t.Fatalf("a good instance: %v", err)
	}
	cases := map[string]func(*federation.Instance){
		"service":    func(i *federation.Instance) { i.Service = "" },
		"id":         func(i *federation.Instance) { i.ID = strings.Repeat("x", 129) },
		"zone":       func(i *federation.Instance) { i.Zone = "az 1" },
		"cluster":    func(i *federation.Instance) { i.Cluster = "-x" },
		"region":     func(i *federation.Instance) { i.Region = "a/b" },
		"version":    func(i *federation.Instance) { i.Version = "v2\n" },
		"address":    func(i *federation.Instance) { i.Address = "example.com:80" },
		"weight":     func(i *federation.Instance) { i.Weight = -1 },
		"capacity":   func(i *federation.Instance) { i.Capacity = 1_000_001 },
		"protocol":   func(i *federation.Instance) { i.Protocol = "gopher" },
		"ttl":        func(i *federation.Instance) { i.TTL = federation.Duration(time.Millisecond) },
		"healthPath": func(i *federation.Instance) { i.HealthPath = "healthz" },
		"tags":       func(i *federation.Instance) { i.Tags = map[string]string{"": "x"} },
		"tags.team":  func(i *federation.Instance) { i.Tags = map[string]string{"team": strings.Repeat("x", 257)} },
	}
	for field, spoil := range cases {
		i := full()
		spoil(i)
		errs, ok := errors.AsType[federation.FieldErrors](i.Validate())
		if !ok || len(errs) != 1 || errs[0].Field != field || errs[0].Allowed == "" {
			t.Errorf("%s: %v", field, errs)
		}
	}
	two := full()
	two.Service, two.Weight = "", 1001
	if errs, _ := errors.AsType[federation.FieldErrors](two.Validate()); len(errs) != 2 {
		t.Errorf("two bad fields reported as %v", errs)
	}
}

func TestAddressPolicy(t *testing.T) {
	policy := federation.NewAddressPolicy(
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("169.254.0.0/16")},
		[]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9081"), netip.MustParseAddrPort("10.0.0.1:9443")},
	)
	for address, ok := range map[string]bool{
		"10.0.0.7:8080":            true,
		"127.0.0.1:8080":           true,
		"[2001:db8::1]:80":         true,
		"[::ffff:10.0.0.7]:80":     true,
		"11.0.0.7:8080":            false,
		"169.254.169.254:80":       false,
		"[fe80::1]:80":             false,
		"[fd00:ec2::254]:80":       false,
		"0.0.0.0:80":               false,
		"[::]:80":                  false,
		"[ff02::1]:80":             false,
		"127.0.0.1:9081":           false,
		"127.0.0.2:9081":           false,
		"[::1]:9081":               false,
		"[::ffff:127.0.0.1]:9081":  false,
		"10.0.0.1:9443":            false,
		"10.0.0.2:9443":            true,
		"[::ffff:169.254.1.1]:443": false,
		"localhost:80":             false,
		"10.0.0.7":                 false,
		"10.0.0.7:0":               false,
	} {
		if err := policy.Check(address); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed %v", address, err, ok)
		}
	}
}
