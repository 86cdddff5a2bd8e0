package edge

import (
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grayfed/grayfed/edge/certs"
	"github.com/grayfed/grayfed/edge/gateway"
	"github.com/grayfed/grayfed/edge/http1"
	"github.com/grayfed/grayfed/edge/http2"
	"github.com/grayfed/grayfed/federation"
)

// newUpstreamTLS reads what endpoints that speak TLS are verified with.
func (e *Edge) newUpstreamTLS(reg prometheus.Registerer) error {
	c := e.process.Upstream.TLS
	var err error
	e.upstreamTLS, err = certs.NewClient(certs.ClientOptions{
		Name: "upstream", CAFile: c.CAFile, ServerName: c.ServerName,
		Pair: certs.Pair{CertFile: c.CertFile, KeyFile: c.KeyFile}, Registerer: reg, Log: e.log, Now: e.now,
	})
	return err
}

// newTransport carries requests to an endpoint, in its protocol.
func (e *Edge) newTransport(i *federation.Instance) (gateway.Upstream, error) {
	switch i.Protocol {
	case federation.HTTP1, "":
		return http1.NewTransport(e.http1Transport(i))
	case federation.HTTPS:
		options := e.http1Transport(i)
		options.TLS = e.upstreamTLS.Config(serverName(i), "http/1.1")
		return http1.NewTransport(options)
	case federation.H2C:
		return http2.NewTransport(e.http2Transport(i))
	case federation.H2:
		options := e.http2Transport(i)
		options.TLS = e.upstreamTLS.Config(serverName(i), "h2")
		return http2.NewTransport(options)
	}
	return nil, fmt.Errorf("instance %s: protocol %s is not served by this version", i.Key, federation.Quote(string(i.Protocol)))
}

func (e *Edge) http1Transport(i *federation.Instance) http1.TransportOptions {
	u := e.process.Upstream
	return http1.TransportOptions{
		Address: i.Address, Engine: e.data.engine1,
		ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout, MaxConns: u.MaxConnections,
	}
}

func (e *Edge) http2Transport(i *federation.Instance) http2.TransportOptions {
	u := e.process.Upstream
	return http2.TransportOptions{
		Address: i.Address, Engine: e.data.engine2,
		ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout,
	}
}

// serverName is what an endpoint's certificate must be for, unless the settings
// name another: the host of an upstream URL, else that of its address.
func serverName(i *federation.Instance) string {
	name := i.Address
	if i.Local() {
		name = i.Service
	}
	host, _, err := net.SplitHostPort(name)
	if err != nil {
		return name
	}
	return host
}
