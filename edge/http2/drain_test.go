package http2

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestDrainLetsStreamsEnd(t *testing.T) {
	h := newHold()
	r := newRig(t, Options{Handler: h})
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	await(t, "the request", func() bool { return h.running.Load() == 1 })
	drained := make(chan error, 1)
	r.drained.Do(func() {})
	go func() { drained <- r.server.Drain(context.Background()) }()
	if e := client.await(http2.FrameGoAway); e.code != http2.ErrCodeNo || e.last != maxStreamID {
		t.Errorf("the first GOAWAY is %+v", e)
	}
	// This one was on its way: it is served, because its number is within
	// what the first GOAWAY lets pass.
	client.headers(3, true, get()...)
	await(t, "the late request", func() bool { return h.running.Load() == 2 })
	ping := client.await(http2.FramePing)
	if ping.ack {
		t.Errorf("got %+v", ping)
	}
	client.check(client.framer.WritePing(true, pingDrain))
	if e := client.await(http2.FrameGoAway); e.code != http2.ErrCodeNo || e.last != 3 {
		t.Errorf("the last GOAWAY is %+v", e)
	}
	client.headers(5, true, get()...)
	if got := client.response(5); !got.reset || got.code != http2.ErrCodeRefusedStream {
		t.Errorf("after the last GOAWAY a request got %+v", got)
	}
	close(h.release)
	bodies := 0
	for e := client.next(); !e.closed; e = client.next() {
		if e.kind == http2.FrameData && e.data == "held" && e.end {
			bodies++
		}
	}
	if bodies != 2 {
		t.Errorf("%d of 2 answers came", bodies)
	}
	_ = client.nc.Close()
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	if h.served.Load() != 2 {
		t.Errorf("%d requests were served", h.served.Load())
	}
}

func TestDrainCutsWhatIsLeft(t *testing.T) {
	h := newHold()
	r := newRig(t, Options{Handler: h})
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	await(t, "the request", func() bool { return h.running.Load() == 1 })
	r.drained.Do(func() {})
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 1)
	go func() { drained <- r.server.Drain(ctx) }()
	client.await(http2.FrameGoAway)
	cancel()
	for e := client.next(); !e.closed; e = client.next() {
		if e.kind == http2.FrameData || e.kind == http2.FrameHeaders {
			t.Errorf("got %+v", e)
		}
	}
	close(h.release)
	if err := <-drained; !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v", err)
	}
}

// TestIdleConnectionsDrainWithoutAnAnswer has a client that does not answer
// the PING between the two GOAWAYs.
func TestIdleConnectionsDrainWithoutAnAnswer(t *testing.T) {
	r := newRig(t, Options{Handler: newHold()})
	client := dialRaw(t, r.address)
	await(t, "the connection", func() bool { return r.server.Stats().Idle == 1 })
	r.drained.Do(func() {})
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		drained <- r.server.Drain(ctx)
	}()
	if e := goAway(client); e.kind != http2.FrameGoAway || e.last != 0 {
		t.Errorf("got %+v", e)
	}
	_ = client.nc.Close()
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
}
