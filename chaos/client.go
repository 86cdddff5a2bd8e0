package chaos

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// Headers and body of what the load sends.
const (
	tagHeader = "x-release-tag"
	postBody  = `{"name":"drill"}`
)

// client sends requests to the edges of a target.
type client struct {
	request *Request
	timeout time.Duration
	doors   []*door // by edge
	secure  []*door // by edge; nil where it has no TLS listener
	texts   map[requestKind][]byte
	zones   map[string]int
	dns     *resolvers // nil: the target has no DNS
}

var _ asker = (*client)(nil)

// requestKind is what the bytes of a request depend on.
type requestKind struct {
	edge  int
	tls   bool
	class class
	post  bool
}

func newClient(l *Load, t *Target) (*client, error) {
	c := &client{
		request: &t.Request, timeout: l.Timeout,
		texts: make(map[requestKind][]byte), zones: make(map[string]int),
	}
	for n, e := range t.Edges {
		c.zones[e.Zone] = n
		plain, err := newDoor(e.Data, t.Roots, l.Reconnect)
		if err != nil {
			return nil, err
		}
		var secure *door
		if e.TLS != "" {
			if secure, err = newDoor(e.TLS, t.Roots, l.Reconnect); err != nil {
				return nil, err
			}
		}
		c.doors, c.secure = append(c.doors, plain), append(c.secure, secure)
		for class := range class(classCount) {
			for _, post := range []bool{false, true} {
				c.texts[requestKind{n, false, class, post}] = c.text(plain.address, class, post)
				if secure != nil {
					c.texts[requestKind{n, true, class, post}] = c.text(secure.address, class, post)
				}
			}
		}
	}
	if len(t.DNS.Servers) > 0 {
		resolvers, err := newResolvers(t)
		if err != nil {
			return nil, err
		}
		c.dns = resolvers
	}
	return c, nil
}

// text is the bytes of a request.
func (c *client) text(address string, class class, post bool) []byte {
	method, body := http.MethodGet, ""
	if post {
		method, body = http.MethodPost, postBody
	}
	var b strings.Builder
	host := c.request.Host
	if host == "" {
		host = address
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, c.request.Path, host)
	switch class {
	case untagged:
	case permissive:
		fmt.Fprintf(&b, "%s: %s\r\n", tagHeader, c.request.Permissive.Tag)
	case strict:
		fmt.Fprintf(&b, "%s: %s\r\n", tagHeader, c.request.Strict.Tag)
	}
	if post {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(b.String() + "\r\n" + body)
}

// ask implements asker.
func (c *client) ask(ctx context.Context, j job, o *outcome) {
	if o.byDNS() {
		begun := time.Now()
		edge, err := c.dns.next(ctx)
		o.resolved = time.Since(begun)
		if err != nil {
			o.fail("dns: " + err.Error())
			return
		}
		o.entry = edge
	}
	d := c.doors[o.entry]
	if j.tls {
		d = c.secure[o.entry]
	}
	answer, err := d.ask(ctx, c.texts[requestKind{o.entry, j.tls, j.class, j.post}], !j.post, c.timeout)
	if err != nil {
		o.fail(plainly(err))
		return
	}
	if answer.status != http.StatusOK {
		o.fail(refusal(&answer))
		return
	}
	version, zone := c.who(&answer)
	if version == "" {
		o.fail("an answer that names no version")
		return
	}
	if n, known := c.zones[zone]; known {
		o.zone = n
	}
	o.answeredBy(version, c.request)
}

func (c *client) who(answer *response) (version, zone string) {
	var body struct{ Version, Zone string }
	if c.request.VersionHeader == "" || c.request.ZoneHeader == "" {
		// What is not JSON names nobody.
		_ = json.Unmarshal(answer.body, &body)
	}
	if c.request.VersionHeader != "" {
		body.Version = answer.header.Get(c.request.VersionHeader)
	}
	if c.request.ZoneHeader != "" {
		body.Zone = answer.header.Get(c.request.ZoneHeader)
	}
	return body.Version, body.Zone
}

func (c *client) close() {
	for n := range c.doors {
		c.doors[n].close()
		if c.secure[n] != nil {
			c.secure[n].close()
		}
	}
}

// refusal is an answer that is none, as an edge explains it, without what
// differs from request to request.
func refusal(answer *response) string {
	var problem struct{ Detail, Reason string }
	text := fmt.Sprintf("answered %d", answer.status)
	if json.Unmarshal(answer.body, &problem) == nil && problem.Detail != "" {
		text += " " + problem.Detail
		if problem.Reason != "" {
			text += " (" + problem.Reason + ")"
		}
	}
	return text[:min(len(text), 200)]
}

// plainly is a failure of the network without what differs from request to
// request.
func plainly(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "TLS handshake: the certificate has expired" // without the moment
	}
	dialed := ""
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		dialed = "connect: "
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return dialed + "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return dialed + "connection reset"
	case errors.Is(err, syscall.EPIPE):
		return dialed + "connection closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return dialed + "no route"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return dialed + "no answer in time"
	case errors.Is(err, context.Canceled):
		return dialed + "cut short by the drill's end"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return dialed + "connection closed before the answer"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	text := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok {
		text = op.Op + ": " + op.Err.Error()
	}
	return text[:min(len(text), 200)]
}
