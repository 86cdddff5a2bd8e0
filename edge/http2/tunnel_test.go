package http2

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// connect are the pseudo-header fields of an extended CONNECT.
func connect(protocol string) []string {
	return []string{":method", "CONNECT", ":scheme", "http", ":path", "/chat", ":authority", "a.test", ":protocol", protocol}
}

// echoTunnel is the upstream's side of a tunnel that says back what it hears,
// and then "bye".
type echoTunnel struct {
	in     *io.PipeReader
	out    *io.PipeWriter
	closed chan struct{}
	once   sync.Once
	rest   *strings.Reader
}

func newEchoTunnel() *echoTunnel {
	t := &echoTunnel{closed: make(chan struct{}), rest: strings.NewReader("bye")}
	t.in, t.out = io.Pipe()
	return t
}

func (t *echoTunnel) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	if errors.Is(err, io.EOF) {
		return t.rest.Read(p)
	}
	return n, err
}

func (t *echoTunnel) Write(p []byte) (int, error) { return t.out.Write(p) }
func (t *echoTunnel) CloseWrite() error           { return t.out.Close() }

func (t *echoTunnel) Close() error {
	t.once.Do(func() { close(t.closed) })
	return errors.Join(t.in.CloseWithError(errEnded), t.out.CloseWithError(errEnded))
}

func TestTunnel(t *testing.T) {
	tunnel := newEchoTunnel()
	ends := make(chan error, 1)
	var sent, received int64
	r := newRig(t, Options{Handler: handler{
		serve: func(x *exchange.Exchange) {
			if x.Request.Method != http.MethodGet || x.Request.Upgrade != "websocket" || x.Request.Path != "/chat" || x.Request.Body != nil {
				t.Errorf("the handler saw %+v", x.Request)
			}
			if key, _ := x.Request.Header.GetName(webSocketKey); len(key) != 24 {
				t.Errorf("key is %q", key)
			}
			x.Response.Status, x.Response.Upgrade, x.Response.Tunnel = 101, "websocket", tunnel
			x.Response.Header.Add(webSocketAccept, "x")
			x.Response.Header.Add("Sec-WebSocket-Protocol", "chat")
		},
		done: func(x *exchange.Exchange, err error) {
			sent, received = x.RequestBytes, x.ResponseBytes
			ends <- err
		},
	}})
	client := dialRaw(t, r.address)
	if e := client.next(); e.kind != http2.FrameSettings {
		t.Errorf("got %+v", e)
	}
	client.headers(1, false, connect("websocket")...)
	e := client.await(http2.FrameHeaders)
	if e.fields[":status"] != "200" || e.end || e.fields["sec-websocket-accept"] != "" || e.fields["sec-websocket-protocol"] != "chat" {
		t.Errorf("got %+v", e)
	}
	for _, word := range []string{"one", "two"} {
		client.check(client.framer.WriteData(1, false, []byte(word)))
		if e := client.await(http2.FrameData); e.data != word {
			t.Errorf("got %+v", e)
		}
	}
	if n := r.server.Stats().Tunnels; n != 1 {
		t.Errorf("%d tunnels", n)
	}
	client.check(client.framer.WriteData(1, true, nil))
	text, last := "", event{}
	for !last.end && !last.closed && last.kind != http2.FrameRSTStream {
		last = client.next()
		text += last.data
	}
	if text != "bye" {
		t.Errorf("the end was %q", text)
	}
	if err := <-ends; err != nil {
		t.Error(err)
	}
	<-tunnel.closed
	if sent != 6 || received != 9 {
		t.Errorf("%d bytes up, %d down", sent, received)
	}
}

func TestTunnelsEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(client *raw)
		fault exchange.Fault
		code  http2.ErrCode // 0: none is told
	}{
		{"reset", func(client *raw) { client.check(client.framer.WriteRSTStream(1, http2.ErrCodeCancel)) }, exchange.FaultClient, 0},
		{"gone", func(client *raw) { _ = client.nc.Close() }, exchange.FaultClient, 0},
		{"idle", func(*raw) {}, exchange.FaultClient, http2.ErrCodeCancel},
		{"idle after its end", func(client *raw) { client.check(client.framer.WriteData(1, true, nil)) }, exchange.FaultClient, http2.ErrCodeCancel},
	} {
		t.Run(c.name, func(t *testing.T) {
			tunnel := newEchoTunnel()
			ends := make(chan error, 1)
			r := newRig(t, Options{
				TunnelTimeout: 200 * time.Millisecond,
				Handler: handler{
					serve: func(x *exchange.Exchange) {
						x.Response.Status, x.Response.Upgrade, x.Response.Tunnel = 101, "chat", &silentTunnel{echoTunnel: tunnel}
					},
					done: func(_ *exchange.Exchange, err error) { ends <- err },
				},
			})
			client := dialRaw(t, r.address)
			client.headers(1, false, connect("chat")...)
			client.await(http2.FrameHeaders)
			c.do(client)
			if failure := exchange.AsError(<-ends); failure == nil || failure.Phase != exchange.PhaseTunnel || failure.Fault != c.fault {
				t.Errorf("ended with %v", failure)
			}
			<-tunnel.closed
			if c.code != 0 {
				if e := client.await(http2.FrameRSTStream); e.code != c.code {
					t.Errorf("got %+v", e)
				}
			}
		})
	}
}

// silentTunnel says nothing, even at its end.
type silentTunnel struct{ *echoTunnel }

func (t *silentTunnel) CloseWrite() error { return nil }

// TestSwitchThatDidNotHappen: a plain 200 must not look like a tunnel.
func TestSwitchThatDidNotHappen(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		if x.Request.Path == "/chat" {
			answer(x, 200, "a page")
			return
		}
		answer(x, 403, "no")
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, false, connect("websocket")...)
	if got := client.response(1); got.status != "502" || got.body != "" {
		t.Errorf("got %+v", got)
	}
	client.headers(3, false, ":method", "CONNECT", ":scheme", "http", ":path", "/no", ":authority", "a.test", ":protocol", "websocket")
	if got := client.response(3); got.status != "403" || got.body != "no" {
		t.Errorf("got %+v", got)
	}
}

// TestTunnelThroughBothSides has a tunnel over HTTP/2 on both sides.
func TestTunnelThroughBothSides(t *testing.T) {
	origin := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		x.Response.Status, x.Response.Upgrade, x.Response.Tunnel = 101, x.Request.Upgrade, newEchoTunnel()
	}}})
	r := newProxy(t, &proxy{}, TransportOptions{Address: origin.address})
	client := dialRaw(t, r.address)
	client.headers(1, false, connect("websocket")...)
	if e := client.await(http2.FrameHeaders); e.fields[":status"] != "200" {
		t.Fatalf("got %+v", e)
	}
	client.check(client.framer.WriteData(1, false, []byte("hello")))
	if e := client.await(http2.FrameData); e.data != "hello" {
		t.Errorf("got %+v", e)
	}
	client.check(client.framer.WriteData(1, true, nil))
	text, last := "", event{}
	for !last.end && !last.closed && last.kind != http2.FrameRSTStream {
		last = client.next()
		text += last.data
	}
	if text != "bye" {
		t.Errorf("the end was %q", text)
	}
}

// TestWebSocketFromHTTP1 is a request as an HTTP/1 client makes it: the
// endpoint never sees its key, the client gets the accept for it.
func TestWebSocketFromHTTP1(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		origin := acceptRaw(t, listener, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		e := origin.await(http2.FrameHeaders)
		if e.fields[":method"] != "CONNECT" || e.fields[":protocol"] != "websocket" || e.fields["sec-websocket-key"] != "" || e.fields["sec-websocket-version"] != "13" || e.end {
			t.Errorf("the request is %+v", e)
		}
		origin.headers(1, false, ":status", "200")
		origin.await(http2.FrameRSTStream)
	})
	x := request("GET", nil, 0)
	x.Request.Upgrade = "websocket"
	x.Request.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	x.Request.Header.Add("Sec-WebSocket-Version", "13")
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	// The example of RFC 6455, section 1.3.
	if accept, _ := x.Response.Header.GetName(webSocketAccept); x.Response.Status != 101 || accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %d with %q", x.Response.Status, accept)
	}
	_ = x.Response.Tunnel.Close()
	end(x)
	_ = transport.Close()
}

func TestEndpointWithoutExtendedConnect(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		origin := acceptRaw(t, listener)
		if e := origin.await(http2.FrameHeaders); !e.closed {
			t.Errorf("got %+v", e)
		}
	})
	x := request("GET", nil, 0)
	x.Request.Upgrade = "websocket"
	failure := exchange.AsError(transport.RoundTrip(x))
	if failure == nil || failure.Fault != exchange.FaultGateway || failure.Status != 501 || failure.Wrote {
		t.Errorf("got %v", failure)
	}
	_ = transport.Close()
}
