package http2

import (
	"bytes"
	"encoding/binary"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/grayfed/grayfed/edge/exchange"
)

// hold is a handler whose requests wait until release is closed.
type hold struct {
	running, most, served atomic.Int64
	release               chan struct{}
}

func newHold() *hold { return &hold{release: make(chan struct{})} }

func (h *hold) Serve(x *exchange.Exchange) {
	h.served.Add(1)
	n := h.running.Add(1)
	for most := h.most.Load(); n > most && !h.most.CompareAndSwap(most, n); most = h.most.Load() {
	}
	<-h.release
	h.running.Add(-1)
	answer(x, 200, "held")
}

func (h *hold) Done(*exchange.Exchange, error) {}

// pour sends bytes over and over until the peer has had enough or the count
// is reached, and reads nothing but what is needed to know.
func pour(t *testing.T, client *raw, chunk []byte, times int) {
	t.Helper()
	client.check(client.nc.SetWriteDeadline(time.Now().Add(20 * time.Second)))
	for range times {
		if _, err := client.nc.Write(chunk); err != nil {
			return // it was ended
		}
	}
}

// goAway reads up to the end of the connection and returns the last GOAWAY.
func goAway(client *raw) event {
	var last event
	for {
		e := client.next()
		if e.closed {
			return last
		}
		if e.kind == http2.FrameGoAway {
			last = e
		}
	}
}

func TestRapidReset(t *testing.T) {
	h := newHold()
	r := newRig(t, Options{Handler: h, MaxStreams: 20})
	defer close(h.release)
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	block := client.encode(get()...) // all of it is in the table by now
	var sent sync.WaitGroup
	sent.Go(func() {
		for id := uint32(3); id < 20000; id += 2 {
			out := appendHeaderBlock(nil, block, id, true, maxFrame)
			out = appendReset(out, id, http2.ErrCodeCancel)
			if _, err := client.nc.Write(out); err != nil {
				return
			}
		}
	})
	var e event
	for e = client.next(); !e.closed && e.kind != http2.FrameGoAway; e = client.next() {
	}
	if e.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("got %+v, want ENHANCE_YOUR_CALM", e)
	}
	_ = client.nc.Close()
	sent.Wait()
	if most := h.most.Load(); most > 20 {
		t.Errorf("%d handlers ran at once, 20 streams are allowed", most)
	}
	stats := r.server.Stats()
	if stats.Refused[ReasonResetFlood] != 1 {
		t.Errorf("counted %v", stats.Refused)
	}
}

// TestResetsAmongAnswersAreNoFlood is TestRapidReset's twin: a client
// that cancels some of what it asks for is served on.
func TestResetsAmongAnswersAreNoFlood(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 200, "x") }}})
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	block := client.encode(get()...)
	id := uint32(3)
	for range 3 * budgetResets {
		out := appendHeaderBlock(nil, block, id, true, maxFrame)
		out = appendHeaderBlock(out, block, id+2, false, maxFrame)
		out = appendReset(out, id+2, http2.ErrCodeCancel)
		_, err := client.nc.Write(out)
		client.check(err)
		if got := client.response(id); got.status != "200" {
			t.Fatalf("request %d got %+v", id, got)
		}
		id += 4
	}
}

// TestGatewaysMayReset: what many clients of a gateway give up comes on one
// connection, which serves all the others.
func TestGatewaysMayReset(t *testing.T) {
	for _, gateway := range []bool{true, false} {
		r := newRig(t, Options{Gateway: gateway, Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 200, "x") }}})
		client := dialRaw(t, r.address)
		client.headers(1, true, get()...)
		block := client.encode(get()...)
		for id := uint32(3); id < 6*budgetResets; id += 2 {
			out := appendHeaderBlock(nil, block, id, false, maxFrame)
			out = appendReset(out, id, http2.ErrCodeCancel)
			if _, err := client.nc.Write(out); err != nil {
				break // it is cut
			}
		}
		if !gateway {
			await(t, "the flood to be seen", func() bool { return r.server.Stats().Refused[ReasonResetFlood] == 1 })
			continue
		}
		id := uint32(6*budgetResets + 1)
		await(t, "an answer behind the resets", func() bool { // the handlers of some may still run
			client.headers(id, true, get()...)
			got := client.response(id)
			id += 2
			return got.status == "200"
		})
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	settings := appendSettings(nil)
	window := appendWindowUpdate(nil, 0, 1)
	ping := appendPing(nil, 0, [8]byte{1})
	priority := append(appendFrameHeader(nil, 5, http2.FramePriority, 0, 3), 0, 0, 0, 1, 1)
	data := appendFrameHeader(nil, 0, http2.FrameData, 0, 1)
	reset := appendReset(nil, 1, http2.ErrCodeCancel)
	unknown := appendFrameHeader(nil, 0, 0xfe, 0, 0)
	for _, c := range []struct {
		name  string
		frame []byte
	}{{"settings", settings}, {"window", window}, {"ping", ping}, {"priority", priority}, {"empty data", data}, {"reset", reset}, {"unknown", unknown}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHold()
			r := newRig(t, Options{Handler: h})
			defer close(h.release)
			client := dialRaw(t, r.address)
			client.headers(1, false, post()...)
			var sent sync.WaitGroup
			sent.Go(func() { pour(t, client, bytes.Repeat(c.frame, 100), 1000) })
			if e := goAway(client); e.code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("got %+v, want ENHANCE_YOUR_CALM", e)
			}
			sent.Wait()
			await(t, "the flood's count", func() bool { return r.server.Stats().Refused[ReasonControlFlood] == 1 })
		})
	}
}

