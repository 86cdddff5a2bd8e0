package http2

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

var errNotAsked = errors.New("protocol switch that nobody asked for")

// serveTunnel answers 200, which is what 101 is to an extended CONNECT, and
// carries bytes both ways until both sides have ended, one has failed, or
// nothing has moved for the idle time.
func (ss *serverStream) serveTunnel() *exchange.Error {
	x := &ss.exchange
	if x.Response.Status != 101 || x.Request.Upgrade == "" {
		return &exchange.Error{Phase: exchange.PhaseTunnel, Fault: exchange.FaultGateway, Wrote: true, Err: errNotAsked}
	}
	srv := ss.conn.srv
	srv.tunnels.Add(1)
	defer srv.tunnels.Add(-1)
	x.Response.Header.DelName(webSocketAccept)
	ss.encoded, _ = appendFields(appendStatus(ss.encoded[:0], 200), &x.Response.Header)
	if failure := ss.sendHead(false, true); failure != nil {
		return failure
	}
	idle := x.Timeouts.Idle
	if idle <= 0 {
		idle = srv.options.TunnelTimeout
	}
	p := &pump{ss: ss, tunnel: x.Response.Tunnel, idle: idle, ended: make(chan struct{})}
	p.moved.Store(ss.l.eng.now.Load())
	ss.l.eng.workers.do(p)
	p.up()
	p.await()
	_ = p.tunnel.Close() // what failed is in p already
	x.RequestBytes, x.ResponseBytes = p.sent, p.received
	return p.failure.Load()
}

// pump carries the bytes of a tunnel.
type pump struct {
	ss             *serverStream
	tunnel         exchange.Tunnel
	idle           time.Duration
	moved          atomic.Int64 // the engine's time when a byte last moved
	failure        atomic.Pointer[exchange.Error]
	sent, received int64
	ended          chan struct{} // closed when nothing comes down any more
}

var _ job = (*pump)(nil)

// run implements [job]: it is the downward direction.
func (p *pump) run() {
	defer close(p.ended)
	p.down()
}

// left is how long nothing may move yet.
func (p *pump) left() time.Duration {
	return time.Duration(p.moved.Load()+int64(p.idle+sweepTick)-p.ss.l.eng.now.Load()) * time.Nanosecond
}

// await waits for the downward direction, which has no deadline of its own
// and would outlast a client that has ended its side and an upstream that
// says nothing more.
func (p *pump) await() {
	if p.idle <= 0 {
		<-p.ended
		return
	}
	timer := time.NewTimer(p.idle)
	defer timer.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-timer.C:
		}
		if left := p.left(); left > 0 {
			timer.Reset(left)
			continue
		}
		p.fail(exchange.FaultClient, errTimeout)
		<-p.ended
		return
	}
}

// fail ends both directions; the first failure stays.
func (p *pump) fail(fault exchange.Fault, err error) {
	if errors.Is(err, errInterrupted) || errors.Is(err, errDrained) {
		fault = exchange.FaultGateway
	}
	failure := &exchange.Error{Phase: exchange.PhaseTunnel, Fault: fault, Wrote: true, Timeout: errors.Is(err, errTimeout), Err: err}
	p.failure.CompareAndSwap(nil, failure)
	_ = p.tunnel.Close() // it is given up
	l := p.ss.l
	l.mu.Lock()
	p.ss.fail(err)
	l.mu.Unlock()
}

// up carries what the client sends.
func (p *pump) up() {
	for {
		piece, err := p.ss.pull(p.idle, 0)
		switch {
		case errors.Is(err, errTimeout) && p.left() > 0:
			continue // the other direction is alive
		case errors.Is(err, io.EOF):
			if err = p.tunnel.CloseWrite(); err != nil {
				p.fail(exchange.FaultUpstream, err)
			}
			return
		case err != nil:
			p.fail(exchange.FaultClient, err)
			return
		}
		p.moved.Store(p.ss.l.eng.now.Load())
		n, err := p.tunnel.Write(piece)
		p.sent += int64(n)
		if err != nil {
			p.fail(exchange.FaultUpstream, err)
			return
		}
	}
}

// down carries what the upstream sends.
func (p *pump) down() {
	eng := p.ss.l.eng
	buf := eng.getBuffer(bufferLarge)
	defer eng.putBuffer(buf)
	for {
		n, err := p.tunnel.Read(buf.b)
		if n > 0 {
			p.moved.Store(eng.now.Load())
			if err := p.ss.send(buf.b[:n], false, true, p.idle); err != nil {
				p.fail(exchange.FaultClient, err)
				return
			}
			p.received += int64(n)
		}
		if errors.Is(err, io.EOF) {
			if err = p.ss.send(nil, true, true, p.idle); err != nil {
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
