package http1

import (
	"sync"

	"github.com/grayfed/grayfed/edge/exchange"
)

// upTunnel is the endpoint's side of a switched connection.
type upTunnel struct {
	call  *call
	c     *upConn
	close sync.Once
}

var _ exchange.Tunnel = (*upTunnel)(nil)

// Read implements [exchange.Tunnel]. What came together with the response's
// head comes first.
func (t *upTunnel) Read(p []byte) (int, error) {
	if in := &t.call.in; in.r < in.w {
		n := copy(p, in.buf[in.r:in.w])
		in.r += n
		return n, nil
	}
	return t.c.read(p, 0)
}

// Write implements [exchange.Tunnel].
func (t *upTunnel) Write(p []byte) (int, error) { return t.c.write(p, t.call.writeIdle()) }

// CloseWrite implements [exchange.Tunnel].
func (t *upTunnel) CloseWrite() error { return t.c.closeWrite() }

// Close implements [exchange.Tunnel]. It may be called while others read and
// write, which ends them.
func (t *upTunnel) Close() error {
	t.close.Do(func() { t.c.interrupt() })
	return nil
}
