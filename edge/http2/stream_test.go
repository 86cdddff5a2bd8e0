package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// scripted is a response body that follows a script.
type scripted struct {
	pieces  []string
	err     error // at the end; nil: io.EOF
	wait    chan struct{}
	trailer exchange.Fields
}

func (b *scripted) Next() ([]byte, error) {
	if len(b.pieces) == 0 {
		if b.wait != nil {
			<-b.wait
		}
		if b.err != nil {
			return nil, b.err
		}
		return nil, io.EOF
	}
	piece := b.pieces[0]
	b.pieces = b.pieces[1:]
	return []byte(piece), nil
}

func (b *scripted) Buffered() ([]byte, bool) { return nil, false }
func (b *scripted) Close() error             { return nil }

func (b *scripted) Trailer() *exchange.Fields {
	if b.trailer.Len() == 0 {
		return nil
	}
	return &b.trailer
}

func TestResponses(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		resp := &x.Response
		switch x.Request.Path {
		case "/text":
			answer(x, 200, "text")
		case "/none":
			resp.Status, resp.ContentLength = 204, 0
		case "/unchanged":
			resp.Status, resp.ContentLength = 304, 7
		case "/odd":
			resp.Status = 299
			resp.Header.Add("Connection", "close")
			resp.Header.Add("X-Split", "a\r\nb: c")
			resp.Header.Add("X y", "z")
			resp.Header.Add("X-UPPER", "Case")
			resp.Header.Add("Date", "then")
		case "/stream":
			body := &scripted{pieces: []string{"a", "", "bc"}}
			body.trailer.Add("X-Sum", "3")
			resp.Status, resp.ContentLength, resp.Body = 200, -1, body
		case "/long":
			resp.Status, resp.ContentLength, resp.Body = 200, 2, &scripted{pieces: []string{"abc"}}
		case "/short":
			resp.Status, resp.ContentLength, resp.Body = 200, 4, &scripted{pieces: []string{"abc"}}
		case "/broken":
			resp.Status, resp.ContentLength, resp.Body = 200, -1, &scripted{pieces: []string{"abc"}, err: brokenBody(io.ErrUnexpectedEOF)}
		case "/gateway":
			resp.Status, resp.ContentLength, resp.Body = 200, -1, &scripted{pieces: []string{"abc"}, err: &exchange.Error{Fault: exchange.FaultGateway, Err: errInterrupted}}
		default: // no response at all
		}
	}}})
	client := dialRaw(t, r.address)
	id := uint32(1)
	ask := func(method, path string) response {
		client.headers(id, true, ":method", method, ":scheme", "http", ":path", path, ":authority", "a.test")
		got := client.response(id)
		id += 2
		return got
	}
	if got := ask("GET", "/text"); got.status != "200" || got.body != "text" || got.fields["content-length"] != "4" || got.fields["date"] == "" {
		t.Errorf("got %+v", got)
	}
	if got := ask("HEAD", "/text"); got.status != "200" || got.body != "" || got.fields["content-length"] != "4" {
		t.Errorf("HEAD got %+v", got)
	}
	if got := ask("GET", "/none"); got.status != "204" || len(got.fields) != 2 {
		t.Errorf("204 is %+v", got)
	}
	if got := ask("GET", "/unchanged"); got.status != "304" || got.fields["content-length"] != "7" || got.body != "" {
		t.Errorf("304 is %+v", got)
	}
	if got := ask("GET", "/odd"); got.status != "299" || got.fields["x-upper"] != "Case" || got.fields["date"] != "then" || len(got.fields) != 3 {
		t.Errorf("fields that end here or are malformed: %+v", got)
	}
	if got := ask("GET", "/stream"); got.body != "abc" || got.trailer["x-sum"] != "3" || got.fields["content-length"] != "" {
		t.Errorf("stream is %+v", got)
	}
	if got := ask("GET", "/nothing"); got.status != "500" {
		t.Errorf("no response is %+v", got)
	}
	for _, path := range []string{"/long", "/short", "/broken"} {
		if got := ask("GET", path); got.status != "200" || !got.reset || got.code != http2.ErrCodeInternal {
			t.Errorf("%s is %+v, want a reset with INTERNAL_ERROR", path, got)
		}
	}
	if got := ask("GET", "/gateway"); !got.reset || got.code != http2.ErrCodeCancel {
		t.Errorf("given up by the gateway: %+v, want a reset with CANCEL", got)
	}
}

