// Package edge assembles one edge gateway from its parts and owns every
// goroutine of it.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/admin"
	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/gateway"
	"github.com/grayfed/grayfed/edge/health"
	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/edge/observe"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
	"github.com/grayfed/grayfed/federation/gossip"
	"github.com/grayfed/grayfed/registry"
	"github.com/grayfed/grayfed/registry/dns"
)

// Edge is one gateway of the federation.
type Edge struct {
	process *config.Process
	version string
	log     *slog.Logger
	self    federation.Edge
	// opened are the endings of what New took: folder, sockets, clients.
	opened stops

	clock     *federation.Clock
	catalog   *federation.Catalog
	peers     *peers
	registry  *registry.Registry
	gossip    *gossip.Gossip
	monitor   *health.Monitor
	gateway   *gateway.Gateway
	upstreams *dns.Resolver
	source    config.Source
	config    atomic.Pointer[configState]
	metrics   *metrics
	accessLog *observe.AccessLog // nil: off

	failover    *dnsFailover  // nil: no entry in DNS
	announceNow chan struct{} // 1-buffered: there is news of this edge for the others
	now         func() time.Time
	ejected     ejections

	viewed chan struct{} // closed once the gateway has its first whole view of the federation

	data        data
	upstreamTLS *certs.Client
	peering     peering
	admin       *admin.Server
	events      *admin.Events

	draining atomic.Bool
}

// New assembles an edge: it takes the data folder, binds the listeners and
// reads the documents, so that what is wrong with them is told at once. It
// starts no goroutine; what it took is given back by Run, or by New itself when
// it fails.
func New(ctx context.Context, opts Options) (_ *Edge, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	p := opts.Process
	e := &Edge{
		process: p, version: opts.Version, log: newLog(p.Log, opts.Output),
		announceNow: make(chan struct{}, 1), viewed: make(chan struct{}), now: opts.now(), ejected: make(ejections),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.opened.run())
		}
	}()

	// An edge whose configuration was never valid does not start.
	docs, err := config.ReadDocuments(p.Documents)
	if err != nil {
		return nil, err
	}
	lock, err := lockDataDir(p.DataDir)
	if err != nil {
		return nil, err
	}
	e.opened.push("data folder", lock.Close)
	if e.clock, err = federation.OpenClock(p.ID, filepath.Join(p.DataDir, "clock")); err != nil {
		return nil, err
	}
	incarnation, lives, err := nextIncarnation(p.DataDir, e.now())
	if err != nil {
		return nil, err
	}

	e.self = federation.Edge{
		ID: p.ID, Locality: federation.Locality{Cluster: p.Cluster, Zone: p.Zone, Region: p.Region},
		Incarnation: incarnation, Status: federation.EdgeAlive, Gossip: p.Gossip.Advertise,
	}

	reg := newRegisterer()
	e.peers = newPeers(time.Now, e.edgeChanged)
	e.catalog = federation.NewCatalog(federation.CatalogOptions{
		Self:       p.ID,
		NewRuntime: func(i *federation.Instance) federation.Runtime { return e.gateway.NewRuntime(i) },
		RecordTTL:  gossipTiming(p.Gossip).RecordTTL(),
	})
	e.source = config.NewPathSource(p.Documents, config.DefaultPollInterval)
	e.events = admin.NewEvents()
	e.data.engine1, e.data.engine2 = http1.NewEngine(), http2.NewEngine()
	if err := e.newUpstreamTLS(reg); err != nil {
		return nil, err
	}
	if err := e.newPeerTLS(reg); err != nil {
		return nil, err
	}
	if e.monitor, err = health.NewMonitor(e.healthOptions(reg)); err != nil {
		return nil, err
	}
	if err := e.newGateway(opts, reg); err != nil {
		return nil, err
	}
	e.opened.push("gateway", e.gateway.Close)
	if err := e.openData(ctx, reg); err != nil {
		return nil, err
	}
	if err := e.openPeers(ctx, reg); err != nil {
		return nil, err
	}
	if err := e.openAdmin(ctx, reg); err != nil {
		return nil, err
	}
	e.self.Data, e.self.Admin = reachableAt(p, e.data.mainListener().Address(), e.admin.Address())
	e.self.Entry = ownEntry(p, e.data.mainListener().Address())
	if e.upstreams, err = dns.New(e.dnsOptions(reg)); err != nil {
		return nil, err
	}
	if err := e.newRegistry(lives, reg); err != nil {
		return nil, err
	}
	if err := e.newGossip(reg); err != nil {
		return nil, err
	}
	if err := e.newFailover(ctx, reg); err != nil {
		return nil, err
	}
	e.registry.SetEdgeAlive(e.gossip.Alive)
	e.registry.SetForward(e.gossip.ForwardHeartbeat)
	e.registry.SetRelay(e.relayHeartbeat)
	if e.metrics, err = newMetrics(reg, e); err != nil {
		return nil, fmt.Errorf("register metrics of the edge: %w", err)
	}
	if err := e.apply(docs); err != nil {
		return nil, err
	}
	return e, nil
}

