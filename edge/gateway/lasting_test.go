package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/federation"
)

// chat switches protocols and echoes.
func chat(name string) func(*origin, net.Conn, string) bool {
	return func(_ *origin, nc net.Conn, head string) bool {
		if !strings.Contains(head, "Upgrade: websocket") {
			return answering(name)(nil, nc, head)
		}
		_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Who: "+name+"\r\n\r\n")
		_, _ = io.Copy(nc, nc)
		return false
	}
}

// upgrade asks for a WebSocket. It returns who answered, and with what status.
func (r *rig) upgrade(fields string) (c *client, status int, who string) {
	r.t.Helper()
	c = r.dial()
	c.send("GET /chat HTTP/1.1\r\nHost: users.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + fields + "\r\n")
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = response.Body.Close()
	return c, response.StatusCode, response.Header.Get("X-Who")
}

func (c *client) echoes() {
	c.t.Helper()
	c.send("ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "ping" {
		c.t.Fatalf("%q, %v", got, err)
	}
}

// Upgrades take the lane of their tag like any request.
func TestUpgradesAreReleased(t *testing.T) {
	r := newRig(t, firstByID)
	r.configure(usersConfig(federation.Strict))
	r.stage(place{"a", "az1", "v1", chat("stable")}, place{"b", "az2", "v2", chat("canary")})
	c, status, who := r.upgrade(tagged + "\r\n")
	if status != http.StatusSwitchingProtocols || who != "canary" {
		t.Fatalf("%d from %q", status, who)
	}
	c.echoes()
	// The twins: without a tag, and with one whose release has nothing usable.
	if _, status, who = r.upgrade(""); status != http.StatusSwitchingProtocols || who != "stable" {
		t.Errorf("%d from %q", status, who)
	}
	r.register(instance("a", "az1", "v1", "10.0.0.1:80"))
	if _, status, _ = r.upgrade(tagged + "\r\n"); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	c.echoes() // it goes on, as its endpoint was only let go
}

// Tunnels and streams go on at an endpoint that drains or is gone for as long as
// the drain timeout, and are ended then.
func TestLastingIsDrained(t *testing.T) {
	for name, leave := range map[string]func(r *rig, leaves, stays *federation.Instance){
		"draining": func(r *rig, leaves, _ *federation.Instance) { leaves.Draining = true; r.put(leaves); r.follow() },
		"gone":     func(r *rig, _, stays *federation.Instance) { r.register(stays) },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			r := newRig(t, func(o *Options) {
				patient(t)(o)
				o.DrainTimeout = 10 * time.Second
				o.Now = func() time.Time { return now }
			})
			r.configure(usersConfig(federation.Strict))
			events, open := stream("text/event-stream")
			defer close(open)
			origin := newOrigin(t, func(o *origin, nc net.Conn, head string) bool {
				if strings.Contains(head, "Upgrade: websocket") {
					return chat("a")(o, nc, head)
				}
				return events(o, nc, head)
			})
			leaves := instance("a", "az1", "v1", origin.address)
			stays := instance("b", "az2", "v2", newOrigin(t, chat("b")).address)
			r.register(leaves, stays)
			keeps, _, _ := r.upgrade(tagged + "\r\n")
			tunnel, _, _ := r.upgrade("")
			sse := r.dial()
			sse.send("GET /events HTTP/1.1\r\nHost: users.test\r\n\r\n")
			response, err := http.ReadResponse(sse.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()

			left, stayed := *leaves, *stays
			leave(r, &left, &stayed)
			r.gateway.Refresh(now.Add(9 * time.Second))
			tunnel.echoes()
			r.gateway.Refresh(now.Add(10 * time.Second))
			if _, err := tunnel.r.ReadByte(); err == nil {
				t.Error("the tunnel goes on")
			}
			if _, err := io.ReadAll(response.Body); err == nil {
				t.Error("the stream ended as if it were whole")
			}
			keeps.echoes() // the twin: an endpoint that does not leave
		})
	}
}

