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
	s.dropOut(c.eng)
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
	p.await(ended)
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

// until is the engine's time at which nothing will have moved for too long.
func (p *pump) until() int64 {
	if p.idle <= 0 {
		return 0
	}
	return p.moved.Load() + int64(p.idle+sweepTick)
}

// await waits for the downward direction, which has no deadline of its own
// and would outlast a client that has ended its side and an upstream that
// says nothing more.
func (p *pump) await(ended <-chan struct{}) {
	if p.idle <= 0 {
		<-ended
		return
	}
	timer := time.NewTimer(p.idle)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return
		case <-timer.C:
		}
		if left := p.until() - p.c.eng.now.Load(); left > 0 {
			timer.Reset(time.Duration(left))
			continue
		}
		p.fail(exchange.FaultClient, errTimeout)
		<-ended
		return
	}
}

// fail ends both directions; the first failure stays.
func (p *pump) fail(fault exchange.Fault, err error) {
	if errors.Is(err, errInterrupted) {
		fault = exchange.FaultGateway // the other direction's is there already, so this is a drain
	}
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
			n, err := c.read(in.buf, p.until())
			if errors.Is(err, errTimeout) && p.until() > c.eng.now.Load() {
				continue // the other direction is alive
			}
			if errors.Is(err, io.EOF) {
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
		if errors.Is(err, io.EOF) {
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