// Run serves until ctx ends, or until a part of the edge fails, whose error it
// then returns. It drains what is under way before it returns; nothing of the
// edge is left running then. It is called once.
func (e *Edge) Run(ctx context.Context) error {
	g := newGroup(ctx)
	running := e.opened
	g.start(&running, "http/1 engine", e.data.engine1.Run)
	g.start(&running, "http/2 engine", e.data.engine2.Run)
	for _, store := range e.data.stores {
		g.start(&running, "certificates", store.Run)
	}
	g.start(&running, "upstream certificates", e.upstreamTLS.Run)
	if e.peering.listener != nil {
		g.start(&running, "certificates of edges", e.peering.store.Run)
		g.start(&running, "authorities of edges", e.peering.tls.Run)
	}
	if e.accessLog != nil {
		g.start(&running, "access log", e.accessLog.Run)
	}
	g.start(&running, "registry", e.registry.Run)
	g.start(&running, "gossip", e.gossip.Run)
	g.start(&running, "health monitor", e.monitor.Run)
	g.start(&running, "catalog", e.followCatalog)
	g.start(&running, "documents", e.followDocuments)
	g.start(&running, "upstream names", e.upstreams.Run)
	g.start(&running, "admin API", e.admin.Run)
	g.start(&running, "readiness", e.tellReady)
	e.startFailover(g, &running)
	g.start(&running, "listeners", e.serve)

	<-g.failed.Done()
	e.draining.Store(true)
	e.log.Info("edge stops", "edge", e.self.ID, "drain_timeout", e.process.Shutdown.DrainTimeout.String())
	if e.failover != nil && ctx.Err() != nil {
		e.failover.leave()
	}
	err := running.run()
	if cause := context.Cause(g.failed); ctx.Err() == nil && cause != nil {
		err = errors.Join(cause, err)
	}
	return err
}

// slowStart is after how long an edge that is not ready yet says why.
const slowStart = 2 * time.Second

// tellReady logs, once, that the edge serves; before that, once, what it waits
// for.
func (e *Edge) tellReady(ctx context.Context) error {
	slow := time.NewTimer(slowStart)
	defer slow.Stop()
	ready := []<-chan struct{}{e.gossip.Ready(), e.registry.Ready()}
	for len(ready) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-slow.C:
			e.log.Warn("edge is not ready yet", "edge", e.self.ID, "reason", e.notReady(), "etcd", e.process.Etcd.Endpoints)
		case <-ready[0]:
			ready = ready[1:]
		}
	}
	e.log.Info("edge is ready", "edge", e.self.ID, "zone", e.self.Zone, "data", e.self.Data, "admin", e.self.Admin,
		"gossip", e.self.Gossip, "version", e.version, "config", e.configHash())
	<-ctx.Done()
	return nil
}

// notReady says why the edge is not to be sent requests, nil when it is.
func (e *Edge) notReady() error {
	if e.draining.Load() {
		return errors.New("the edge is stopping")
	}
	select {
	case <-e.registry.Ready():
		return nil
	default:
		return errors.New("no full snapshot of the registry yet: etcd has not answered and no earlier one is kept")
	}
}

func (e *Edge) newGateway(opts Options, reg prometheus.Registerer) error {
	p := e.process
	rungs := make([]string, 0, route.RungCount)
	for r := range route.RungCount {
		rungs = append(rungs, route.Rung(r).String())
	}
	requests, err := observe.NewRequests(reg, rungs)
	if err != nil {
		return fmt.Errorf("register request metrics: %w", err)
	}
	if p.Log.Access {
		e.accessLog, err = observe.NewAccessLog(observe.AccessLogOptions{
			Output: opts.Output, Queue: p.Log.AccessQueue, Registerer: reg,
		})
		if err != nil {
			return fmt.Errorf("open access log: %w", err)
		}
	}
	e.gateway, err = gateway.New(gateway.Options{
		Topology:       route.Topology{Zone: p.Zone, Region: p.Region, ZoneOrder: p.ZoneOrder},
		NewTransport:   e.newTransport,
		Through:        e.throughPeers,
		NewPeer:        e.newPeer,
		Peers:          p.Peer.Address != "",
		Monitor:        e.monitor,
		TrustedProxies: p.TrustedProxies,
		Forwarded:      p.Forwarded,
		Edge:           p.ID,
		PanicThreshold: p.Health.PanicThreshold,
		DrainTimeout:   p.Shutdown.DrainTimeout,
		Requests:       requests,
		AccessLog:      e.accessLog,
		Registerer:     reg,
		Log:            e.log,
		OnZone:         e.zoneEvent,
		PublishLoad:    func(key federation.Key, inFlight int64) { e.gossip.PublishLoad(key, inFlight) },
	})
	return err
}

