package http2

import (
	"errors"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

var errNoConnect = errors.New("endpoint does not enable extended CONNECT")

// mayConnect waits for the endpoint's settings, which say whether it knows
// extended CONNECT: RFC 8441, section 3.
func (call *call) mayConnect() *exchange.Error {
	call.l.flushElsewhere()
	select {
	case <-call.conn.greeted: // the connection ends if they do not come in time
	case <-call.readable: // the exchange was cancelled
	}
	call.l.mu.Lock()
	enabled, err := call.l.peer.connect, call.l.err
	if call.err != nil {
		err = call.err
	}
	call.l.mu.Unlock()
	switch {
	case err != nil:
		return call.failed(exchange.PhaseSend, err)
	case !enabled:
		return &exchange.Error{Phase: exchange.PhaseSend, Fault: exchange.FaultGateway, Status: 501, Err: errNoConnect}
	}
	return nil
}

// switchProtocol makes a tunnel of the stream.
func (call *call) switchProtocol() {
	req, resp := &call.x.Request, &call.x.Response
	resp.Status, resp.ContentLength, resp.Upgrade = 101, -1, req.Upgrade
	if key, ok := req.Header.GetName(webSocketKey); ok && exchange.EqualFold(req.Upgrade, websocket) {
		resp.Header.DelName(webSocketAccept)
		resp.Header.Add(webSocketAccept, webSocketAnswer(key))
	}
	resp.Tunnel = &upTunnel{call: call}
}

// upTunnel is the endpoint's side of a switched stream.
type upTunnel struct {
	call *call
	rest []byte // of the piece that was pulled last
}

var _ exchange.Tunnel = (*upTunnel)(nil)

// Read implements [exchange.Tunnel].
func (t *upTunnel) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		piece, err := t.call.pull(0, 0)
		if err != nil {
			return 0, err
		}
		t.rest = piece
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write implements [exchange.Tunnel].
func (t *upTunnel) Write(p []byte) (int, error) {
	if err := t.call.send(p, false, true, t.call.writeIdle()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite implements [exchange.Tunnel].
func (t *upTunnel) CloseWrite() error { return t.call.send(nil, true, true, t.call.writeIdle()) }

// Close implements [exchange.Tunnel]. It may be called while others read and
// write, which ends them.
func (t *upTunnel) Close() error {
	l := t.call.l
	l.mu.Lock()
	t.call.abort(http2.ErrCodeCancel, errInterrupted)
	l.flush()
	return nil
}
