package config_test

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

const minimal = "id: e1\nzone: az1\ndocuments: /etc/grayfed/documents\n"

func settings(t *testing.T, text string) *config.Process {
	t.Helper()
	p, err := config.ParseProcess("/etc/grayfed/edge.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMinimalSettingsAreTheDefaults(t *testing.T) {
	want := config.DefaultProcess()
	want.ID, want.Zone, want.Documents = "e1", "az1", "/etc/grayfed/documents"
	want.Gossip.Advertise = want.Gossip.Bind
	for _, cidr := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128"} {
		want.Registration.AllowedCIDRs = append(want.Registration.AllowedCIDRs, netip.MustParsePrefix(cidr))
	}
	if got := settings(t, minimal); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	got, err := config.LoadProcess("testdata/accepted/edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join("testdata/accepted", name) }
	want := &config.Process{
		ID: "edge-1", Cluster: "c1", Zone: "az1", Region: "east", DataDir: in("data"),
		Listen: config.Listen{
			Listener: config.Listener{
				Name: "listen", Address: "0.0.0.0:8081", MaxConnections: 20_000, HTTP2: true, RedirectHTTPS: 8443,
			},
			Timeouts: config.ListenTimeouts{Head: 5 * time.Second, Body: 15 * time.Second, Idle: time.Minute, Write: 20 * time.Second},
			Limits:   config.Limits{HeadBytes: 32768, Fields: 64},
		},
		Listeners: []config.Listener{
			{
				Name: "public", Address: ":8443", MaxConnections: 100, HTTP2: true,
				TLS: &config.ListenTLS{
					Certificates: []config.Certificate{
						{CertFile: in("tls/a.crt"), KeyFile: in("tls/a.key")}, {CertFile: "/b.crt", KeyFile: "/b.key"},
					},
					ClientCAFile: in("clients.pem"), ClientAuth: "request",
				},
				ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd01::1/128")},
			},
			{Name: "plain", Address: "127.0.0.1:8080", MaxConnections: 50_000},
		},
		Admin: config.Admin{
			Address: "10.0.0.5:9081", TLS: config.TLSFiles{CertFile: in("tls/admin.crt"), KeyFile: in("tls/admin.key")},
			TokensFile: "/etc/grayfed/tokens", HealthAddress: ":9181",
		},
		Etcd: config.Etcd{
			Endpoints: []string{"https://10.0.0.1:2379", "https://etcd-2:2379"}, Prefix: "/prod/grayfed/",
			TLS: config.TLSFiles{CAFile: in("ca.pem")}, Username: "grayfed", PasswordFile: in("etcd.password"), DialTimeout: time.Second,
		},
		Gossip: config.Gossip{
			Bind: "0.0.0.0:7946", Advertise: "10.0.0.5:7946", KeyFile: in("gossip.key"),
			Peers:         []string{"10.0.1.5:7946", "edge-3.example.com:7946"},
			ProbeInterval: 300 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond,
			SuspicionMultiplier: 4, SuspicionMaxMultiplier: 3, GossipInterval: 100 * time.Millisecond,
		},
		Documents:      in("documents"),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("fd00::/8")},
		Forwarded:      true,
		Registration:   config.Registration{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, OrphanTTL: 12 * time.Hour},
		ZoneOrder:      []string{"az2", "az3"},
		Reach:          config.ReachGateway,
		Zones:          []config.Zone{{Name: "az2", Reach: config.ReachDirect}},
		Peer: config.Peer{Address: "10.0.0.5:7443", Advertise: "edge-1.example.com:7443", TLS: config.TLSFiles{
			CAFile: in("peers.pem"), CertFile: in("peer.crt"), KeyFile: in("peer.key"),
		}},
		Log: config.Log{Level: "warn", Format: "text", AccessQueue: 1024},
		Health: config.Health{
			Probe: config.Probe{Interval: 2 * time.Second, Timeout: time.Second, Failures: 2},
			Ejection: config.Ejection{
				ConnectFailures: 2, GatewayFailures: 4, WindowPercent: 20, WindowMinimum: 10,
			},
			PanicThreshold: 30,
		},
		Upstream: config.Upstream{ConnectTimeout: 100 * time.Millisecond, MaxConnections: 64, IdleTimeout: 10 * time.Second, TLS: config.UpstreamTLS{
			TLSFiles: config.TLSFiles{CAFile: in("up.pem"), CertFile: in("edge.crt"), KeyFile: in("edge.key")}, ServerName: "users.internal",
		}},
		Shutdown: config.Shutdown{DrainTimeout: 10 * time.Second},
		Failover: &config.Failover{
			Role: "standby", Weight: 100, Primaries: []string{"az2", "az3"}, Heartbeat: 250 * time.Millisecond, Misses: 4,
			Hold: 20 * time.Second, Steps: []int{20, 100}, StepEvery: 2 * time.Second,
			Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")}, Port: 443,
		},
		Consul: &config.Consul{
			Address: "https://127.0.0.1:8501", TokenFile: in("consul.token"), TLS: config.TLSFiles{CAFile: in("consul.pem")},
			Service: "edges", CheckURL: "https://10.0.0.5:9081/v1/failover/check",
		},
		DNS: &config.DNS{Address: "10.0.0.5:53", Domain: "example.com", TTL: 5 * time.Second, Nameservers: []string{"ns1.example.com"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestOffLoopback: what opens a door needs its lock.
func TestOffLoopback(t *testing.T) {
	const lock = "tls: { cert_file: c, key_file: k }, tokens_file: t"
	for _, c := range []struct{ text, refused string }{
		{"admin: { address: '127.0.0.1:9081' }", ""},
		{"admin: { address: '[::1]:9081' }", ""},
		{"admin: { address: 'localhost:9081' }", ""},
		{"admin: { address: '10.0.0.1:9081' }", "without admin.tls and admin.tokens_file"},
		{"admin: { address: ':9081' }", "without admin.tls and admin.tokens_file"},
		{"admin: { address: '[::]:9081', tokens_file: t }", "without admin.tls"},
		{"admin: { address: '0.0.0.0:9081', tls: { cert_file: c, key_file: k } }", "without admin.tokens_file"},
		{"admin: { address: '0.0.0.0:9081', " + lock + " }", ""},
		{"admin: { health_address: '0.0.0.0:9181' }", ""},
		{"failover: {}", "since listen.address is :8081"},
		{"failover: {}\nlisten: { address: '10.0.0.1:80' }", ""},
		{"failover: { addresses: ['203.0.113.1'] }", ""},
		{"gossip: { bind: '127.0.0.2:7946' }", ""},
		{"gossip: { bind: '10.0.0.1:7946' }", "without gossip.key_file"},
		{"gossip: { bind: '10.0.0.1:7946', key_file: k }", ""},
		{"gossip: { bind: '0.0.0.0:7946', key_file: k }", "an ip:port that other edges reach"},
		{"gossip: { bind: '0.0.0.0:7946', advertise: '10.0.0.1:7946', key_file: k }", ""},
	} {
		_, err := config.ParseProcess("edge.yaml", []byte(minimal+c.text))
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s is refused: %v", c.text, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: %v, want %q", c.text, err, c.refused)
		}
	}
}

func TestLoopbackMayRegisterOnlyUnderALoopbackAdmin(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	allows := func(p *config.Process) bool {
		for _, prefix := range p.Registration.AllowedCIDRs {
			if prefix.Contains(loopback) {
				return true
			}
		}
		return false
	}
	if !allows(settings(t, minimal)) {
		t.Error("loopback is refused under an admin listener on loopback")
	}
	if allows(settings(t, minimal+"admin: { address: '10.0.0.1:9081', tls: { cert_file: c, key_file: k }, tokens_file: t }")) {
		t.Error("loopback is allowed by default under an admin listener off loopback")
	}
	if p := settings(t, minimal+"registration: { allowed_cidrs: [] }"); len(p.Registration.AllowedCIDRs) != 0 {
		t.Errorf("an empty list allows %v", p.Registration.AllowedCIDRs)
	}
}

// TestFailoverDefaults: an empty section is a primary; without one there is no
// entry.
func TestFailoverDefaults(t *testing.T) {
	if p := settings(t, minimal); p.Failover != nil || p.Consul != nil || p.DNS != nil {
		t.Errorf("without sections: %+v, %+v, %+v", p.Failover, p.Consul, p.DNS)
	}
	p := settings(t, minimal+"failover: { addresses: [127.0.0.1] }\nconsul: {}\ndns: { address: '0.0.0.0:53', domain: example.com. }")
	failover := &config.Failover{
		Role: "primary", Weight: 50, Heartbeat: 500 * time.Millisecond, Misses: 3, Hold: 10 * time.Second,
		Steps: []int{10, 25, 50, 100}, StepEvery: 5 * time.Second, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}
	if !reflect.DeepEqual(p.Failover, failover) {
		t.Errorf("failover is %+v", p.Failover)
	}
	if want := (&config.Consul{Address: "http://127.0.0.1:8500", Service: "grayfed-gateway"}); !reflect.DeepEqual(p.Consul, want) {
		t.Errorf("consul is %+v", p.Consul)
	}
	if want := (&config.DNS{Address: "0.0.0.0:53", Domain: "example.com.", TTL: time.Second}); !reflect.DeepEqual(p.DNS, want) {
		t.Errorf("dns is %+v", p.DNS)
	}
}

func TestEnvironmentIsNotExpanded(t *testing.T) {
	t.Setenv("ZONE", "az9")
	if p := settings(t, "id: e1\nzone: az1\ndocuments: /d/$ZONE/${ZONE}\n"); p.Documents != "/d/$ZONE/${ZONE}" {
		t.Errorf("%q", p.Documents)
	}
}
