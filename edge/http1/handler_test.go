package http1

import (
	"errors"
	"io"

	"github.com/grayfed/grayfed/edge/exchange"
)

// outcome is what a handler learns of an exchange's end.
type outcome struct {
	status int
	err    error
}

// outcomes makes a rig's proxy tell how its exchanges ended.
func outcomes(p *proxy) chan outcome {
	ended := make(chan outcome, 100)
	p.done = func(x *exchange.Exchange, err error) { ended <- outcome{x.Response.Status, err} }
	return ended
}

// failures makes a rig's proxy tell why attempts failed.
func failures(p *proxy) chan error {
	failed := make(chan error, 100)
	p.failed = func(err error) { failed <- err }
	return failed
}

// respondWith makes text the response.
func respondWith(x *exchange.Exchange, status int, text string) {
	body := new(exchange.BytesBody)
	body.Set([]byte(text))
	x.Response.Status, x.Response.Body, x.Response.ContentLength = status, body, int64(len(text))
}

// echo answers with the request's method, target and body.
func echo(x *exchange.Exchange) {
	var all []byte
	for x.Request.Body != nil {
		piece, err := x.Request.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			respondWith(x, exchange.AsError(err).Status, err.Error())
			return
		}
		all = append(all, piece...)
	}
	respondWith(x, 200, x.Request.Method+" "+x.Request.Path+" "+string(all))
}
