package http2

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestTimeouts(t *testing.T) {
	ends := make(chan error, 1)
	r := newRig(t, Options{
		Handler: handler{
			serve: func(x *exchange.Exchange) {
				if x.Request.Method == http.MethodPost {
					_, err := readAll(x.Request.Body)
					answer(x, exchange.AsError(err).Status, "")
					return
				}
				answer(x, 200, strings.Repeat("x", 100_000))
			},
			done: func(_ *exchange.Exchange, err error) { ends <- err },
		},
		HeadTimeout: 100 * time.Millisecond, BodyTimeout: 100 * time.Millisecond,
		WriteTimeout: 100 * time.Millisecond, IdleTimeout: 300 * time.Millisecond,
	})
	t.Run("preface", func(t *testing.T) {
		before := r.server.Stats().Refused[ReasonHeadTimeout]
		nc, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(nc, http2.ClientPreface[:10])
		half := newRaw(t, nc)
		half.check(err)
		if e := goAway(half); e.kind != 0 {
			t.Errorf("got %+v", e)
		}
		if r.server.Stats().Refused[ReasonHeadTimeout] != before+1 {
			t.Error("it was not counted")
		}
	})
	t.Run("header section", func(t *testing.T) {
		client := dialRaw(t, r.address)
		client.check(client.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: client.encode(get()...)}))
		for e := client.next(); !e.closed; e = client.next() {
			if e.kind == http2.FrameHeaders {
				t.Errorf("got %+v", e)
			}
		}
	})
	t.Run("body", func(t *testing.T) {
		client := dialRaw(t, r.address)
		client.headers(1, false, post()...)
		if got := client.response(1); got.status != "408" {
			t.Errorf("got %+v", got)
		}
		if err := <-ends; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("shut window", func(t *testing.T) {
		client := dialRaw(t, r.address)
		client.headers(1, true, get()...) // 100,000 bytes do not fit the window
		if got := client.response(1); !got.reset || got.code != http2.ErrCodeCancel || len(got.body) != 65535 {
			t.Errorf("got %d bytes, reset %v with %v", len(got.body), got.reset, got.code)
		}
		if failure := exchange.AsError(<-ends); failure == nil || !failure.Timeout || failure.Fault != exchange.FaultClient || failure.Phase != exchange.PhaseRespond {
			t.Errorf("ended with %v", failure)
		}
	})
	t.Run("tiny window", func(t *testing.T) {
		client := dialRaw(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		client.headers(1, true, get()...)
		var e event
		got := 0
		for e = client.next(); e.kind != http2.FrameRSTStream && got < 200; e = client.next() {
			if e.kind == http2.FrameData {
				got++
				time.Sleep(10 * time.Millisecond) // slowly enough not to be a flood
				client.check(client.framer.WriteWindowUpdate(1, 1))
			}
		}
		if e.code != http2.ErrCodeCancel {
			t.Errorf("after %d bytes: %+v", got, e)
		}
		if failure := exchange.AsError(<-ends); failure == nil || failure.Fault != exchange.FaultClient {
			t.Errorf("ended with %v", failure)
		}
	})
	t.Run("idle", func(t *testing.T) {
		client := dialRaw(t, r.address)
		if e := goAway(client); e.kind != http2.FrameGoAway || e.code != http2.ErrCodeNo {
			t.Errorf("got %+v", e)
		}
	})
}
