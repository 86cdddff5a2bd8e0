package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// lastingTotal bounds requests of the routes for what lasts.
const lastingTotal = 200 * time.Millisecond

const lastingDocuments = `
apiVersion: grayfed/v1
kind: Service
metadata: { name: chat }
spec: { baseline: { version: v1 } }
---
apiVersion: grayfed/v1
kind: Release
metadata: { name: v2-beta }
spec: { services: { chat: { version: v2-beta } }, fallback: strict }
---
apiVersion: grayfed/v1
kind: Route
metadata: { name: chat }
spec: { path: "/chat/**", upstream: chat, timeouts: { total: 200ms, idle: 500ms } }
`

// chat answers WebSockets with its name and then with what it hears.
func chat(name string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chat/hangs" {
			<-r.Context().Done()
			return
		}
		var upgrader websocket.Upgrader
		conn, err := upgrader.Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		for err = conn.WriteMessage(websocket.TextMessage, []byte(name)); err == nil; {
			var kind int
			var data []byte
			if kind, data, err = conn.ReadMessage(); err == nil {
				err = conn.WriteMessage(kind, data)
			}
		}
	}
}

// talk is a WebSocket, whatever carries it.
type talk interface {
	say(text string) error
	hear() (string, error) // the next message; an error when it is over
	Close() error
}

// talk1 is one over HTTP/1.
type talk1 struct{ *websocket.Conn }

func (c talk1) say(text string) error { return c.WriteMessage(websocket.TextMessage, []byte(text)) }

func (c talk1) hear() (string, error) {
	_, data, err := c.ReadMessage()
	return string(data), err
}

// talk2 is one on stream 1 of an HTTP/2 connection (RFC 8441), with messages of
// up to 125 bytes.
type talk2 struct {
	*raw2
	rest bytes.Buffer
}

func (c *talk2) say(text string) error {
	message := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // masked with zeros
	return c.framer.WriteData(1, false, message)
}

func (c *talk2) hear() (string, error) {
	for {
		if b := c.rest.Bytes(); len(b) >= 2 && len(b) >= 2+int(b[1]) {
			return string(c.rest.Next(2 + int(b[1]))[2:]), nil
		}
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return "", err
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			c.rest.Write(frame.Data())
			if n := uint32(len(frame.Data())); n > 0 {
				_ = c.framer.WriteWindowUpdate(0, n) // shows by reading
				_ = c.framer.WriteWindowUpdate(1, n)
			}
			if frame.StreamEnded() {
				return "", io.EOF
			}
		case *http2.RSTStreamFrame:
			return "", errors.New(frame.ErrCode.String())
		}
	}
}

func (c *talk2) Close() error { return c.nc.Close() }

// dialTalk begins a WebSocket; kind is one of talkKinds.
func (h *hostile) dialTalk(kind, tag string) (talk, error) {
	h.t.Helper()
	if kind == "h2c" || kind == "h2" {
		return h.dialTalk2(kind == "h2", tag)
	}
	header := http.Header{}
	if tag != "" {
		header.Set("X-Release-Tag", tag)
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: h.ca.pool}, HandshakeTimeout: patience}
	conn, response, err := dialer.Dial(map[string]string{"ws": "ws://" + h.plain, "wss": "wss://" + h.secure}[kind]+"/chat/room", header)
	if err != nil {
		if response != nil {
			err = errors.New(response.Status)
			_ = response.Body.Close()
		}
		return nil, err
	}
	return talk1{conn}, conn.SetReadDeadline(time.Now().Add(patience))
}

func (h *hostile) dialTalk2(secure bool, tag string) (talk, error) {
	c := &talk2{raw2: h.dial2(secure)}
	fields := []string{
		":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.test", ":path", "/chat/room",
		"sec-websocket-version", "13",
	}
	if tag != "" {
		fields = append(fields, "x-release-tag", tag)
	}
	if err := c.headers(1, false, fields...); err != nil {
		return nil, err
	}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		if frame, ok := frame.(*http2.HeadersFrame); ok {
			fields, err := c.dec.DecodeFull(frame.HeaderBlockFragment())
			if err != nil {
				return nil, err
			}
			if fields[0].Value != "200" {
				_ = c.Close()
				return nil, errors.New(fields[0].Value)
			}
			return c, nil
		}
	}
}

var talkKinds = []string{"ws", "wss", "h2c", "h2"}

// newLasting runs an edge before two versions of a chat.
func newLasting(t testing.TB, drain time.Duration) *hostile {
	t.Helper()
	h := &hostile{whole: startWhole(t, lastingDocuments, func(p *config.Process) {
		p.Shutdown.DrainTimeout = drain
		p.Health.Ejection.GatewayFailures, p.Health.Ejection.ConnectFailures = 1, 1
	})}
	for _, version := range []string{"v1", "v2-beta"} {
		h.register("chat", version, h.ca.serve(t, federation.HTTP1, chat(version)), federation.HTTP1)
	}
	return h
}

