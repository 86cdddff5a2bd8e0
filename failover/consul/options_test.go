package consul

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/failover"
)

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{Address: "http://127.0.0.1:8500", Edge: "a", Entry: entryOf("a", failover.Primary)}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Options){
		`address "127.0.0.1:8500"`:         func(o *Options) { o.Address = "127.0.0.1:8500" },
		`address "http://h"`:               func(o *Options) { o.Address = "http://h" },
		`address "http://h:1/path"`:        func(o *Options) { o.Address = "http://h:1/path" },
		`address "http://u:p@h:1"`:         func(o *Options) { o.Address = "http://u:p@h:1" },
		`address "unix://relative"`:        func(o *Options) { o.Address = "unix://relative" },
		"address nothing":                  func(o *Options) { o.Address = "" },
		"it has characters":                func(o *Options) { o.TokenFile = tokenFile(t, "a b") },
		"certificates are for an https":    func(o *Options) { o.CAFile = "ca.pem" },
		"certificate and key go together":  func(o *Options) { o.Address, o.CertFile = "https://h:1", "c.pem" },
		"read certificate authority":       func(o *Options) { o.Address, o.CAFile = "https://h:1", "/nonexistent" },
		"no certificate in it":             func(o *Options) { o.Address, o.CAFile = "https://h:1", "consul_test.go" },
		"load client certificate":          func(o *Options) { o.Address, o.CertFile, o.KeyFile = "https://h:1", "/no", "/no" },
		`service "a b" is not a name`:      func(o *Options) { o.Service = "a b" },
		`entry is of edge "b"`:             func(o *Options) { o.Entry.Edge = "b" },
		"edge nothing is not a name":       func(o *Options) { o.Edge, o.Entry.Edge = "", "" },
		`zone "-" is not a name`:           func(o *Options) { o.Entry.Zone = "-" },
		"role is unknown":                  func(o *Options) { o.Entry.Role = failover.RoleUnknown },
		"there are 0 addresses":            func(o *Options) { o.Entry.Addresses = nil },
		"address 0.0.0.0 cannot":           func(o *Options) { o.Entry.Addresses = []netip.Addr{netip.IPv4Unspecified()} },
		"port is 0":                        func(o *Options) { o.Entry.Port = 0 },
		"weight is 1001":                   func(o *Options) { o.Entry.Weight = 1001 },
		"zone is the entry's own":          func(o *Options) { o.Meta = map[string]string{"zone": "x"} },
		`key "a b"`:                        func(o *Options) { o.Meta = map[string]string{"a b": "x"} },
		"has 513 bytes":                    func(o *Options) { o.Meta = map[string]string{"a": strings.Repeat("x", 513)} },
		`check URL "ftp://h"`:              func(o *Options) { o.CheckURL = "ftp://h" },
		`check URL "http:///v1/failover/"`: func(o *Options) { o.CheckURL = "http:///v1/failover/" },
	} {
		o := good()
		edit(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
	taken := prometheus.NewRegistry()
	o := good()
	o.Registerer = taken
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); err == nil {
		t.Error("the same metrics were registered twice")
	}
}
