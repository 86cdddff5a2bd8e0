// Package redirect answers requests with where they are on HTTPS. It stands in
// the gateway's place behind a listener that serves nothing else, so that
// neither listener nor codec decides on requests.
package redirect

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/grayfed/grayfed/edge/exchange"
)

// Handler sends every request to the same host, path and query on HTTPS, with
// 308 (Permanent Redirect), which keeps the method and the body.
type Handler struct {
	port string // ":8443"; empty for HTTPS's own
}

var _ exchange.Handler = (*Handler)(nil)

// New returns a handler for HTTPS on a port, 1 to 65535.
func New(port int) (*Handler, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("redirect to port %d, allowed 1 to 65535", port)
	}
	h := &Handler{}
	if port != 443 {
		h.port = ":" + strconv.Itoa(port)
	}
	return h, nil
}

// Serve implements [exchange.Handler]. A request that names no host, which
// HTTP/1.0 allows, gets 400: there is nowhere to send it.
func (h *Handler) Serve(x *exchange.Exchange) {
	x.Response.Reset()
	host := withoutPort(x.Request.Authority)
	if host == "" {
		x.Response.Status = 400
		return
	}
	target := "https://" + host + h.port
	if strings.HasPrefix(x.Request.Path, "/") { // "*" is no path
		target += x.Request.Path
		if x.Request.HasQuery {
			target += "?" + x.Request.Query
		}
	}
	x.Response.Status = 308
	x.Response.Header.Add("Location", target)
}

// Done implements [exchange.Handler].
func (h *Handler) Done(*exchange.Exchange, error) {}

// withoutPort is the host of an authority, an IPv6 address in its brackets.
func withoutPort(authority string) string {
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		return authority[:colon]
	}
	return authority
}