// TestWebSocket goes through each way in, to the release that the tag names. It
// lasts longer than requests may, and ends when it has been silent.
func TestWebSocket(t *testing.T) {
	h := newLasting(t, 30*time.Second)
	for _, kind := range talkKinds {
		t.Run(kind, func(t *testing.T) {
			for tag, want := range map[string]string{"": "v1", "v2-beta": "v2-beta"} {
				c, err := h.dialTalk(kind, tag)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if name, err := c.hear(); name != want {
					t.Errorf("tag %q came to %q, %v", tag, name, err)
				}
				for begin, n := time.Now(), 0; time.Since(begin) < 3*lastingTotal; n++ {
					text := fmt.Sprint("message ", n)
					if err := c.say(text); err != nil {
						t.Fatal(err)
					}
					if heard, err := c.hear(); heard != text {
						t.Fatalf("said %q, heard %q, %v, after %s", text, heard, err, time.Since(begin))
					}
				}
				if tag != "" {
					continue
				}
				if heard, err := c.hear(); err == nil || errorIsTimeout(err) {
					t.Errorf("silent for long: heard %q, %v", heard, err)
				}
			}
		})
	}
	// The twin: what is no WebSocket has to end.
	response, err := http.Get(h.url("/chat/hangs"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a request that takes too long got %s", response.Status)
	}
}

func errorIsTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// TestWebSocketsDrain has WebSockets at an endpoint that drains, and then at an
// edge that stops: they go on for the drain timeout, and end then.
func TestWebSocketsDrain(t *testing.T) {
	h := newLasting(t, 2*time.Second)
	open := func() (all []talk) {
		for _, kind := range talkKinds {
			c, err := h.dialTalk(kind, "v2-beta")
			if err != nil {
				t.Fatal(err)
			}
			if name, err := c.hear(); name != "v2-beta" {
				t.Fatalf("%q, %v", name, err)
			}
			all = append(all, c)
		}
		return all
	}
	goOn := func(all []talk) {
		for n, c := range all {
			if err := c.say("still"); err != nil {
				t.Error(err)
			}
			if heard, err := c.hear(); heard != "still" {
				t.Errorf("%s: heard %q, %v", talkKinds[n], heard, err)
			}
		}
	}
	// It talks on: silence would end it too.
	untilOver := func(all []talk) {
		for n, c := range all {
			for {
				if err := c.say("on"); err != nil {
					break
				}
				if _, err := c.hear(); err != nil {
					if errorIsTimeout(err) {
						t.Errorf("%s goes on", talkKinds[n])
					}
					break
				}
			}
			_ = c.Close()
		}
	}
	here := open()
	key := federation.Key{Service: "chat", ID: "chatv2-beta"}
	if _, err := h.api.Drain(t.Context(), key, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing new", func() error {
		c, err := h.dialTalk("ws", "v2-beta")
		if err == nil {
			_ = c.Close()
			return errors.New("a draining endpoint gets more")
		}
		if !strings.HasPrefix(err.Error(), "503") {
			t.Fatal(err)
		}
		return nil
	})
	goOn(here)
	untilOver(here)

	h.register("chat", "v2-beta", h.ca.serve(t, federation.HTTP1, chat("v2-beta")), federation.HTTP1)
	eventually(t, "it is back", func() error {
		c, err := h.dialTalk("ws", "v2-beta")
		if err == nil {
			err = c.Close()
		}
		return err
	})
	here = open()
	stopped := make(chan struct{})
	go func() {
		h.stop()
		close(stopped)
	}()
	eventually(t, "the edge stops", func() error {
		if h.edge.notReady() == nil {
			return errors.New("still ready")
		}
		return nil
	})
	goOn(here)
	untilOver(here)
	<-stopped
}

// TestEventStream reads events while the answer goes on, for longer than requests
// may take.
func TestEventStream(t *testing.T) {
	w := startWhole(t, `
- { id: one, path: "/one/**", upstream: one, timeouts: { total: 200ms, idle: 30s } }
- { id: two, path: "/two/**", upstream: two, timeouts: { total: 200ms, idle: 30s } }
`, nil)
	next := make(chan struct{})
	events := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", r.URL.Query().Get("type"))
		for range 3 {
			_, _ = io.WriteString(rw, "data: x\n\n")
			_ = http.NewResponseController(rw).Flush() // the client sees it
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}
	h1, h2c := func(p *http.Protocols) { p.SetHTTP1(true) }, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	w.register("one", "", w.ca.serve(t, federation.HTTP1, events), federation.HTTP1)
	w.register("two", "", w.ca.serve(t, federation.H2C, events), federation.H2C)
	h2 := func(p *http.Protocols) { p.SetHTTP2(true) }
	for name, c := range map[string]struct {
		protocols func(*http.Protocols)
		url       string
	}{
		"http/1.1": {h1, "http://" + w.plain}, "h2c": {h2c, "http://" + w.plain},
		"https": {h1, "https://" + w.secure}, "h2": {h2, "https://" + w.secure},
	} {
		for _, service := range []string{"one", "two"} {
			t.Run(name+" to "+service, func(t *testing.T) {
				client := w.client(c.protocols)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begin := time.Now()
				body := get(ctx, t, client, c.url+"/"+service+"/?type=text/event-stream")
				event := make([]byte, len("data: x\n\n"))
				for n := range 3 {
					// The origin waits until this one is here.
					if _, err := io.ReadFull(body, event); err != nil {
						t.Fatalf("event %d: %v", n, err)
					}
					time.Sleep(time.Until(begin.Add(2 * lastingTotal))) // the stream outlasts requests
					select {
					case next <- struct{}{}:
					case <-ctx.Done():
						t.Fatal("the origin's answer was given up")
					}
				}
				if n, err := body.Read(event); n != 0 || err != io.EOF {
					t.Errorf("after the last event: %d bytes, %v", n, err)
				}
				// The twin: what is no stream has to end.
				if _, err := io.Copy(io.Discard, get(ctx, t, client, c.url+"/"+service+"/?type=text/plain")); err == nil || ctx.Err() != nil {
					t.Errorf("what is no stream lasted as long: %v", err)
				}
			})
		}
	}
}

// get returns the body of an answer, which may go on.
func get(ctx context.Context, t testing.TB, client *http.Client, url string) io.Reader {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response.Body
}
