package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grayfed/grayfed/federation"
)

// maxAnswer bounds an answer: the instances of the largest service an edge is
// built for, several times over.
const maxAnswer = 256 << 20

// ClientOptions say which edge a [Client] speaks to, and how.
type ClientOptions struct {
	// URL is that of the edge's admin listener: "http://127.0.0.1:9081".
	URL string
	// Token is the bearer token; empty: none. Off loopback it goes over https
	// only.
	Token string
	// TLS is for https: whom to trust. Nil trusts the system's roots.
	TLS *tls.Config
	// Timeout bounds one call, answer included, and the wait for the first
	// byte of the events; 10 s when 0.
	Timeout time.Duration
}

func (o *ClientOptions) validate() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("edge URL: found %s, allowed http://host:port or https://host:port", federation.Quote(o.URL))
	}
	if o.Token != "" && u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("edge URL %s: a token goes over https only, or anybody on the way can read it", o.URL)
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("timeout is %s, allowed from 0", o.Timeout)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// Client calls the API of one edge. It is safe for concurrent use, follows no
// redirect and tries nothing twice.
//
// An edge's refusal is a [*Problem], also within a chain of errors; an edge
// that cannot be reached, or that does not answer in time, is an
// [*UnreachableError]: another edge may be asked. The caller's own ending ctx
// is ctx's error.
type Client struct {
	base    string
	token   string
	timeout time.Duration
	http    *http.Client
}

// NewClient checks the options; it does not connect.
func NewClient(o ClientOptions) (*Client, error) {
	base, err := o.validate()
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return &Client{
		base:    base.String(),
		token:   o.Token,
		timeout: o.Timeout,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           (&net.Dialer{Timeout: min(o.Timeout, 5*time.Second)}).DialContext,
				TLSClientConfig:       o.TLS,
				TLSHandshakeTimeout:   min(o.Timeout, 5*time.Second),
				ResponseHeaderTimeout: o.Timeout,
				MaxIdleConnsPerHost:   4,
				IdleConnTimeout:       30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL is that of the edge.
func (c *Client) URL() string { return c.base }

// Close closes idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// WriteOptions go with a write.
type WriteOptions struct {
	// IfMatch is the revision that the instance must have, else the answer is
	// a [Problem] with status 412; 0: any.
	IfMatch int64
}

// Federation asks what the edge knows of the whole.
func (c *Client) Federation(ctx context.Context) (*Federation, error) {
	return get[Federation](ctx, c, "/v1/federation")
}

// Services lists the services.
func (c *Client) Services(ctx context.Context) (*Services, error) {
	return get[Services](ctx, c, "/v1/services")
}

// Instances lists the instances of a service; none when nobody knows it.
func (c *Client) Instances(ctx context.Context, service string) (*Instances, error) {
	return get[Instances](ctx, c, "/v1/services/"+url.PathEscape(service)+"/instances")
}

// Register registers an instance, or says anew what it is, and returns what was
// stored. Status 409 with [ProblemOwned]: the id is live at another edge.
func (c *Client) Register(ctx context.Context, key federation.Key, r Registration, o WriteOptions) (*Instance, error) {
	return call[Instance](ctx, c, http.MethodPut, instancePath(key), r, o)
}

// Deregister removes an instance. Status 404: it is not there.
func (c *Client) Deregister(ctx context.Context, key federation.Key, o WriteOptions) error {
	_, err := c.do(ctx, http.MethodDelete, instancePath(key), nil, o)
	return err
}

// Heartbeat is an instance's sign of life; any edge takes it. Status 404: it is
// not registered (any more) and shall register anew.
func (c *Client) Heartbeat(ctx context.Context, key federation.Key) error {
	_, err := c.do(ctx, http.MethodPost, instancePath(key)+"/heartbeat", nil, WriteOptions{})
	return err
}

// Drain takes an instance out of the choice for new requests and returns what
// was stored. It stays registered; a new registration ends the drain.
func (c *Client) Drain(ctx context.Context, key federation.Key, o WriteOptions) (*Instance, error) {
	return call[Instance](ctx, c, http.MethodPost, instancePath(key)+"/drain", nil, o)
}

// Releases lists the releases.
func (c *Client) Releases(ctx context.Context) (*Releases, error) {
	return get[Releases](ctx, c, "/v1/releases")
}

// Release returns one release. Status 404: no document names it.
func (c *Client) Release(ctx context.Context, name string) (*Release, error) {
	return get[Release](ctx, c, "/v1/releases/"+url.PathEscape(name))
}

// Routes lists the routes in force.
func (c *Client) Routes(ctx context.Context) (*Routes, error) {
	return get[Routes](ctx, c, "/v1/routes")
}

// Explain asks what would become of a request.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (*Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, "/v1/explain", r, WriteOptions{})
}

// Ready is nil when the edge serves on a full view of the federation, else a
// [*Problem] with the reason or an [*UnreachableError].
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", nil, WriteOptions{})
	return err
}

func instancePath(key federation.Key) string {
	return "/v1/services/" + url.PathEscape(key.Service) + "/instances/" + url.PathEscape(key.ID)
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return call[T](ctx, c, http.MethodGet, path, nil, WriteOptions{})
}

func call[T any](ctx context.Context, c *Client, method, path string, body any, o WriteOptions) (*T, error) {
	data, err := c.do(ctx, method, path, body, o)
	if err != nil {
		return nil, err
	}
	answer := new(T)
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, fmt.Errorf("%s %s%s: the answer is not what an edge says: %w", method, c.base, path, err)
	}
	return answer, nil
}

// do returns the body of an answer that is a success.
func (c *Client) do(ctx context.Context, method, path string, body any, o WriteOptions) ([]byte, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s%s: encode the body: %w", method, c.base, path, err)
		}
		content = bytes.NewReader(data)
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := c.request(limited, method, path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", ContentTypeJSON)
	}
	if o.IfMatch != 0 {
		request.Header.Set("If-Match", `"`+strconv.FormatInt(o.IfMatch, 10)+`"`)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failed(ctx, request, err)
	}
	defer func() { _ = response.Body.Close() }() // read as far as wanted
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.failed(ctx, request, err)
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("%s %s: the answer is longer than %d MiB", method, request.URL, maxAnswer>>20)
	case response.StatusCode >= 300:
		return nil, fmt.Errorf("%s %s: %w", method, request.URL, readProblem(response, data))
	}
	return data, nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s%s: %w", method, c.base, path, err)
	}
	request.Header.Set("Accept", ContentTypeJSON)
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

// failed tells the caller's own end from that of the connection.
func (c *Client) failed(ctx context.Context, request *http.Request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", request.Method, request.URL, ctx.Err())
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // its text would name the URL again
	}
	return &UnreachableError{URL: c.base, Timeout: c.timeout, Err: err}
}

// readProblem makes an error of an answer that is none of an edge's, too.
func readProblem(response *http.Response, data []byte) *Problem {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	p := new(Problem)
	if kind == ContentTypeProblem && json.Unmarshal(data, p) == nil && p.Status == response.StatusCode {
		return p
	}
	text := strings.TrimSpace(string(data[:min(len(data), 200)]))
	return &Problem{
		Type:   ProblemBlank,
		Title:  http.StatusText(response.StatusCode),
		Status: response.StatusCode,
		Detail: "not a grayfed edge's answer; is this the URL of an admin listener? It said " + federation.Quote(text),
	}
}
