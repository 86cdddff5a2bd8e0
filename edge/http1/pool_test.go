package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestPoolIsBounded(t *testing.T) {
	origin := newOrigin(t, answering(plainOK))
	hold := make(chan struct{})
	var failed chan error
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, o *TransportOptions, p *proxy) {
		o.MaxConns, o.MaxIdle = 3, 2
		failed = failures(p)
		p.served = func(x *exchange.Exchange) {
			if x.Request.Path == "/held" {
				<-hold // its connection is in use as long as nobody pulls the body
			}
		}
	})
	var held []*client
	for i := range 3 {
		c := rig.dial()
		c.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
		eventually(t, "it is under way", func() bool { return origin.conns.Load() == int64(i+1) })
		held = append(held, c)
	}
	c := rig.dial()
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.status != 502 {
		t.Errorf("beyond the limit: %+v", response)
	}
	if e := exchange.AsError(<-failed); !errors.Is(e, exchange.ErrPoolExhausted) || e.Fault != exchange.FaultGateway || e.Wrote {
		t.Errorf("beyond the limit: %v", e)
	}
	close(hold)
	for _, c := range held {
		if response := c.receive(http.MethodGet); response.body != "ok" {
			t.Errorf("%+v", response)
		}
	}
	eventually(t, "one connection too many is closed", func() bool { return transport.Stats() == TransportStats{Open: 2, Idle: 2} })
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.body != "ok" || origin.conns.Load() != 3 {
		t.Errorf("%+v over connection %d", response, origin.conns.Load())
	}
	if err := transport.Close(); err != nil {
		t.Fatal(err)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("closed: %+v", stats)
	}
	c.send(get + "\r\n")
	c.receive(http.MethodGet)
	if err := <-failed; !errors.Is(err, exchange.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	origin := newOrigin(t, answering(plainOK))
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, o *TransportOptions, _ *proxy) { o.IdleTimeout = 200 * time.Millisecond })
	c := rig.dial()
	c.send(get + "\r\n")
	c.receive(http.MethodGet)
	eventually(t, "the connection is closed", func() bool { return transport.Stats().Open == 0 })
	c.send(get + "\r\n")
	if response := c.receive(http.MethodGet); response.body != "ok" {
		t.Errorf("%+v", response)
	}
}

// TestDeadConnectionsAreNotUsed: an endpoint that has closed its unused
// connections, or speaks on them unasked, costs no request, of any method.
func TestDeadConnectionsAreNotUsed(t *testing.T) {
	for name, end := range map[string]func(nc net.Conn){
		"closed": func(nc net.Conn) { _ = nc.Close() },
		"reset":  func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); _ = nc.Close() },
		"speaks": func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n") },
	} {
		const conns = 3
		endNow, over := make(chan struct{}), make(chan struct{}, conns)
		first := conns
		origin := newOrigin(t, func(o *origin, nc net.Conn) {
			old := o.conns.Load() <= int64(first)
			for o.readUntil(nc, "\r\n\r\n") != "" {
				if _, err := io.WriteString(nc, plainOK); err != nil {
					return
				}
				if old {
					<-endNow
					end(nc)
					over <- struct{}{}
					o.readUntil(nc, "never")
					return
				}
			}
		})
		var failed chan error
		hold := make(chan struct{})
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
			failed = failures(p)
			p.served = func(*exchange.Exchange) { <-hold }
		})
		var clients []*client
		for i := range conns {
			c := rig.dial()
			c.send(get + "\r\n")
			eventually(t, "it is under way", func() bool { return origin.conns.Load() == int64(i+1) })
			clients = append(clients, c)
		}
		close(hold)
		for _, c := range clients {
			c.receive(http.MethodGet)
		}
		eventually(t, "all are unused", func() bool { return transport.Stats().Idle == conns })
		close(endNow)
		for range conns {
			<-over
		}
		clients[0].send("POST / HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\r\n")
		if response := clients[0].receive(http.MethodPost); response.status != 200 || response.body != "ok" || len(failed) > 0 {
			t.Errorf("%s: %+v, %d attempts failed", name, response, len(failed))
		}
		if stats := transport.Stats(); stats.Open != 1 || origin.conns.Load() != conns+1 {
			t.Errorf("%s: %+v after %d connections", name, stats, origin.conns.Load())
		}
		if strings.Count(origin.all(), "POST") != 1 {
			t.Errorf("%s: %q", name, origin.all())
		}
	}
}

// TestReusedConnectionThatEndsUnderARequest is the race that cannot be seen
// beforehand: the caller is told all that it needs to decide on another try.
func TestReusedConnectionThatEndsUnderARequest(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		o.readUntil(nc, "\r\n\r\n")
		_, _ = io.WriteString(nc, plainOK)
		o.readUntil(nc, "\r\n\r\n")
	})
	var failed chan error
	rig, _ := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { failed = failures(p) })
	c := rig.dial()
	for range 2 {
		c.send(get + "\r\n")
		c.receive(http.MethodGet)
	}
	if e := exchange.AsError(<-failed); !e.Reused || !e.Wrote || e.Phase != exchange.PhaseAwait || e.Fault != exchange.FaultUpstream {
		t.Errorf("%+v", e)
	}
}
