package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

// verify sends a proxy real requests and reports the first part of the job it
// does not do: a proxy that skips work would win by it.
func verify(ctx context.Context, proxy entrance, path string) error {
	transport := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true,
		Protocols: proxy.speaks.http(), TLSClientConfig: proxy.cert.client(proxy.speaks)}
	defer transport.CloseIdleConnections()
	v := verifier{
		client: &http.Client{Timeout: 5 * time.Second, Transport: transport},
		speaks: proxy.speaks,
		base:   proxy.speaks.Scheme() + "://" + proxy.listen.String() + path,
	}
	untagged, err := v.echo(ctx, "", stableRelease)
	if err != nil {
		return err
	}
	tagged, err := v.echo(ctx, canaryRelease, canaryRelease)
	if err != nil {
		return err
	}
	if _, err := v.echo(ctx, "another", stableRelease); err != nil {
		return err
	}
	if first, second := untagged.Headers["x-request-id"][0], tagged.Headers["x-request-id"][0]; first == second {
		return fmt.Errorf("two requests got the same X-Request-ID %q", first)
	}
	return v.body(ctx)
}

type verifier struct {
	client *http.Client
	speaks protocol
	base   string
	used   bool // a request was sent, so the next must reuse its connection
}

// get sends one request as the load does, with forwarded headers that a client
// must not be believed, and returns the body.
func (v *verifier) get(ctx context.Context, target, tag string) (_ []byte, err error) {
	reused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	request.Host = loadHost
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	request.Header.Set("X-Forwarded-Proto", "gopher")
	request.Header.Set("X-Forwarded-Host", "forged.test")
	request.Header.Set("X-Real-IP", "203.0.113.9")
	if tag != "" {
		request.Header.Set(tagHeader, tag)
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("check the proxy: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("check the proxy, body: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("check the proxy: GET %s with tag %q: %s: %.200s", target, tag, response.Status, body)
	}
	if (response.ProtoMajor == 2) != v.speaks.HTTP2 {
		return nil, fmt.Errorf("the proxy speaks %s to clients, want %s", response.Proto, v.speaks)
	}
	if v.speaks.TLS {
		if err := checkWire(response.TLS); err != nil {
			return nil, err
		}
	}
	if v.used && !reused {
		return nil, errors.New("the proxy does not keep the client's connection alive")
	}
	v.used = true
	return body, nil
}

func (v *verifier) echo(ctx context.Context, tag, want string) (echo, error) {
	body, err := v.get(ctx, v.base+echoQuery, tag)
	if err != nil {
		return echo{}, err
	}
	var seen echo
	if err := json.Unmarshal(body, &seen); err != nil {
		return echo{}, fmt.Errorf("check the proxy: the origin's echo: %w: %.200s", err, body)
	}
	return seen, checkEcho(seen, v.speaks.Scheme(), tag, want)
}

// checkEcho reports what is wrong with a request as the origin saw it.
func checkEcho(seen echo, scheme, tag, want string) error {
	if seen.Release != want {
		return fmt.Errorf("a request with tag %q reached release %q, want %q", tag, seen.Release, want)
	}
	for name, value := range map[string]string{
		"host":              loadHost,
		"x-forwarded-for":   "127.0.0.1",
		"x-forwarded-proto": scheme,
		"x-forwarded-host":  loadHost,
		"x-real-ip":         "127.0.0.1",
	} {
		if got := seen.Headers[name]; len(got) != 1 || !strings.EqualFold(got[0], value) {
			return fmt.Errorf("header %s reached the origin as %q, want exactly %q", name, got, value)
		}
	}
	if got := seen.Headers["x-request-id"]; len(got) != 1 || len(got[0]) < 16 {
		return fmt.Errorf("header x-request-id reached the origin as %q, want one of 16 characters or more", got)
	}
	if tag != "" {
		if got := seen.Headers[tagHeader]; len(got) != 1 || got[0] != tag {
			return fmt.Errorf("header %s reached the origin as %q, want %q", tagHeader, got, tag)
		}
	}
	return nil
}

func (v *verifier) body(ctx context.Context) error {
	body, err := v.get(ctx, v.base, canaryRelease)
	if err != nil {
		return err
	}
	if len(body) != bodySize {
		return fmt.Errorf("a body of %d bytes came back, want %d", len(body), bodySize)
	}
	return nil
}
