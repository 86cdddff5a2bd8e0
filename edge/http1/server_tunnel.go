package http1

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// serveTunnel answers 101 and carries bytes both ways until both sides have
// ended, one has failed, or nothing has moved for the idle time.
func (c *serverConn) serveTunnel(x *exchange.Exchange) *exchange.Error {
	s := c.sess
	tunnel := x.Response.Tunnel
	if x.Response.Status != 101 || x.Request.Upgrade == "" {
		return &exchange.Error{Phase: exchange.PhaseTunnel, Fault: exchange.FaultGateway, Wrote: true, Err: errNotAsked}
	}
	c.phase.Store(phaseTunnel)
	defer c.phase.Store(phaseBusy)
	// From here on each side's end is seen by reading.
	if c.servingSince.Swap(0) == beingChecked {
		c.checking.Lock()
		c.servingSince.Store(0)
		c.checking.Unlock()
	}
	out := append(s.takeOut(c.eng), statusLines[101]...)
	out = append(out, "Connection: Upgrade\r\nUpgrade: "...)
	out = append(out, x.Response.Upgrade...)
	out = append(out, "\r\n"...)
	out, _ = appendFields(out, &x.Response.Header)
	s.out = append(out, "\r\n"...)
	if failure := c.flush(); failure != nil {
		return failure
	}
	idle := x.Timeouts.Idle
	if idle <= 0 {
		idle = c.srv.options.TunnelTimeout
	}
	p := &pump{c: c, tunnel: tunnel, idle: idle}
	p.moved.Store(c.eng.now.Load())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.down()
	}()
	p.up()
	<-ended
	_ = tunnel.Close() // what failed is in p already
	x.RequestBytes, x.ResponseBytes = p.sent, p.received
	return p.failure.Load()
}

var errNotAsked = errors.New("protocol switch that nobody asked for")

// pump carries the bytes of a tunnel.
type pump struct {
	c              *serverConn
	tunnel         exchange.Tunnel
	idle           time.Duration
	moved          atomic.Int64 // the engine's time when a byte last moved
	failure        atomic.Pointer[exchange.Error]
	sent, received int64
}

// fail ends both directions; the first failure stays.
func (p *pump) fail(fault exchange.Fault, err error) {
	failure := &exchange.Error{Phase: exchange.PhaseTunnel, Fault: fault, Wrote: true, Timeout: errors.Is(err, errTimeout), Err: err}
	p.failure.CompareAndSwap(nil, failure)
	_ = p.tunnel.Close() // it is given up
	p.c.interrupt()
}

// up carries what the client sends.
func (p *pump) up() {
	c := p.c
	in := &c.sess.in
	for {
		if in.r == in.w {
			in.r, in.w = 0, 0
			n, err := c.read(in.buf, c.eng.until(p.idle))
			if errors.Is(err, errTimeout) && c.eng.now.Load()-p.moved.Load() < int64(p.idle) {
				_ = c.nc.SetReadDeadline(time.Time{}) // the other direction is alive
				continue
			}
			if err == io.EOF {
				if err = p.tunnel.CloseWrite(); err != nil {
					p.fail(exchange.FaultUpstream, err)
				}
				return
			}
			if err != nil {
				p.fail(exchange.FaultClient, err)
				return
			}
			in.w = n
		}
		p.moved.Store(c.eng.now.Load())
		n, err := p.tunnel.Write(in.buf[in.r:in.w])
		in.r += n
		p.sent += int64(n)
		if err != nil {
			p.fail(exchange.FaultUpstream, err)
			return
		}
	}
}

// down carries what the upstream sends.
func (p *pump) down() {
	c := p.c
	buf := c.eng.getBuffer()
	defer c.eng.putBuffer(buf)
	for {
		n, err := p.tunnel.Read(buf.b)
		if n > 0 {
			p.moved.Store(c.eng.now.Load())
			sent, err := c.write(buf.b[:n], p.idle)
			p.received += int64(sent)
			if err != nil {
				p.fail(exchange.FaultClient, err)
				return
			}
		}
		if err == io.EOF {
			if err = c.closeWrite(); err != nil {
				p.fail(exchange.FaultClient, err)
			}
			return
		}
		if err != nil {
			p.fail(exchange.FaultUpstream, err)
			return
		}
	}
}
