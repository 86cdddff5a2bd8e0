package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// TestEarlyResponse: the endpoint answers and reads no further while the
// client still sends; the client hears it, and both connections end.
func TestEarlyResponse(t *testing.T) {
	for name, response := range map[string]string{
		"with a body":    "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
		"with chunks":    "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
		"without a body": "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
	} {
		for _, framed := range []string{
			"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n",
			chunked("3b9aca00\r\n"),
		} {
			for _, reads := range []bool{true, false} {
				origin := newOrigin(t, func(o *origin, nc net.Conn) {
					o.readUntil(nc, "\r\n\r\n")
					_, _ = io.WriteString(nc, response)
					if reads {
						_, _ = io.Copy(io.Discard, nc)
						return
					}
					o.readUntil(nc, "never, because nothing so long comes")
				})
				var ended chan outcome
				rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { ended = outcomes(p) })
				c := rig.dial()
				c.send(framed)
				sent := make(chan int, 1)
				go func() {
					total := 0
					for piece := make([]byte, 32<<10); ; {
						n, err := c.Write(piece)
						if total += n; err != nil {
							sent <- total
							return
						}
					}
				}()
				got := c.receive(http.MethodPost)
				if got.status != 413 || !got.closes || (got.body == "no") == (name == "without a body") {
					t.Errorf("%s: %+v", name, got)
				}
				if o := <-ended; o.err != nil || o.status != 413 {
					t.Errorf("%s: %+v", name, o)
				}
				_ = c.Close()
				if n := <-sent; n >= 1_000_000_000 {
					t.Errorf("%s: all was sent", name)
				}
				if stats := transport.Stats(); stats.Open != 0 {
					t.Errorf("%s: %+v", name, stats)
				}
			}
		}
	}
}

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	short := func(errno syscall.Errno) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("socket: %w", errno)}
		}
	}
	for name, test := range map[string]struct {
		dial    func(context.Context, string, string) (net.Conn, error)
		cancel  error
		fault   exchange.Fault
		timeout bool
	}{
		"refused":           {nil, nil, exchange.FaultUpstream, false},
		"no answer":         {hang, nil, exchange.FaultUpstream, true},
		"cancelled":         {hang, exchange.ErrZoneLost, exchange.FaultGateway, false},
		"client gone":       {hang, exchange.ErrClientGone, exchange.FaultClient, false},
		"no descriptors":    {short(syscall.EMFILE), nil, exchange.FaultGateway, false},
		"no local port":     {short(syscall.EADDRNOTAVAIL), nil, exchange.FaultGateway, false},
		"no route to there": {short(syscall.EHOSTUNREACH), nil, exchange.FaultUpstream, false},
	} {
		transport := newTestTransport(t, newTestEngine(t), refusing, func(o *TransportOptions) {
			o.Dial = test.dial
			o.ConnectTimeout = 100 * time.Millisecond
		})
		x := new(exchange.Exchange)
		x.Request = exchange.Request{Method: "GET", Path: "/"}
		if test.cancel != nil {
			x.Timeouts.Connect = time.Minute
			go x.Cancel(test.cancel)
		}
		e := exchange.AsError(transport.RoundTrip(x))
		if e == nil || e.Phase != exchange.PhaseConnect || e.Wrote || e.Fault != test.fault || e.Timeout != test.timeout || test.cancel != nil && !errors.Is(e, test.cancel) {
			t.Errorf("%s: %+v", name, e)
		}
		if stats := transport.Stats(); stats.Open != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// TestTimeoutsOfEndpoints: each wait for an endpoint has its bound, and a
// bound that is kept ends nothing.
func TestTimeoutsOfEndpoints(t *testing.T) {
	t.Parallel()
	const short = 300 * time.Millisecond
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		switch head := o.readUntil(nc, "\r\n\r\n"); {
		case strings.HasPrefix(head, "GET /silent"):
		case strings.HasPrefix(head, "GET /stalls"):
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		case strings.HasPrefix(head, "GET /interim"):
			_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n\r\n")
		case strings.HasPrefix(head, "POST /"):
			o.readUntil(nc, "0\r\n\r\n")
			if strings.HasPrefix(head, "POST /hints") { // within the bound, which counts from here
				_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n\r\n")
				time.Sleep(2 * short / 3)
			}
			if !strings.HasPrefix(head, "POST /late") {
				_, _ = io.WriteString(nc, plainOK)
			}
		}
		o.readUntil(nc, "never")
	})
	for _, test := range []struct {
		path, method string
		timeouts     exchange.Timeouts
		deadline     bool
		phase        exchange.Phase // unknown: none
	}{
		{"/silent", "GET", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
		{"/silent", "GET", exchange.Timeouts{}, true, exchange.PhaseAwait},
		{"/interim", "GET", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
		{"/stalls", "GET", exchange.Timeouts{Head: short, Idle: short}, false, exchange.PhaseReceive},
		{"/stalls", "GET", exchange.Timeouts{}, true, exchange.PhaseReceive},
		{"/slow", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseUnknown},
		{"/hints", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseUnknown},
		{"/late", "POST", exchange.Timeouts{Head: short}, false, exchange.PhaseAwait},
	} {
		t.Run(test.method+test.path+fmt.Sprint(test.timeouts), func(t *testing.T) {
			t.Parallel()
			var ended chan outcome
			var failed chan error
			rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
				ended = outcomes(p)
				p.prepare = func(x *exchange.Exchange) {
					x.Timeouts = test.timeouts
					if test.deadline {
						x.Deadline = time.Now().Add(short)
					}
				}
				failed = failures(p)
			})
			c := rig.dial()
			c.send(test.method + " " + test.path + " HTTP/1.1\r\nHost: a.test\r\n")
			if test.method == "POST" { // an upload that takes longer than the head may
				c.send("Transfer-Encoding: chunked\r\n\r\n")
				for range 4 {
					from := rig.engine.now.Load()
					eventually(t, "time passes", func() bool { return rig.engine.now.Load() > from+int64(short/2) })
					c.send("1\r\nx\r\n")
				}
				c.send("0\r\n\r\n")
			} else {
				c.send("\r\n")
			}
			err := (<-ended).err
			if err == nil && len(failed) > 0 {
				err = <-failed
			}
			failure := exchange.AsError(err)
			switch {
			case test.phase == exchange.PhaseUnknown:
				if failure != nil {
					t.Errorf("%+v", failure)
				}
			case failure == nil || !failure.Timeout || failure.Phase != test.phase || failure.Fault != exchange.FaultUpstream:
				t.Errorf("%+v", failure)
			}
			if stats := transport.Stats(); stats.InFlight != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// TestClientGone: a client that goes away ends its call, wherever it is, and
// that is no fault of the endpoint.
func TestClientGone(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	origin := newOrigin(t, func(o *origin, nc net.Conn) {
		head := o.readUntil(nc, "\r\n\r\n")
		if strings.HasPrefix(head, "GET /begun") {
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		}
		o.readUntil(nc, "never") // returns when the gateway lets go
		gone <- struct{}{}
	})
	for name, test := range map[string]struct {
		request string
		reset   bool
	}{
		"while the head is awaited":           {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n", false},
		"while the head is awaited, by reset": {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n", true},
		"with another request sent ahead":     {"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\nGET /next HTTP/1.1\r\n", false},
		"within the response":                 {"GET /begun HTTP/1.1\r\nHost: a.test\r\n\r\n", false},
		"within its own body":                 {"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhe", false},
		"after its body":                      {"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", false},
	} {
		var ended chan outcome
		var failed chan error
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) {
			failed, ended = failures(p), outcomes(p)
		})
		c := rig.dial()
		before := origin.bytes.Load()
		c.send(test.request)
		eventually(t, "the endpoint has it", func() bool { return origin.bytes.Load() > before })
		if test.reset {
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
		<-gone
		err := (<-ended).err
		if len(failed) > 0 {
			err = <-failed
		}
		if failure := exchange.AsError(err); failure == nil || failure.Fault != exchange.FaultClient {
			t.Errorf("%s: %v", name, err)
		}
		if stats := transport.Stats(); stats.Open != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

// TestCancel: the gateway's own cancellation, which is nobody else's fault.
func TestCancel(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "never") })
	transport := newTestTransport(t, newTestEngine(t), origin.address, nil)
	for _, early := range []bool{true, false} {
		x := new(exchange.Exchange)
		x.Request = exchange.Request{Method: "GET", Path: "/"}
		if early {
			x.Cancel(exchange.ErrZoneLost)
		} else {
			before := origin.bytes.Load()
			go func() {
				happens(func() bool { return origin.bytes.Load() > before })
				x.Cancel(exchange.ErrZoneLost)
			}()
		}
		e := exchange.AsError(transport.RoundTrip(x))
		if e == nil || e.Fault != exchange.FaultGateway || !errors.Is(e, exchange.ErrZoneLost) || e.Wrote == early {
			t.Errorf("%+v", e)
		}
		if early && e.Phase != exchange.PhaseConnect || !early && e.Phase != exchange.PhaseAwait {
			t.Errorf("%+v", e)
		}
		x.ClearCancel()
		x.Release()
	}
	eventually(t, "the connections are given up", func() bool { return transport.Stats().InFlight == 0 })
}

// TestBadUploads: a body that turns out bad on its way is the client's fault.
// The endpoint never sees an end of it.
func TestBadUploads(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	for name, test := range map[string]struct {
		request string
		ends    bool // the client ends its side
		status  int
	}{
		"bad later chunk":      {chunked("7530\r\n" + long + "\r\nzz\r\n"), false, 400},
		"bad trailer":          {chunked("7530\r\n" + long + "\r\n0\r\nA : b\r\n\r\n"), false, 400},
		"large trailer":        {chunked("7530\r\n" + long + "\r\n0\r\nA: " + long + "\r\n\r\n"), false, 400},
		"chunk without an end": {chunked("7530\r\n" + long + "xx"), false, 400},
		"ended":                {chunked("7531\r\n" + long), true, 400},
		"ended, of a length":   {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30001\r\n\r\n" + long, true, 400},
	} {
		origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "0\r\n\r\n") })
		var failed chan error
		rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { failed = failures(p) })
		c := rig.dial()
		c.send(test.request)
		if test.ends {
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}
		if response := c.receive(http.MethodPost); response.status != test.status || !response.closes {
			t.Errorf("%s: %+v", name, response)
		}
		if e := exchange.AsError(<-failed); e.Fault != exchange.FaultClient || e.Status != test.status || !e.Wrote {
			t.Errorf("%s: %+v", name, e)
		}
		eventually(t, "the endpoint's connection is closed", func() bool { return transport.Stats().Open == 0 })
		if strings.HasSuffix(origin.all(), "0\r\n\r\n") {
			t.Errorf("%s: the endpoint takes the body for complete", name)
		}
	}
}