// TestUnreadAnswersAreBounded floods with frames that want an answer, and
// reads none.
func TestUnreadAnswersAreBounded(t *testing.T) {
	engine := runEngine(t)
	server, err := NewServer(Options{Handler: newHold(), Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe() // it has no buffer: what is not read is not written
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeConn(far, exchange.Conn{}) })
	client := newRaw(t, near)
	_, err = near.Write(appendSettings([]byte(http2.ClientPreface)))
	client.check(err)
	pour(t, client, appendPing(nil, 0, [8]byte{1}), 10*controlLimit)
	serving.Wait()
	refused := server.Stats().Refused
	if refused[ReasonQueue]+refused[ReasonControlFlood] != 1 {
		t.Errorf("counted %v", refused)
	}
}

func TestContinuationFlood(t *testing.T) {
	for _, c := range []struct {
		name string
		part []byte
	}{
		{"empty", nil},
		{"small", []byte{0x82}},
		{"large", bytes.Repeat([]byte{0x82}, 8<<10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{Handler: newHold()})
			client := dialRaw(t, r.address)
			client.check(client.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}))
			frame := append(appendFrameHeader(nil, len(c.part), http2.FrameContinuation, 0, 1), c.part...)
			var sent sync.WaitGroup
			sent.Go(func() { pour(t, client, frame, 10000) })
			if e := goAway(client); e.code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("got %+v, want ENHANCE_YOUR_CALM", e)
			}
			sent.Wait()
			await(t, "the flood's count", func() bool { return r.server.Stats().Refused[ReasonHeaderFlood] == 1 })
		})
	}
}

// TestLargestHeadIsNoFlood: a head of as many bytes as it may have is served,
// however many frames that takes, and a larger one costs its sender the request
// alone.
func TestLargestHeadIsNoFlood(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 204, "") }}, MaxHeadBytes: 1 << 20})
	client := dialRaw(t, r.address)
	for n, c := range []struct {
		size   int
		status string
	}{{1<<20 - 1024, "204"}, {1<<20 + 1024, "431"}, {10, "204"}} {
		id := uint32(2*n + 1)
		block := client.encode(get("a", strings.Repeat("X", c.size))...)
		_, err := client.nc.Write(appendHeaderBlock(nil, block, id, true, maxFrame))
		client.check(err)
		if got := client.response(id); got.status != c.status {
			t.Errorf("%d bytes: %+v, want %s", c.size, got, c.status)
		}
	}
}

// TestHeaderBomb names one large entry of the table again and again: few
// bytes that stand for many.
func TestHeaderBomb(t *testing.T) {
	r := newRig(t, Options{Handler: newHold()})
	client := dialRaw(t, r.address)
	block := client.encode(get("a", string(bytes.Repeat([]byte("b"), 3900)))...)
	indexed := byte(0x80 | 62)
	block = append(block, bytes.Repeat([]byte{indexed}, 10_000)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := client.nc.Write(appendHeaderBlock(nil, block, 1, true, maxFrame))
	client.check(err)
	if got := client.response(1); got.status != "431" {
		t.Errorf("got %+v", got)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated for it", grown)
	}
}

// TestHugeString announces a field that no limit allows: it cannot be skipped,
// because the table's state would be lost.
func TestHugeString(t *testing.T) {
	r := newRig(t, Options{Handler: newHold()})
	client := dialRaw(t, r.address)
	block := hpack.AppendHuffmanString(nil, "a")
	block = append([]byte{0, 0x80 | byte(len(block))}, block...)
	block = append(block, 0x7f)
	block = binary.AppendUvarint(block, 10<<20-127)
	_, err := client.nc.Write(appendHeaderBlock(nil, block, 1, true, maxFrame))
	client.check(err)
	if e := goAway(client); e.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("got %+v, want ENHANCE_YOUR_CALM", e)
	}
}

func TestTooManyStreamsAreRefused(t *testing.T) {
	h := newHold()
	r := newRig(t, Options{Handler: h, MaxStreams: 3})
	client := dialRaw(t, r.address)
	for id := uint32(1); id < 9; id += 2 {
		client.headers(id, true, get()...)
	}
	if got := client.response(7); !got.reset || got.code != http2.ErrCodeRefusedStream {
		t.Errorf("got %+v, want REFUSED_STREAM", got)
	}
	close(h.release)
	if got := client.response(5); got.status != "200" {
		t.Errorf("a stream within the limit got %+v", got)
	}
	if h.served.Load() != 3 {
		t.Errorf("%d requests were served", h.served.Load())
	}
}
