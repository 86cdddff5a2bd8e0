package http2

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/http1"
)

// newMixed is a gateway from HTTP/2 to an HTTP/1 endpoint.
func newMixed(t *testing.T, address string) *rig {
	t.Helper()
	engine := http1.NewEngine()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	transport, err := http1.NewTransport(http1.TransportOptions{Address: address, Engine: engine, ConnectTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = transport.Close() })
	return newRig(t, Options{Handler: &proxy{transport: transport}})
}

func TestHTTP1Endpoint(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(handleInterop))
	t.Cleanup(origin.Close)
	r := newMixed(t, origin.Listener.Addr().String())
	client := newClient(t)
	for _, size := range []int{0, 1, 3000, 16 << 10, 5 << 20} {
		for _, length := range []bool{true, false} {
			payload := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			var body io.Reader = bytes.NewReader(payload)
			if !length {
				body = io.MultiReader(body)
			}
			response, err := client.Post("http://"+r.address+"/echo", "text/plain", body)
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			got, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("size %d, length known %v: status %d, %d bytes back, %v", size, length, response.StatusCode, len(got), err)
			}
		}
	}
	response, err := client.Post("http://"+r.address+"/early", "text/plain", io.LimitReader(pattern{}, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("an early answer is %d", response.StatusCode)
	}
}

// TestWebSocketToHTTP1 has an endpoint that wants the key of HTTP/1.
func TestWebSocketToHTTP1(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { _ = listener.Close() }()
	serving.Go(func() {
		nc, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		in := bufio.NewReader(nc)
		request, err := http.ReadRequest(in)
		if err != nil {
			t.Error(err)
			return
		}
		key := request.Header.Get(webSocketKey)
		if request.Method != http.MethodGet || request.Header.Get("Upgrade") != websocket || key == "" {
			t.Errorf("the request is %+v", request)
		}
		_, _ = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s: %s\r\n\r\n", webSocketAccept, webSocketAnswer(key))
		_, _ = io.Copy(nc, in)
	})
	client := dialRaw(t, newMixed(t, listener.Addr().String()).address)
	client.headers(1, false, connect(websocket)...)
	if e := client.await(http2.FrameHeaders); e.fields[":status"] != "200" || e.fields["sec-websocket-accept"] != "" {
		t.Fatalf("got %+v", e)
	}
	client.check(client.framer.WriteData(1, false, []byte("hello")))
	if e := client.await(http2.FrameData); e.data != "hello" {
		t.Errorf("got %+v", e)
	}
	client.check(client.framer.WriteData(1, true, nil))
	if got := client.await(http2.FrameData); got.data != "" || !got.end {
		t.Errorf("got %+v", got)
	}
}