func TestIsStream(t *testing.T) {
	for _, test := range []struct {
		status      int
		contentType string
		length      int64
		body        exchange.Body
		want        bool
	}{
		{200, "text/event-stream", -1, &exchange.BytesBody{}, true},
		{404, "application/grpc", -1, &exchange.BytesBody{}, true},
		{200, "text/event-stream", 5, &exchange.BytesBody{}, false},
		{200, "text/event-stream", -1, nil, false}, // an answer to HEAD
		{200, "text/html", -1, &exchange.BytesBody{}, false},
		{503, "text/event-stream", -1, &exchange.BytesBody{}, false},
	} {
		resp := &exchange.Response{Status: test.status, ContentLength: test.length, Body: test.body}
		resp.Header.Add("content-type", test.contentType)
		if got := isStream(resp); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// The same on a route that is gone, or leads elsewhere.
func TestRetiredRoutesAreDrained(t *testing.T) {
	for name, change := range map[string]func(*Route){
		"gone":            func(r *Route) { r.ID = "renamed" },
		"leads elsewhere": func(r *Route) { r.Service = "other" },
		"stays":           func(r *Route) { r.Total = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			r := newRig(t, func(o *Options) {
				patient(t)(o)
				o.DrainTimeout = 10 * time.Second
				o.Now = func() time.Time { return now }
			})
			r.configure(usersConfig(federation.Strict))
			r.stage(place{"a", "az1", "v1", chat("a")})
			c, _, _ := r.upgrade("")
			config := usersConfig(federation.Strict)
			change(&config.Routes[0])
			r.configure(config)
			r.gateway.Refresh(now.Add(9 * time.Second))
			c.echoes()
			r.gateway.Refresh(now.Add(10 * time.Second))
			if name == "stays" {
				c.echoes()
			} else if _, err := c.r.ReadByte(); err == nil {
				t.Error("the tunnel goes on")
			}
			// What is gone for long is forgotten.
			r.gateway.Refresh(now.Add(time.Hour))
			if n := len(r.gateway.leaving.routes); n != 0 {
				t.Errorf("%d routes remembered", n)
			}
		})
	}
}

// What drained and went without ever being asked leaves nothing behind.
func TestLeavingIsForgotten(t *testing.T) {
	r := newRig(t, patient(t))
	r.configure(usersConfig(federation.Strict))
	i := instance("a", "az1", "v1", "10.0.0.1:80")
	i.Draining = true
	r.register(i)
	r.gateway.Refresh(time.Now())
	if n := len(r.gateway.leaving.endpoints); n != 1 {
		t.Errorf("%d endpoints leave, want 1", n)
	}
	r.register()
	r.gateway.Refresh(time.Now())
	if n := len(r.gateway.leaving.endpoints); n != 0 {
		t.Errorf("%d endpoints remembered", n)
	}
}

// An endpoint that takes requests again keeps what lasts.
func TestDrainingTakenBack(t *testing.T) {
	now := time.Now()
	r := newRig(t, func(o *Options) {
		patient(t)(o)
		o.DrainTimeout = 10 * time.Second
		o.Now = func() time.Time { return now }
	})
	r.configure(usersConfig(federation.Strict))
	address := newOrigin(t, chat("a")).address
	r.register(instance("a", "az1", "v1", address))
	c, _, _ := r.upgrade("")
	for _, draining := range []bool{true, false} {
		i := instance("a", "az1", "v1", address)
		i.Draining = draining
		r.put(i)
		r.follow()
	}
	r.gateway.Refresh(now.Add(time.Hour))
	c.echoes()
}

// tunnelUpstream switches at once; of the first exchange it lets the zone be
// lost in the same moment.
type tunnelUpstream struct {
	lose    func()
	tunnels []*countedTunnel
}

// countedTunnel knows whether it was closed.
type countedTunnel struct {
	exchange.Tunnel
	closed int
}

func (t *countedTunnel) Close() error { t.closed++; return nil }

func (u *tunnelUpstream) RoundTrip(x *exchange.Exchange) error {
	tunnel := &countedTunnel{}
	u.tunnels = append(u.tunnels, tunnel)
	x.Response.Status, x.Response.Upgrade, x.Response.Tunnel = 101, x.Request.Upgrade, tunnel
	if len(u.tunnels) == 1 {
		u.lose()
	}
	return nil
}

func (*tunnelUpstream) Close() error { return nil }

// A tunnel that was made while its request was moved is not kept beside the
// one that the client gets.
func TestMovedTunnelCloses(t *testing.T) {
	upstream := new(tunnelUpstream)
	g, prepare, x := pipeline(t, func(_ *Config, o *Options) {
		patient(t)(o)
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
	})
	prepare(x)
	x.Request.Upgrade = "chat"
	c := g.newCall(x)
	upstream.lose = func() {
		e := c.awaits.Load()
		if e == nil || !c.awaits.CompareAndSwap(e, &g.waiting.claimed) {
			t.Error("the request does not wait")
		}
		x.Cancel(exchange.ErrZoneLost)
		c.awaits.Store(nil)
	}
	g.Serve(x)
	if len(upstream.tunnels) != 2 || upstream.tunnels[0].closed != 1 || upstream.tunnels[1].closed != 0 || x.Response.Tunnel != upstream.tunnels[1] {
		t.Errorf("%d tunnels, the first closed %d times", len(upstream.tunnels), upstream.tunnels[0].closed)
	}
	g.Done(x, nil)
}
