package edge

import (
	"net/http"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/gateway"
)

// pinged is the gateway, save that OPTIONS * is answered here: it asks for
// nothing but a sign of life (RFC 9110, section 9.3.7). No route can have it, no
// endpoint sees it, and neither access log nor request metrics count it: the
// other edges ask for it at every heartbeat.
type pinged struct{ *gateway.Gateway }

var _ exchange.Handler = pinged{}

// Serve implements [exchange.Handler].
func (p pinged) Serve(x *exchange.Exchange) {
	if !isPing(x) {
		p.Gateway.Serve(x)
		return
	}
	x.Response.Reset()
	x.Response.Status = http.StatusNoContent
}

// Done implements [exchange.Handler].
func (p pinged) Done(x *exchange.Exchange, err error) {
	if !isPing(x) {
		p.Gateway.Done(x, err)
	}
}

// isPing is true of OPTIONS alone: the path of any other request, as of what
// the gateway makes of it, begins with "/".
func isPing(x *exchange.Exchange) bool { return x.Request.Path == "*" }
