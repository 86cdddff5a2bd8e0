package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

const (
	asking    = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
	switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
)

// tunnelled opens a tunnel through a rig and reads the 101.
func tunnelled(t *testing.T, rig *rig, ahead string) *client {
	t.Helper()
	c := rig.dial()
	c.send(asking + ahead)
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Upgrade") != "WebSocket" || response.Header.Get("Connection") != "Upgrade" || response.Header.Get("Sec-WebSocket-Accept") != "a" {
		t.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	return c
}

// TestTunnel carries bytes both ways at once, those sent together with the
// heads included, until each side has ended its own.
func TestTunnel(t *testing.T) {
	const size = 4 << 20
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		head := o.readUntil(nc, "\r\n\r\n")
		if !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") || strings.Contains(head, "keep-alive") || !strings.Contains(head, "Sec-WebSocket-Key: k") {
			t.Errorf("endpoint received %q", head)
		}
		_, _ = io.WriteString(nc, switching+"first")
		_, _ = io.Copy(nc, nc) // until the client's end
		_, _ = io.WriteString(nc, "last")
	})
	var ended chan outcome
	var counts [2]int64
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
		ended = outcomes(p)
		tell := p.done
		p.done = func(x *exchange.Exchange, err error) {
			counts = [2]int64{x.RequestBytes, x.ResponseBytes}
			tell(x, err)
		}
	})
	c := tunnelled(t, rig, "ahead")
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.Conn.(*net.TCPConn).CloseWrite())
	}()
	if got := c.ended(); got != "first"+"ahead"+string(data)+"last" {
		t.Errorf("%d bytes came back, beginning with %.20q, ending in %q", len(got), got, got[max(len(got)-20, 0):])
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if o := <-ended; o.err != nil || o.status != 101 {
		t.Errorf("%+v", o)
	}
	if want := [2]int64{size + 5, size + 14}; counts != want {
		t.Errorf("counted %v, want %v", counts, want)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestTunnelEnds: however a tunnel ends, both connections do.
func TestTunnelEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		endpoint func(nc net.Conn) // after the 101
		client   func(c *client)   // after the 101
		rig      func(rig *rig)    // after the 101
		fault    exchange.Fault    // unknown: none
	}{
		"by the endpoint": {func(nc net.Conn) { _ = nc.Close() }, nil, nil, exchange.FaultUnknown},
		"by the client":   {nil, func(c *client) { _ = c.Close() }, nil, exchange.FaultUnknown},
		"by the endpoint's reset": {
			func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); _ = nc.Close() }, nil, nil, exchange.FaultUpstream,
		},
		"by the client's reset": {
			nil, func(c *client) { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Close() }, nil, exchange.FaultClient,
		},
		"by silence": {nil, nil, nil, exchange.FaultClient},
		"by silence after the client's end": {
			nil, func(c *client) { _ = c.Conn.(*net.TCPConn).CloseWrite() }, nil, exchange.FaultClient,
		},
		"by silence after the endpoint's end": {
			func(nc net.Conn) { _ = nc.(*net.TCPConn).CloseWrite() }, nil, nil, exchange.FaultClient,
		},
		"by a drain": {nil, nil, func(rig *rig) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = rig.server.Drain(ctx)
		}, exchange.FaultGateway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			origin := newOrigin(t, func(o *origin, nc net.Conn) {
				o.readUntil(nc, "\r\n\r\n")
				_, _ = io.WriteString(nc, switching)
				o.readUntil(nc, "go")
				if test.endpoint != nil {
					test.endpoint(nc)
				}
				if name == "by silence after the client's end" {
					o.readUntil(nc, "never") // its end
					_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
					for {
						if _, err := nc.Write([]byte("x")); err != nil {
							break
						}
						<-gone
					}
					return
				}
				o.readUntil(nc, "never")
			})
			var ended chan outcome
			rig, transport := newProxyRig(t, origin.address, func(o *Options, _ *TransportOptions, p *proxy) {
				ended = outcomes(p)
				o.TunnelTimeout = time.Minute
				if strings.Contains(name, "silence") {
					o.TunnelTimeout = 300 * time.Millisecond
				}
			})
			c := tunnelled(t, rig, "go")
			if test.client != nil {
				test.client(c)
			}
			if test.rig != nil {
				test.rig(rig)
			}
			if name == "by the endpoint" {
				if rest := c.ended(); rest != "" {
					t.Errorf("%q", rest)
				}
				_ = c.Close()
			}
			failure := exchange.AsError((<-ended).err)
			if (failure == nil) != (test.fault == exchange.FaultUnknown) || failure != nil && failure.Fault != test.fault {
				t.Errorf("%+v", failure)
			}
			close(gone)
			eventually(t, "both connections are closed", func() bool { return transport.Stats().Open == 0 && rig.server.Stats().Ended == 1 })
		})
	}
}