func (e *Edge) healthOptions(reg prometheus.Registerer) health.Options {
	h := e.process.Health
	return health.Options{
		Self: e.self.ID, Zone: e.self.Zone, Incarnation: e.self.Incarnation,
		Probing: health.Probing{
			Interval: h.Probe.Interval, Timeout: h.Probe.Timeout, Failures: h.Probe.Failures,
			// By the chain alone where no name is set: addresses are no names.
			TLS: e.upstreamTLS.Config(""),
		},
		Ejection: health.Ejection{
			ConnectFailures: h.Ejection.ConnectFailures, GatewayFailures: h.Ejection.GatewayFailures,
			WindowPercent: h.Ejection.WindowPercent, MinRequests: h.Ejection.WindowMinimum,
		},
		RefreshInterval: gossipTiming(e.process.Gossip).RefreshInterval,
		Sink:            e.ownEvidence,
		Log:             e.log,
		Registerer:      reg,
	}
}

func (e *Edge) newRegistry(lives []uint64, reg prometheus.Registerer) error {
	c := e.process.Etcd
	password, err := firstLine(c.PasswordFile)
	if err != nil {
		return fmt.Errorf("read etcd's password: %w", err)
	}
	client, err := registry.Connect(registry.ConnectOptions{
		Endpoints: c.Endpoints, CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile,
		Username: c.Username, Password: password, DialTimeout: c.DialTimeout,
	})
	if err != nil {
		return err
	}
	e.opened.push("etcd client", client.Close)
	e.registry, err = registry.New(registry.Options{
		Client: client, Prefix: c.Prefix, Self: e.self, Lives: lives, Clock: e.clock,
		Sink: e.catalog, Edges: e.peers, Log: e.log, Registerer: reg,
		Probe:     func(ctx context.Context, i *federation.Instance) bool { return e.monitor.Probe(ctx, i) == nil },
		OnEvent:   e.instanceEvent,
		CachePath: filepath.Join(e.process.DataDir, "snapshot.json"),
		OrphanTTL: e.process.Registration.OrphanTTL,
		Now:       e.now,
	})
	return err
}

func (e *Edge) newGossip(reg prometheus.Registerer) error {
	c := e.process.Gossip
	var keys [][]byte
	var err error
	if c.KeyFile != "" {
		if keys, err = gossip.ReadKeys(c.KeyFile); err != nil {
			return err
		}
	}
	e.gossip, err = gossip.New(gossip.Options{
		Self: e.self, Bind: c.Bind, Advertise: c.Advertise, Keys: keys, Peers: c.Peers,
		Timing: gossipTiming(c), Clock: e.clock, Log: e.log, Registerer: reg,
		OnHealth:    func(records []federation.HealthRecord) { e.catalog.ObserveHealth(time.Now(), records...) },
		OnEdge:      e.heardEdge,
		OnHeartbeat: func(key federation.Key) { e.registry.HeartbeatFromPeer(key) },
		OnRelay:     func(key federation.Key) { e.registry.RelayedHeartbeat(key) },
		OnLoad:      e.gateway.SetLoad,
	})
	return err
}

func gossipTiming(c config.Gossip) gossip.Timing {
	return gossip.Timing{
		ProbeInterval: c.ProbeInterval, ProbeTimeout: c.ProbeTimeout,
		SuspicionMult: c.SuspicionMultiplier, SuspicionMaxMult: c.SuspicionMaxMultiplier,
		GossipInterval: c.GossipInterval,
	}
}

// dnsOptions are for upstreams that are URLs. The operator wrote them, so that
// any address will do save for those that nobody may reach through an edge.
func (e *Edge) dnsOptions(reg prometheus.Registerer) dns.Options {
	var own []netip.AddrPort
	if tcp, ok := e.admin.Address().(*net.TCPAddr); ok {
		own = append(own, tcp.AddrPort())
	}
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	return dns.Options{
		Sink:       e.catalog,
		Policy:     federation.NewAddressPolicy(everywhere, own),
		Locality:   e.self.Locality,
		Owner:      e.self.ID,
		Log:        e.log,
		Registerer: reg,
	}
}
