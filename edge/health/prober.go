package health

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/grayfed/grayfed/federation"
)

const (
	// idleProbes bounds the connections kept between probes: in a small
	// federation every probe finds its own, in a large one memory stays
	// bounded and probes connect anew.
	idleProbes = 256
	// probeBody is how much of an answer is read so that its connection can
	// be kept.
	probeBody = 4 << 10
	// probeHead bounds the head of an answer.
	probeHead = 16 << 10
)

// prober asks endpoints whether they are well.
type prober struct {
	opts  Probing
	http1 *http.Transport
	http2 *http.Transport
}

func newProber(opts Probing) *prober {
	transport := func(protocols func(*http.Protocols)) *http.Transport {
		t := &http.Transport{
			DialContext:            opts.Dial,
			TLSHandshakeTimeout:    opts.Timeout,
			TLSClientConfig:        opts.TLS.Clone(),
			DisableCompression:     true,
			MaxIdleConns:           idleProbes,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        max(3*opts.Interval, 5*time.Second),
			MaxResponseHeaderBytes: probeHead,
			Protocols:              new(http.Protocols),
		}
		protocols(t.Protocols)
		return t
	}
	return &prober{
		opts:  opts,
		http1: transport(func(p *http.Protocols) { p.SetHTTP1(true) }),
		http2: transport(func(p *http.Protocols) { p.SetHTTP2(true); p.SetUnencryptedHTTP2(true) }),
	}
}

func (p *prober) close() {
	p.http1.CloseIdleConnections()
	p.http2.CloseIdleConnections()
}

// probe asks once. Over HTTP, an answer from 200 to 399 is well, as for
// Kubernetes' HTTP probes; redirects are not followed.
func (p *prober) probe(ctx context.Context, i *federation.Instance, check Check) (err error) {
	if p.opts.ConnectOnly || check.Kind == CheckConnect || i.Local() {
		conn, err := p.opts.Dial(ctx, "tcp", i.Address)
		if err != nil {
			return fmt.Errorf("probe %s: %w", i.Address, err)
		}
		return conn.Close()
	}
	transport, scheme := p.http1, "http"
	switch i.Protocol {
	case federation.H2C:
		transport = p.http2
	case federation.H2:
		transport, scheme = p.http2, "https"
	case federation.HTTPS:
		scheme = "https"
	case federation.HTTP1:
	}
	path := check.Path
	if check.Kind == CheckGRPC {
		path = grpcCheckPath
	}
	target, err := url.Parse(scheme + "://" + i.Address + path)
	if err != nil {
		return fmt.Errorf("probe %s: %w", i.Address, err)
	}
	request := (&http.Request{
		Method: http.MethodGet,
		URL:    target,
		Host:   i.Address,
		Header: http.Header{"User-Agent": {"grayfed-health"}},
	}).WithContext(ctx)
	if check.Kind == CheckGRPC {
		asksGRPC(request)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("probe %s: %w", target, err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, probeBody))
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("probe %s: read answer: %w", target, err)
	}
	if check.Kind == CheckGRPC {
		if err := servesGRPC(response, body); err != nil {
			return fmt.Errorf("probe %s: %w", target, err)
		}
		return nil
	}
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("probe %s: answered %d", target, response.StatusCode)
	}
	return nil
}