// TestSilentSideOfATunnel: a tunnel in which only one side speaks is alive.
func TestSilentSideOfATunnel(t *testing.T) {
	t.Parallel()
	const short = 300 * time.Millisecond
	for name, speaks := range map[string]func(from, to io.ReadWriter, pass func()){
		"the client":   func(client, endpoint io.ReadWriter, pass func()) { one(t, client, endpoint, pass) },
		"the endpoint": func(client, endpoint io.ReadWriter, pass func()) { one(t, endpoint, client, pass) },
	} {
		ends, hold := make(chan net.Conn, 1), make(chan struct{})
		origin := newOrigin(t, func(o *origin, nc net.Conn) {
			o.readUntil(nc, "\r\n\r\n")
			_, _ = io.WriteString(nc, switching)
			ends <- nc
			<-hold
		})
		rig, _ := newProxyRig(t, origin.address, func(o *Options, _ *TransportOptions, _ *proxy) { o.TunnelTimeout = short })
		c := tunnelled(t, rig, "")
		speaks(c.Conn, <-ends, func() {
			from := rig.engine.now.Load()
			eventually(t, "time passes", func() bool { return rig.engine.now.Load() > from+int64(short/2) })
		})
		if rig.server.Stats().Tunnels != 1 {
			t.Errorf("only %s spoke: the tunnel has ended", name)
		}
		close(hold)
	}
}

// one sends a byte, waits, and does it again for a while.
func one(t *testing.T, from, to io.ReadWriter, pass func()) {
	t.Helper()
	for range 6 {
		if _, err := from.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		pass()
	}
}

// TestSwitchesThatAreNone: only what the client asked for and the endpoint
// agreed to is a switch; all else is HTTP.
func TestSwitchesThatAreNone(t *testing.T) {
	const refusal = "HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno"
	for name, test := range map[string]struct {
		request, response string
		status            int
		passed            bool // the wish reaches the endpoint
	}{
		"refused":               {asking, refusal, 426, true},
		"another protocol":      {asking, strings.Replace(switching, "WebSocket", "h3", 1), 502, true},
		"no protocol":           {asking, strings.Replace(switching, "Upgrade: WebSocket\r\n", "", 1), 502, true},
		"two protocols":         {asking, strings.Replace(switching, "WebSocket", "WebSocket, h3", 1), 502, true},
		"not in Connection":     {asking, strings.Replace(switching, "Connection: upgrade\r\n", "", 1), 502, true},
		"not asked for":         {get + "\r\n", switching, 502, false},
		"not in the Connection": {strings.Replace(asking, ", Upgrade", "", 1), refusal, 426, false},
		"two wishes":            {strings.Replace(asking, "websocket", "websocket, irc", 1), refusal, 426, false},
		"in two fields":         {strings.Replace(asking, "Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: irc", 1), refusal, 426, false},
		"HTTP/2":                {strings.Replace(asking, "websocket", "h2c", 1), refusal, 426, false},
		"TLS":                   {strings.Replace(asking, "websocket", "TLS/1.0", 1), refusal, 426, false},
		"from HTTP/1.0":         {strings.Replace(asking, "HTTP/1.1", "HTTP/1.0", 1), refusal, 426, false},
		"with a body":           {strings.Replace(asking, "Host", "Content-Length: 2\r\nHost", 1) + "ab", refusal, 426, false},
	} {
		origin := newOrigin(t, answering(test.response))
		rig, _ := newProxyRig(t, origin.address, nil)
		c := rig.dial()
		c.send(test.request)
		if response := c.receive(http.MethodGet); response.status != test.status {
			t.Errorf("%s: %+v", name, response)
		}
		if passed := strings.Contains(origin.all(), "Upgrade: "); passed != test.passed {
			t.Errorf("%s: endpoint received %q", name, origin.all())
		}
		if test.status == 426 && name != "from HTTP/1.0" { // the connection goes on as HTTP
			c.send(get + "\r\n")
			c.receive(http.MethodGet)
		}
	}
}
