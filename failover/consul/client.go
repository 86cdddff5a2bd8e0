package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/grayfed/grayfed/federation"
)

const (
	dialTimeout = time.Second
	idleTimeout = 30 * time.Second
	// maxAnswer is twice what Consul says of the most edges that are read, 2
	// KiB each, and keeps a broken agent from filling the memory.
	maxAnswer = maxEntries * 4 << 10
	maxHead   = 64 << 10
)

// place is where an agent is.
type place struct {
	scheme, host string
	socket       string // path, when it is a Unix socket
}

func parseAddress(text string) (place, error) {
	wrong := fmt.Errorf("address %s: allowed http://host:port, https://host:port or unix:///path", federation.Quote(text))
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return place{}, wrong
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" {
			return place{}, wrong
		}
		return place{scheme: u.Scheme, host: u.Host}, nil
	case "unix":
		if u.Host != "" || u.Path == "" {
			return place{}, wrong
		}
		return place{scheme: "http", host: "localhost", socket: u.Path}, nil
	}
	return place{}, wrong
}

// connect returns a client of the agent and what it is carried by.
func (o Options) connect(sent *token) (*http.Transport, *api.Client, error) {
	at, err := parseAddress(o.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("consul: %w", err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		// Neither a proxy of the environment nor HTTP/2: the agent is next
		// door.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if at.socket != "" {
				network, address = "unix", at.socket
			}
			return dialer.DialContext(ctx, network, address)
		},
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2, // what watches and what keeps
		MaxResponseHeaderBytes: maxHead,
	}
	if at.scheme == "https" {
		if transport.TLSClientConfig, err = o.tls(); err != nil {
			return nil, nil, fmt.Errorf("consul: %w", err)
		}
	}
	client, err := api.NewClient(&api.Config{
		Address: at.host,
		Scheme:  at.scheme,
		// Any that is not the environment's keeps the client from looking
		// there for one; the guard puts the right one in its place.
		Token: "of-the-guard",
		HttpClient: &http.Client{
			Transport:     guard{token: sent, next: transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("consul: make a client: %w", err)
	}
	return transport, client, nil
}

func (o Options) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authority %s: no certificate in it", o.CAFile)
		}
	}
	if o.CertFile == "" {
		return cfg, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return cfg, nil
}

// guard is what every request and answer passes. The client of consul/api adds
// a token, a namespace and a partition from the environment where it is given
// none; the edge's configuration alone is to say what it sends.
type guard struct {
	token *token
	next  http.RoundTripper
}

var _ http.RoundTripper = guard{}

// RoundTrip sends the request as configured and bounds its answer.
func (g guard) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Del("X-Consul-Token")
	if text := g.token.current(); text != "" {
		request.Header.Set("X-Consul-Token", text)
	}
	query := request.URL.Query()
	query.Del("ns")
	query.Del("partition")
	request.URL.RawQuery = query.Encode()
	response, err := g.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &bounded{ReadCloser: response.Body, left: maxAnswer}
	return response, nil
}

var errTooLong = errors.New("the answer is longer than any of Consul's should be")

// bounded is a body that ends in an error when it is too long.
type bounded struct {
	io.ReadCloser
	left int
}

// Read reads on, up to the bound.
func (b *bounded) Read(into []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(into[:min(len(into), b.left)])
	b.left -= n
	return n, err
}
