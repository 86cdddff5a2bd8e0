package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/federation"
)

// Catalog is the view that answers are made from: a *federation.Catalog.
type Catalog interface {
	Snapshot() *federation.Snapshot
}

var _ Catalog = (*federation.Catalog)(nil)

// Registrar writes to the registry. Its errors wrap those of this package, or
// are a federation.FieldErrors; any other is answered with 500 and logged. The
// instance it returns has revision 0 when the write is taken but waits for
// etcd.
type Registrar interface {
	Register(ctx context.Context, i federation.Instance, o WriteOptions) (federation.Instance, error)
	Deregister(ctx context.Context, key federation.Key, o WriteOptions) error
	Drain(ctx context.Context, key federation.Key, o WriteOptions) (federation.Instance, error)
}

// WriteOptions go with a write.
type WriteOptions struct {
	// IfMatch is the revision that the instance must have; 0: any.
	IfMatch int64
	// Actor says who asked, for the audit.
	Actor string
}

// Heartbeats takes the instances' signs of life, with the errors of Registrar.
type Heartbeats interface {
	Heartbeat(ctx context.Context, key federation.Key) error
}

// Status says how this edge is.
type Status interface {
	Clock() uint64 // Lamport time
	Registry() api.Registry
	Documents() api.Documents
}

// Documents are the documents in force.
type Documents interface {
	Routes() api.Routes
	Services() []*federation.Service // by name
	Releases() []*federation.Release // by name
}

// Explainer decides on a request that was not made. The request is well
// formed; method and path are set.
type Explainer interface {
	Explain(r api.ExplainRequest) api.Explanation
}

// Options configure a [Server].
type Options struct {
	// Address is "ip:port", "localhost:port" or ":port". Off loopback it
	// needs the certificate and the tokens.
	Address string
	// CertFile and KeyFile are PEM, read again when they change; empty:
	// cleartext.
	CertFile, KeyFile string
	// TokensFile has the bearer tokens, read again when it changes: a line
	// each with a role, read or write, and the token of 16 to 512 printable
	// characters; a line that begins with # is a comment. Empty: everybody
	// who reaches the listener may do everything, save for web pages.
	TokensFile string
	// Hosts are further names that the API may be addressed by without
	// tokens, besides localhost and IP addresses of this machine's loopback.
	Hosts []string
	// HealthAddress is a further listener for /healthz, /readyz, /metrics and
	// /v1/failover/check, without TLS and tokens; empty: none.
	HealthAddress string
	// MaxConnections bounds open connections of each listener; 512 when 0.
	MaxConnections int

	// AllowedAddresses are where instances may lie; this server's own
	// addresses and those that federation.AddressPolicy refuses never count.
	AllowedAddresses []netip.Prefix

	Self       federation.Edge // this edge: id and locality
	Catalog    Catalog
	Registrar  Registrar
	Heartbeats Heartbeats
	Status     Status
	Documents  Documents
	// Certificates are those of the listeners; nil: none speaks TLS.
	Certificates func() []api.Certificate
	Explainer    Explainer
	Failover     Failover
	Events       *Events
	// Ready is nil when the edge serves on a full view, else the reason.
	Ready func() error

	Gatherer   prometheus.Gatherer   // what /metrics tells
	Registerer prometheus.Registerer // for this package's own metrics; may be nil
	Log        *slog.Logger
}

func (o *Options) validate() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if o.Catalog == nil || o.Registrar == nil || o.Heartbeats == nil || o.Status == nil || o.Documents == nil ||
		o.Explainer == nil || o.Failover == nil || o.Events == nil || o.Ready == nil || o.Gatherer == nil || o.Log == nil {
		bad("catalog, registrar, heartbeats, status, documents, explainer, failover, events, ready, gatherer and log are required")
	}
	if o.MaxConnections < 0 {
		bad("connection limit is %d, allowed from 0", o.MaxConnections)
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		bad("certificate and key go together")
	}
	address, err := listenAddress(o.Address)
	switch {
	case err != nil:
		bad("address: %w", err)
	case !address.Addr().IsLoopback() && (o.CertFile == "" || o.TokensFile == ""):
		bad("address %s is not loopback: it needs a certificate and a tokens file", o.Address)
	}
	if o.HealthAddress != "" {
		if _, err := listenAddress(o.HealthAddress); err != nil {
			bad("health address: %w", err)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("admin options: %w", errors.Join(wrong...))
	}
	return nil
}

// listenAddress is unspecified for ":port".
func listenAddress(text string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("found %s, allowed ip:port, localhost:port or :port", federation.Quote(text))
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	ip := netip.IPv6Unspecified()
	switch {
	case err != nil, host == "":
	case strings.EqualFold(host, "localhost"):
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		ip, err = netip.ParseAddr(host)
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("found %s, allowed ip:port, localhost:port or :port", federation.Quote(text))
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

// timeouts bound what a slow client can hold.
type timeouts struct {
	head  time.Duration // of a request
	read  time.Duration // of a request with its body
	write time.Duration // of an answer, from the request's head on; of the events, one batch
	idle  time.Duration // between requests: longer than a heartbeat's usual interval
}

func defaultTimeouts() timeouts {
	return timeouts{head: 5 * time.Second, read: 15 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute}
}

const (
	defaultMaxConnections = 512
	shutdownTimeout       = 5 * time.Second
	maxHead               = 16 << 10 // bytes; net/http reads 4 KiB more
)
