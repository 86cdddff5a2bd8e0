package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestResolvConf(t *testing.T) {
	local := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	defaults := resolvConf{servers: local, ndots: 1, timeout: 5 * time.Second, attempts: 2}
	for text, want := range map[string]resolvConf{
		"": defaults,
		"nameserver\nnameserver x\noptions ndots timeout:x unknown:3\nsearch .\n": defaults,
		"# Kubernetes\nnameserver 10.96.0.10 ; first\nsearch Default.svc.cluster.local svc.cluster.local. cluster.local\noptions ndots:5 timeout:2 attempts:3\n": {
			servers: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")},
			search:  []string{"default.svc.cluster.local.", "svc.cluster.local.", "cluster.local."},
			ndots:   5, timeout: 2 * time.Second, attempts: 3,
		},
		"nameserver 1.1.1.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver 4.4.4.4\nsearch a b\ndomain c\noptions ndots:99 timeout:0 attempts:100": {
			servers: []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"), netip.MustParseAddrPort("[2001:db8::1]:53")},
			search:  []string{"c."},
			ndots:   15, timeout: time.Second, attempts: 5,
		},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readResolvConf(path)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%q: got %+v, error %v, want %+v", text, got, err, want)
		}
	}
	if got, err := readResolvConf(filepath.Join(t.TempDir(), "none")); err != nil || !reflect.DeepEqual(*got, defaults) {
		t.Errorf("no file: got %+v, error %v, want %+v", got, err, defaults)
	}
	if _, err := readResolvConf(t.TempDir()); err == nil {
		t.Error("no error for a folder")
	}
}

func TestCandidates(t *testing.T) {
	long := strings.Repeat("a", 250)
	for _, c := range []struct {
		host  string
		ndots int
		want  []string
	}{
		{"api", 1, []string{"api.x.", "api.y.", "api."}},
		{"api", 0, []string{"api.", "api.x.", "api.y."}},
		{"api.example", 1, []string{"api.example.", "api.example.x.", "api.example.y."}},
		{"api.example", 2, []string{"api.example.x.", "api.example.y.", "api.example."}},
		{long, 0, []string{long + ".", long + ".x.", long + ".y."}},
		{long + "bc", 0, []string{long + "bc."}},
	} {
		conf := resolvConf{search: []string{"x.", "y."}, ndots: c.ndots}
		if got := conf.candidates(c.host); !slices.Equal(got, c.want) {
			t.Errorf("%s with ndots %d: %q, want %q", c.host, c.ndots, got, c.want)
		}
	}
}