// TestSmallerTable has a client whose decoder keeps no table, and which has to
// be told that nothing is kept.
func TestSmallerTable(t *testing.T) {
	r := newRig(t, Options{Handler: newReuse()})
	client := dialRaw(t, r.address, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	for id, first := range []byte{0x20, 0x88} {
		client.headers(uint32(2*id+1), true, get()...)
		if e := client.await(http2.FrameHeaders); e.block[0] != first {
			t.Errorf("header section %d begins with %#x, want %#x", id, e.block[0], first)
		}
	}
}

func TestCookiesAreJoined(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		cookie, _ := x.Request.Header.Get(exchange.FieldCookie)
		after, _ := x.Request.Header.GetName("z")
		if n := x.Request.Header.Count(exchange.FieldCookie); n != 1 {
			t.Errorf("%d cookie fields", n)
		}
		answer(x, 200, cookie+"|"+after)
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, true, get("cookie", "a=b", "y", "1", "cookie", "c=d", "cookie", "e=f", "z", "2")...)
	if got := client.response(1); got.body != "a=b; c=d; e=f|2" {
		t.Errorf("got %q", got.body)
	}
	// The next request on the connection has none of them.
	client.headers(3, true, get("cookie", "g=h", "z", "3")...)
	if got := client.response(3); got.body != "g=h|3" {
		t.Errorf("got %q", got.body)
	}
}

func TestInterimResponses(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		if x.Request.Path == "/hints" {
			var header exchange.Fields
			header.Add("Link", "</a.css>")
			if err := x.Interim.WriteInterim(103, &header); err != nil {
				t.Error(err)
			}
			if x.Interim.WriteInterim(101, nil) == nil || x.Interim.WriteInterim(200, nil) == nil {
				t.Error("101 and 200 were taken for interim responses")
			}
			answer(x, 200, "hinted")
			return
		}
		if x.Request.Path == "/unwanted" {
			answer(x, 403, "no")
			return
		}
		echo(x)
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/hints", ":authority", "a.test")
	if e := client.await(http2.FrameHeaders); e.fields[":status"] != "103" || e.fields["link"] != "</a.css>" || e.end {
		t.Errorf("got %+v", e)
	}
	if got := client.response(1); got.status != "200" || got.body != "hinted" {
		t.Errorf("got %+v", got)
	}

	client.headers(3, false, post("expect", "100-continue")...)
	if e := client.await(http2.FrameHeaders); e.fields[":status"] != "100" || e.end {
		t.Errorf("got %+v, want 100", e)
	}
	client.check(client.framer.WriteData(3, true, []byte("body")))
	if got := client.response(3); got.status != "200" || got.body != "body" {
		t.Errorf("got %+v", got)
	}

	client.headers(5, false, ":method", "POST", ":scheme", "http", ":path", "/unwanted", ":authority", "a.test", "expect", "100-continue")
	if e := client.await(http2.FrameHeaders); e.fields[":status"] != "403" {
		t.Errorf("got %+v, want 403 and no 100", e)
	}
}

// TestEarlyResponse answers before the body has come: the client gets the
// whole answer, and is told to send no more.
func TestEarlyResponse(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 413, "too much") }}})
	client := dialRaw(t, r.address)
	client.headers(1, false, post("content-length", "1000000")...)
	client.check(client.framer.WriteData(1, false, make([]byte, 1000)))
	if got := client.response(1); got.status != "413" || got.body != "too much" || got.reset {
		t.Errorf("got %+v", got)
	}
	if e := client.await(http2.FrameRSTStream); e.stream != 1 || e.code != http2.ErrCodeNo {
		t.Errorf("got %+v, want NO_ERROR", e)
	}
	// What is on its way still is not taken amiss.
	client.check(client.framer.WriteData(1, false, make([]byte, 1000)))
	client.headers(1, true, "x-trailer", "late")
	client.headers(3, true, get()...)
	if got := client.response(3); got.status != "413" {
		t.Errorf("the next request got %+v", got)
	}
}

