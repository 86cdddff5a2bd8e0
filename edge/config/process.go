package config

import (
	"net/netip"
	"time"
)

// Process is the settings of one edge process: edge.yaml. Each field's key is
// its name in snake_case, save where a comment says otherwise. Relative paths
// are resolved against the folder of edge.yaml. Environment variables are not
// expanded.
type Process struct {
	// ID names the edge in the federation; required, unique, see
	// federation.ValidName.
	ID string
	// Cluster, Zone and Region are where it runs. Zone is required.
	Cluster string
	Zone    string
	Region  string
	// DataDir holds the clock's high-water mark and the last good snapshot;
	// default "/var/lib/grayfed". Key: data_dir.
	DataDir string

	Listen Listen
	// Listeners are further listeners for clients, with the timeouts and limits
	// of Listen.
	Listeners []Listener
	Admin     Admin
	Etcd      Etcd
	Gossip    Gossip
	// Documents is a file, or a folder whose *.yaml, *.yml and *.json files
	// count; required.
	Documents string
	// TrustedProxies are the peers whose X-Forwarded-* are extended instead
	// of replaced, and who count as trusted for `tags: trusted`; default none.
	TrustedProxies []netip.Prefix
	// Forwarded has requests get a Forwarded field (RFC 7239) beside
	// X-Forwarded-*; default off, as in Envoy and HAProxy: hardly any upstream
	// reads it, and it is longer than all the others.
	Forwarded    bool
	Registration Registration
	// ZoneOrder is the order in which zones of other regions are tried, after
	// this zone and the other zones of this region; zones that it does not
	// name come last, by name.
	ZoneOrder []string
	// Reach is how endpoints of other zones are reached: direct, the default,
	// or gateway; Zones has the exceptions. By gateway needs Peer.
	Reach    string
	Zones    []Zone
	Peer     Peer
	Log      Log
	Health   Health
	Upstream Upstream
	Shutdown Shutdown
	// Failover is nil for an edge without an entry in DNS; Consul and DNS need
	// it, and are nil where there is none.
	Failover *Failover
	Consul   *Consul
	DNS      *DNS
}

// Listen is the data listener, the one that other edges are told of, and what
// all listeners for clients have in common.
type Listen struct {
	Listener
	Timeouts ListenTimeouts
	Limits   Limits
}

// ListenTimeouts bound what a slow client can hold, 10 ms to 24 h each.
type ListenTimeouts struct {
	// Head is from the first byte of a request to its head's end, and for all
	// that comes before the first request: PROXY header, TLS handshake; default
	// 10 s.
	Head  time.Duration
	Body  time.Duration // between two pieces of a request body; default 30 s
	Idle  time.Duration // keep-alive without a request; default 75 s
	Write time.Duration // until the client takes a piece of the response; default 30 s
}

// Limits bound a request's head. Bodies are streamed and have no limit.
type Limits struct {
	HeadBytes int // request line and fields, 1024 to 1 MiB; default 64 KiB (Envoy: 60 KiB)
	Fields    int // header fields, 8 to 1000; default 100 (Envoy's default)
}

// Admin is the HTTP API. Off loopback it needs TLS and TokensFile, else the
// settings are refused.
type Admin struct {
	// Address is "ip:port"; default "127.0.0.1:9081".
	Address string
	TLS     TLSFiles // keys cert_file, key_file
	// TokensFile lists bearer tokens with the roles read and write.
	TokensFile string
	// HealthAddress is a further listener, without TLS and tokens, for
	// /healthz, /readyz, /metrics and /v1/failover/check alone; default none.
	HealthAddress string
}

// TLSFiles name PEM files.
type TLSFiles struct {
	CAFile   string // who signs the other side; empty: the system's roots
	CertFile string
	KeyFile  string
}

// Etcd is the registry's store.
type Etcd struct {
	// Endpoints are URLs "http://host:port" or "https://host:port"; default
	// http://127.0.0.1:2379.
	Endpoints []string
	// Prefix is put before every key; default "/grayfed/".
	Prefix string
	TLS    TLSFiles
	// Username and PasswordFile (its first line) go together.
	Username     string
	PasswordFile string
	// DialTimeout bounds one connection attempt, 100 ms to 1 min; default 2 s.
	DialTimeout time.Duration
}

// Gossip carries health between edges. Off loopback it needs KeyFile, else
// the settings are refused. The defaults make a killed edge known to all in
// about a second.
type Gossip struct {
	// Bind is "ip:port", for UDP and TCP; default "127.0.0.1:7946".
	Bind string
	// Advertise is the "ip:port" that others reach it at; default Bind.
	// Required when Bind is unspecified.
	Advertise string
	// KeyFile holds 16, 24 or 32 bytes of key, base64 (AES-GCM).
	KeyFile string
	// Peers are "host:port" of other edges to begin with.
	Peers []string
	// ProbeInterval is between two probes, 50 ms to 10 s; default 200 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long one answer is waited for, 10 ms to
	// ProbeInterval; default 100 ms.
	ProbeTimeout time.Duration
	// SuspicionMultiplier, 1 to 10, default 3; and SuspicionMaxMultiplier, 1
	// to 10, default 2 (memberlist SuspicionMult, SuspicionMaxTimeoutMult).
	SuspicionMultiplier    int
	SuspicionMaxMultiplier int
	// GossipInterval is between two rounds, 10 ms to 1 s; default 50 ms. Key:
	// interval.
	GossipInterval time.Duration
}

