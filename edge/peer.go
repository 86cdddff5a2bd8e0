package edge

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/gateway"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/edge/listen"
	"github.com/grayfed/grayfed/federation"
)

const (
	// peerConnections bounds what other edges have open here: each has a few.
	peerConnections = 10_000
	// peerPatience is how much longer this edge waits for another one than it
	// waits for clients: who sends a request is to end it.
	peerPatience = 5 * time.Second
	// peerStreamWindow and peerConnWindow fit a round trip between regions.
	peerStreamWindow = 256 << 10
	peerConnWindow   = 4 << 20
	// peerHead and peerFields are what edges may be set to take from clients,
	// with room for what they add: whatever this one takes itself. A head beyond
	// the codec's bounds ends the connection, and with it what others have sent.
	peerHead   = 1 << 20
	peerFields = 2 * 1000
	// peerPing and peerPingTimeout give up connections that a network swallows:
	// all requests to an edge share a few, and nothing else would tell.
	peerPing        = 500 * time.Millisecond
	peerPingTimeout = time.Second
)

// peering is the way between this edge and others: nil parts where the settings
// have none.
type peering struct {
	tls      *certs.Client
	store    *certs.Store
	codec    *http2.Server
	listener *listen.Listener
}

// newPeerTLS reads what other edges are verified with, and what they are shown.
func (e *Edge) newPeerTLS(reg prometheus.Registerer) error {
	t := e.process.Peer.TLS
	if e.process.Peer.Address == "" {
		return nil
	}
	var err error
	e.peering.tls, err = certs.NewClient(certs.ClientOptions{
		Name: "peers", CAFile: t.CAFile, Pair: certs.Pair{CertFile: t.CertFile, KeyFile: t.KeyFile},
		Registerer: reg, Log: e.log, Now: e.now,
	})
	return err
}

// openPeers binds the listener for other edges. Nobody gets past its handshake
// without a certificate of an edge.
func (e *Edge) openPeers(ctx context.Context, reg prometheus.Registerer) error {
	p := e.process.Peer
	if p.Address == "" {
		return nil
	}
	var err error
	e.peering.store, err = certs.New(certs.Options{
		Name: "peer", Pairs: []certs.Pair{{CertFile: p.TLS.CertFile, KeyFile: p.TLS.KeyFile}},
		ClientCAFile: p.TLS.CAFile, ClientAuth: certs.ClientAuthRequire, Protocols: []string{"h2"},
		Registerer: reg, Log: e.log, Now: e.now,
	})
	if err != nil {
		return err
	}
	if e.peering.codec, err = http2.NewServer(e.peerCodec()); err != nil {
		return fmt.Errorf("http/2 codec for other edges: %w", err)
	}
	e.peering.listener, err = listen.Open(ctx, listen.Options{
		Name: "peer", Address: p.Address, MaxConnections: peerConnections,
		HTTP1: noHTTP1{}, HTTP2: e.peering.codec, TLS: e.peering.store.Config(),
		HeadTimeout: e.process.Listen.Timeouts.Head, Registerer: reg, Log: e.log,
	})
	if err != nil {
		return fmt.Errorf("listener for other edges: %w", err)
	}
	e.opened.push("listener for other edges", e.peering.listener.Close)
	e.self.Peer = peerAddress(p, e.peering.listener.Address())
	return nil
}

// peerCodec takes whatever another edge has taken, with what it adds.
func (e *Edge) peerCodec() http2.Options {
	t := e.process.Listen.Timeouts
	return http2.Options{
		Handler: e.gateway.PeerHandler(), Engine: e.data.engine2, Gateway: true,
		HeadTimeout: t.Head, BodyTimeout: t.Body + peerPatience, WriteTimeout: t.Write + peerPatience, IdleTimeout: t.Idle,
		MaxStreams: 1024, StreamWindow: peerStreamWindow, ConnWindow: peerConnWindow,
		MaxHeadBytes: peerHead, MaxTargetBytes: peerHead, MaxFields: peerFields,
	}
}

// peerAddress is where other edges reach the listener.
func peerAddress(p config.Peer, bound net.Addr) string {
	if p.Advertise != "" {
		return p.Advertise
	}
	return bound.String()
}

// noHTTP1 refuses what agreed on no protocol: edges speak HTTP/2.
type noHTTP1 struct{}

var _ listen.Codec = noHTTP1{}

// ServeConn implements [listen.Codec].
func (noHTTP1) ServeConn(conn net.Conn, _ exchange.Conn) {
	_ = conn.Close() // it has nothing to lose
}

// throughPeers reports whether endpoints of a zone are reached through its
// edges.
func (e *Edge) throughPeers(zone string) bool { return e.process.ReachOf(zone) == config.ReachGateway }

// newPeer carries requests to another edge, whatever endpoints they are for.
func (e *Edge) newPeer(other *federation.Edge) (gateway.Upstream, error) {
	host, _, err := net.SplitHostPort(other.Peer)
	if err != nil {
		return nil, fmt.Errorf("edge %s: address %s: %w", other.ID, federation.Quote(other.Peer), err)
	}
	u := e.process.Upstream
	return http2.NewTransport(http2.TransportOptions{
		Address: other.Peer, Engine: e.data.engine2, TLS: e.peering.tls.Config(host, "h2"), HoldBodies: true,
		ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout, MaxConns: u.MaxConnections,
		PingInterval: peerPing, PingTimeout: peerPingTimeout,
		StreamWindow: peerStreamWindow, ConnWindow: peerConnWindow, MaxHeadBytes: 64 << 10, MaxFields: 256,
	})
}