func TestClientResetCancels(t *testing.T) {
	causes, ends := make(chan error, 1), make(chan error, 1)
	began := make(chan struct{})
	r := newRig(t, Options{Handler: handler{
		serve: func(x *exchange.Exchange) {
			interrupted := make(patience, 1)
			if err := x.Await(interrupted); err != nil {
				t.Error(err)
			}
			close(began)
			<-interrupted
			_ = x.Await(nil)
			causes <- x.Cause()
			answer(x, 200, "too late")
		},
		done: func(_ *exchange.Exchange, err error) { ends <- err },
	}})
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	<-began
	client.check(client.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	if cause := <-causes; !errors.Is(cause, exchange.ErrClientGone) {
		t.Errorf("cause is %v", cause)
	}
	if failure := exchange.AsError(<-ends); failure == nil || failure.Fault != exchange.FaultClient || !errors.Is(failure, exchange.ErrClientGone) {
		t.Errorf("ended with %v", failure)
	}
}

func TestClosedConnectionCancels(t *testing.T) {
	causes := make(chan error, 1)
	began := make(chan struct{})
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		interrupted := make(patience, 1)
		if err := x.Await(interrupted); err != nil {
			t.Error(err)
		}
		close(began)
		<-interrupted
		_ = x.Await(nil)
		causes <- x.Cause()
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, true, get()...)
	<-began
	_ = client.nc.Close()
	if cause := <-causes; !errors.Is(cause, exchange.ErrClientGone) {
		t.Errorf("cause is %v", cause)
	}
}

// TestWindowFollowsPulls sends until the window is shut, which only pulling
// opens.
func TestWindowFollowsPulls(t *testing.T) {
	pull := make(chan struct{})
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) {
		<-pull
		body, err := readAll(x.Request.Body)
		answer(x, 200, fmt.Sprint(len(body), err))
	}}})
	client := dialRaw(t, r.address)
	client.headers(1, false, post()...)
	window := 64 << 10
	for range 4 {
		client.check(client.framer.WriteData(1, false, make([]byte, window/4)))
	}
	client.check(client.framer.WritePing(false, [8]byte{}))
	for e := client.next(); e.kind != http2.FramePing; e = client.next() {
		if e.kind == http2.FrameWindowUpdate && e.stream == 1 {
			t.Error("the window was opened before anything was pulled")
		}
	}
	close(pull)
	if e := client.await(http2.FrameWindowUpdate); e.stream != 1 {
		t.Errorf("got %+v", e)
	}
	client.check(client.framer.WriteData(1, true, nil))
	if got := client.response(1); got.body != fmt.Sprint(window, " <nil>") {
		t.Errorf("the handler got %s", got.body)
	}
}

// TestWindowIsKept is TestWindowFollowsPulls' twin: one byte more than the
// window allows.
func TestWindowIsKept(t *testing.T) {
	h := newHold()
	r := newRig(t, Options{Handler: h})
	defer close(h.release)
	client := dialRaw(t, r.address)
	client.headers(1, false, post()...)
	for range 4 {
		client.check(client.framer.WriteData(1, false, make([]byte, 16<<10)))
	}
	client.check(client.framer.WriteData(1, false, make([]byte, 1)))
	if e := client.await(http2.FrameRSTStream); e.stream != 1 || e.code != http2.ErrCodeFlowControl {
		t.Errorf("got %+v, want FLOW_CONTROL_ERROR", e)
	}
}

// TestUnreadBodiesReturnTheirWindow sends many bodies that nobody pulls: what
// they took of the connection's window comes back when they are over.
func TestUnreadBodiesReturnTheirWindow(t *testing.T) {
	r := newRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 200, "ok") }}, ConnWindow: 128 << 10})
	client := dialRaw(t, r.address)
	id, sent, window := uint32(1), 0, defaultWindow
	for sent < 1<<20 {
		for window < 30<<10 && !t.Failed() {
			e := client.next()
			if e.closed || e.kind == http2.FrameGoAway {
				t.Fatalf("got %+v", e)
			}
			if e.kind == http2.FrameWindowUpdate && e.stream == 0 {
				window += e.more
			}
		}
		client.headers(id, false, post()...)
		client.check(client.framer.WriteData(id, false, bytes.Repeat([]byte("x"), 15<<10)))
		client.check(client.framer.WriteDataPadded(id, true, bytes.Repeat([]byte("x"), 15<<10-101), make([]byte, 100)))
		sent, window = sent+30<<10, window-30<<10
		id += 2
	}
	client.headers(id, true, get()...)
	if got := client.response(id); got.status != "200" {
		t.Errorf("got %+v", got)
	}
}