// Registration decides what may register.
type Registration struct {
	// AllowedCIDRs are where instances may lie. The default is the private
	// ranges of RFC 1918 and RFC 4193 and, as long as the admin listener is on
	// loopback, loopback. Link-local and metadata addresses are refused
	// whatever is allowed here. Key: allowed_cidrs.
	AllowedCIDRs []netip.Prefix
	// OrphanTTL is how long an instance without a living owner is kept, 1 min
	// to 30 days; default 24 h. Key: orphan_ttl.
	OrphanTTL time.Duration
}

// Log is the process log and the access log, both on standard output.
type Log struct {
	Level  string // debug, info, warn or error; default info
	Format string // json or text; default json
	// Access: one JSON line per request; on or off, default on.
	Access bool
	// AccessQueue is how many lines wait to be written before lines are
	// dropped and counted, 64 to 1,000,000; default 8192.
	AccessQueue int
}

// Health is how endpoints are judged.
type Health struct {
	Probe    Probe
	Ejection Ejection
	// PanicThreshold is the percentage of healthy endpoints below which
	// unhealthy ones are used when every rung is empty, 0 (never) to 100;
	// default 50 (Envoy healthy_panic_threshold).
	PanicThreshold int
}

// Probe is the active check.
type Probe struct {
	Interval time.Duration // 100 ms to 5 min; default 1 s
	Timeout  time.Duration // 10 ms to 1 min; default 2 s
	Failures int           // in a row until unhealthy, 1 to 100; default 3
}

// Ejection is the passive check.
type Ejection struct {
	ConnectFailures int // in a row, 1 to 1000; default 3
	GatewayFailures int // in a row (502, 503, 504, resets), 1 to 1000; default 5
	// WindowPercent catches endpoints that fail now and then: the share of
	// failures in the last minute, 1 to 100, default 15; judged from
	// WindowMinimum requests on, 1 to 1,000,000, default 50.
	WindowPercent int
	WindowMinimum int
}

// Upstream is the connections to endpoints.
type Upstream struct {
	// ConnectTimeout bounds reaching an endpoint, 10 ms to 1 min; default
	// 250 ms.
	ConnectTimeout time.Duration
	// MaxConnections bounds connections per endpoint, 1 to 100,000; default
	// 1024 (Envoy max_connections).
	MaxConnections int
	// IdleTimeout closes unused connections, 100 ms to 1 h; default 60 s.
	IdleTimeout time.Duration
	// TLS is for endpoints of the protocols https and h2. Keys ca_file,
	// cert_file, key_file, server_name.
	TLS UpstreamTLS
}

// Shutdown is what SIGTERM begins.
type Shutdown struct {
	// DrainTimeout is how long running requests may take, 0 to 1 h; default
	// 30 s. Leaving DNS before and Consul after has times of its own.
	DrainTimeout time.Duration
}

// DefaultProcess has every default; ID, Zone and Documents are left to set.
func DefaultProcess() *Process {
	listener := defaultListener()
	listener.Name, listener.Address = mainListener, ":8081"
	return &Process{
		DataDir: "/var/lib/grayfed",
		Reach:   ReachDirect,
		Listen: Listen{
			Listener: listener,
			Timeouts: ListenTimeouts{
				Head: 10 * time.Second, Body: 30 * time.Second,
				Idle: 75 * time.Second, Write: 30 * time.Second,
			},
			Limits: Limits{HeadBytes: 64 << 10, Fields: 100},
		},
		Admin: Admin{Address: "127.0.0.1:9081"},
		Etcd: Etcd{
			Endpoints:   []string{"http://127.0.0.1:2379"},
			Prefix:      "/grayfed/",
			DialTimeout: 2 * time.Second,
		},
		Gossip: Gossip{
			Bind:                   "127.0.0.1:7946",
			ProbeInterval:          200 * time.Millisecond,
			ProbeTimeout:           100 * time.Millisecond,
			SuspicionMultiplier:    3,
			SuspicionMaxMultiplier: 2,
			GossipInterval:         50 * time.Millisecond,
		},
		Registration: Registration{OrphanTTL: 24 * time.Hour},
		Log:          Log{Level: "info", Format: "json", Access: true, AccessQueue: 8192},
		Health: Health{
			Probe: Probe{Interval: time.Second, Timeout: 2 * time.Second, Failures: 3},
			Ejection: Ejection{
				ConnectFailures: 3, GatewayFailures: 5,
				WindowPercent: 15, WindowMinimum: 50,
			},
			PanicThreshold: 50,
		},
		Upstream: Upstream{ConnectTimeout: 250 * time.Millisecond, MaxConnections: 1024, IdleTimeout: time.Minute},
		Shutdown: Shutdown{DrainTimeout: 30 * time.Second},
	}
}

// privateRanges are RFC 1918 and RFC 4193.
func privateRanges() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
	}
}

// complete fills in the defaults that depend on other settings.
func (p *Process) complete() {
	if p.Registration.AllowedCIDRs == nil {
		p.Registration.AllowedCIDRs = privateRanges()
		if addressOnLoopback(p.Admin.Address) {
			p.Registration.AllowedCIDRs = append(p.Registration.AllowedCIDRs,
				netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		}
	}
	if p.Gossip.Advertise == "" {
		p.Gossip.Advertise = p.Gossip.Bind
	}
}
