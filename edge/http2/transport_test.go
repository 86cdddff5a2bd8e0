package http2

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

// newTransport is a transport to a listener that the test accepts from.
func newTransport(t testing.TB, options TransportOptions) (*Transport, net.Listener) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	options.Engine, options.Address = runEngine(t), listener.Addr().String()
	if options.ConnectTimeout == 0 {
		options.ConnectTimeout = 5 * time.Second
	}
	transport, err := NewTransport(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = transport.Close()
		await(t, "the connections' end", func() bool { return transport.Stats().Open == 0 })
	})
	return transport, listener
}

// request is an exchange as a codec would make it.
func request(method string, body exchange.Body, length int64) *exchange.Exchange {
	x := new(exchange.Exchange)
	x.Request = exchange.Request{Method: method, Scheme: "http", Authority: "a.test", Path: "/", Body: body, ContentLength: length}
	return x
}

// whole is a body that is there already.
func whole(text string) *exchange.BytesBody {
	body := new(exchange.BytesBody)
	body.Set([]byte(text))
	return body
}

// end closes what an exchange holds.
func end(x *exchange.Exchange) {
	if x.Response.Body != nil {
		_ = x.Response.Body.Close()
	}
	x.Release()
}

func TestRoundTrip(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		origin := acceptRaw(t, listener)
		e := origin.await(http2.FrameHeaders)
		if e.fields[":method"] != "PUT" || e.fields[":path"] != "/?a" || e.fields[":authority"] != "a.test" || e.fields[":scheme"] != "http" ||
			e.fields["content-length"] != "4" || e.fields["te"] != "trailers" || e.fields["x-mixed"] != "Case" || e.fields["connection"] != "" {
			t.Errorf("the request is %+v", e)
		}
		if e = origin.await(http2.FrameData); e.data != "body" || !e.end {
			t.Errorf("the body is %+v", e)
		}
		origin.headers(1, false, ":status", "103", "link", "early")
		origin.headers(1, false, ":status", "200", "x-answer", "yes")
		origin.check(origin.framer.WriteData(1, false, []byte("answer")))
		origin.headers(1, true, "x-trailer", "last")
		// The second: a response that is a header section alone.
		e = origin.await(http2.FrameHeaders)
		origin.headers(e.stream, true, ":status", "200", "grpc-status", "5")
		origin.await(http2.FrameGoAway)
	})
	x := request("PUT", whole("body"), 4)
	x.Request.Query, x.Request.HasQuery, x.Request.TETrailers = "a", true, true
	x.Request.Header.Add("X-Mixed", "Case")
	x.Request.Header.Add("Connection", "close")
	hints := new(hinted)
	x.Interim = hints
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	body, err := readAll(x.Response.Body)
	if err != nil || string(body) != "answer" || x.Response.Status != 200 || x.Response.ContentLength != -1 {
		t.Errorf("got %d %q of %d bytes, %v", x.Response.Status, body, x.Response.ContentLength, err)
	}
	if trailer := x.Response.Body.Trailer(); trailer == nil || trailer.Len() != 1 || trailer.At(0).Value != "last" {
		t.Errorf("trailer is %v", trailer)
	}
	if hints.status != 103 {
		t.Errorf("interim response is %d", hints.status)
	}
	end(x)
	x = request("GET", nil, 0)
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	if status, _ := x.Response.Header.GetName("grpc-status"); status != "5" || x.Response.Body != nil || x.Response.ContentLength != 0 {
		t.Errorf("got %+v", x.Response)
	}
	end(x)
	if stats := transport.Stats(); stats.Open != 1 || stats.Idle != 1 || stats.InFlight != 0 {
		t.Errorf("stats are %+v", stats)
	}
	if err := transport.Close(); err != nil {
		t.Error(err)
	}
	if failure := exchange.AsError(transport.RoundTrip(request("GET", nil, 0))); failure == nil || !errors.Is(failure, exchange.ErrClosed) || failure.Wrote {
		t.Errorf("after Close: %v", failure)
	}
}

// hinted takes interim responses.
type hinted struct{ status int }

func (h *hinted) WriteInterim(status int, _ *exchange.Fields) error {
	h.status = status
	return nil
}

// TestFailures has endpoints that fail in each way there is; want is what the
// error must say.
func TestFailures(t *testing.T) {
	type want struct {
		phase          exchange.Phase
		fault          exchange.Fault
		timeout, wrote bool
	}
	upstream := exchange.FaultUpstream
	cases := []struct {
		name  string
		serve func(origin *raw)
		body  bool
		want  want
	}{
		{"reset", func(o *raw) {
			o.await(http2.FrameHeaders)
			o.check(o.framer.WriteRSTStream(1, http2.ErrCodeInternal))
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"refused", func(o *raw) {
			for e := o.await(http2.FrameHeaders); !e.closed; e = o.await(http2.FrameHeaders) {
				o.check(o.framer.WriteRSTStream(e.stream, http2.ErrCodeRefusedStream))
			}
		}, false, want{exchange.PhaseAwait, upstream, false, false}},
		{"closed", func(o *raw) {
			o.await(http2.FrameHeaders)
			_ = o.nc.Close()
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"silent", func(o *raw) { o.await(http2.FrameHeaders) }, false, want{exchange.PhaseAwait, upstream, true, true}},
		{"silent after the body", func(o *raw) { o.await(http2.FrameData) }, true, want{exchange.PhaseAwait, upstream, true, true}},
		{"malformed status", func(o *raw) {
			o.await(http2.FrameHeaders)
			o.headers(1, true, ":status", "20")
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"connection field", func(o *raw) {
			o.await(http2.FrameHeaders)
			o.headers(1, true, ":status", "200", "transfer-encoding", "chunked")
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"101", func(o *raw) {
			o.await(http2.FrameHeaders)
			o.headers(1, true, ":status", "101")
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"push", func(o *raw) {
			o.await(http2.FrameHeaders)
			o.check(o.framer.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true}))
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
		{"endless interim", func(o *raw) {
			o.await(http2.FrameHeaders)
			for range maxInterim + 1 {
				o.headers(1, false, ":status", "103")
			}
		}, false, want{exchange.PhaseAwait, upstream, false, true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			transport, listener := newTransport(t, TransportOptions{})
			var serving sync.WaitGroup
			defer serving.Wait()
			serving.Go(func() {
				if origin := acceptRaw(t, listener); origin != nil {
					c.serve(origin)
				}
			})
			x := request("POST", nil, 0)
			if c.body {
				x = request("POST", &scripted{pieces: []string{"a", "b"}}, -1)
			}
			x.Timeouts.Head = 200 * time.Millisecond
			failure := exchange.AsError(transport.RoundTrip(x))
			if failure == nil {
				t.Fatalf("got %+v", x.Response)
			}
			if got := (want{failure.Phase, failure.Fault, failure.Timeout, failure.Wrote}); got != c.want {
				t.Errorf("got %+v, want %+v: %v", got, c.want, failure)
			}
			end(x)
			_ = transport.Close()
		})
	}
}

// TestBrokenBodies are responses that fail after their head.
func TestBrokenBodies(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(origin *raw)
	}{
		{"reset", func(o *raw) { o.check(o.framer.WriteRSTStream(1, http2.ErrCodeCancel)) }},
		{"closed", func(o *raw) { _ = o.nc.Close() }},
		{"short", func(o *raw) { o.check(o.framer.WriteData(1, true, nil)) }},
		{"long", func(o *raw) { o.check(o.framer.WriteData(1, true, []byte("too much"))) }},
		{"silent", func(*raw) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			transport, listener := newTransport(t, TransportOptions{})
			var serving sync.WaitGroup
			defer serving.Wait()
			serving.Go(func() {
				origin := acceptRaw(t, listener)
				origin.await(http2.FrameHeaders)
				origin.headers(1, false, ":status", "200", "content-length", "6")
				origin.check(origin.framer.WriteData(1, false, []byte("abc")))
				c.serve(origin)
			})
			x := request("GET", nil, 0)
			x.Timeouts.Idle = 200 * time.Millisecond
			if err := transport.RoundTrip(x); err != nil {
				t.Fatal(err)
			}
			body, err := readAll(x.Response.Body)
			failure := exchange.AsError(err)
			if failure == nil || failure.Phase != exchange.PhaseReceive || failure.Fault != exchange.FaultUpstream || failure.Timeout != (c.name == "silent") {
				t.Errorf("%q and then %v", body, failure)
			}
			end(x)
			_ = transport.Close()
		})
	}
}

// TestGoAwayAllowsAnotherTry has an endpoint that ends its connection: what it
// has not looked at goes over another one, the rest is answered.
func TestGoAwayAllowsAnotherTry(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		first := acceptRaw(t, listener)
		first.await(http2.FrameHeaders)
		first.await(http2.FrameHeaders)
		first.check(first.framer.WriteGoAway(1, http2.ErrCodeNo, nil))
		second := acceptRaw(t, listener)
		second.await(http2.FrameHeaders)
		second.headers(1, true, ":status", "202")
		first.headers(1, true, ":status", "201")
		second.await(http2.FrameGoAway)
	})
	statuses := make(chan int, 2)
	for n := range 2 {
		serving.Go(func() {
			x := request("POST", nil, 0)
			if err := transport.RoundTrip(x); err != nil {
				t.Error(err)
			}
			statuses <- x.Response.Status
			end(x)
		})
		if n == 0 {
			await(t, "the first request", func() bool { return transport.Stats().InFlight == 1 })
		}
	}
	if sum := <-statuses + <-statuses; sum != 201+202 {
		t.Errorf("statuses add up to %d", sum)
	}
	_ = transport.Close()
}

func TestCancellation(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	x := request("GET", nil, 0)
	serving.Go(func() {
		origin := acceptRaw(t, listener)
		origin.await(http2.FrameHeaders)
		x.Cancel(exchange.ErrClientGone)
		if e := origin.await(http2.FrameRSTStream); e.code != http2.ErrCodeCancel || e.stream != 1 {
			t.Errorf("got %+v", e)
		}
		// The connection goes on.
		origin.await(http2.FrameHeaders)
		origin.headers(3, true, ":status", "200")
		origin.await(http2.FrameGoAway)
	})
	failure := exchange.AsError(transport.RoundTrip(x))
	if failure == nil || failure.Fault != exchange.FaultClient || !errors.Is(failure, exchange.ErrClientGone) || !failure.Wrote {
		t.Errorf("got %v", failure)
	}
	x = request("GET", nil, 0)
	if err := transport.RoundTrip(x); err != nil {
		t.Error(err)
	}
	end(x)
	x = request("GET", nil, 0)
	x.Cancel(exchange.ErrZoneLost)
	if failure := exchange.AsError(transport.RoundTrip(x)); failure == nil || failure.Fault != exchange.FaultGateway || failure.Wrote {
		t.Errorf("cancelled before: %v", failure)
	}
	_ = transport.Close()
}

// TestEarlyAnswerEndsTheUpload has an endpoint that answers and wants no more.
func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		origin := acceptRaw(t, listener)
		origin.await(http2.FrameData)
		origin.headers(1, true, ":status", "403")
		origin.check(origin.framer.WriteRSTStream(1, http2.ErrCodeNo))
		origin.await(http2.FrameGoAway)
	})
	body := &endless{stop: make(chan struct{})}
	x := request("POST", body, -1)
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	if x.Response.Status != 403 {
		t.Errorf("status is %d", x.Response.Status)
	}
	end(x)
	if err := transport.Close(); err != nil {
		t.Error(err)
	}
}

// endless is a body that gives one piece and then waits to be interrupted.
type endless struct {
	given bool
	once  sync.Once
	stop  chan struct{}
}

func (b *endless) Next() ([]byte, error) {
	if !b.given {
		b.given = true
		return []byte("piece"), nil
	}
	<-b.stop
	return nil, &exchange.Error{Fault: exchange.FaultGateway, Err: errInterrupted}
}

func (b *endless) Buffered() ([]byte, bool)  { return nil, false }
func (b *endless) Trailer() *exchange.Fields { return nil }
func (b *endless) Close() error              { return nil }
func (b *endless) Interrupt()                { b.once.Do(func() { close(b.stop) }) }

// A body that is pulled when its time is over already says nothing about the
// endpoint, which may have waited for whoever pulls.
func TestDeadlineWithinBody(t *testing.T) {
	for name, late := range map[string]bool{"pulled in time": false, "pulled late": true} {
		t.Run(name, func(t *testing.T) {
			transport, listener := newTransport(t, TransportOptions{})
			x := request(http.MethodGet, nil, 0)
			x.Deadline = time.Now().Add(200 * time.Millisecond)
			var serving sync.WaitGroup
			serving.Go(func() {
				if r := acceptRaw(t, listener); r != nil {
					r.await(http2.FrameHeaders)
					r.headers(1, false, ":status", "200", "content-length", "10")
					r.await(http2.FrameRSTStream)
				}
			})
			defer serving.Wait()
			if err := transport.RoundTrip(x); err != nil {
				t.Fatal(err)
			}
			defer end(x)
			if late {
				await(t, "the deadline", func() bool { return transport.eng.now.Load() > transport.eng.at(x.Deadline) })
			}
			_, err := x.Response.Body.Next()
			want := map[bool]exchange.Fault{false: exchange.FaultUpstream, true: exchange.FaultGateway}[late]
			if failure := exchange.AsError(err); !failure.Timeout || failure.Fault != want {
				t.Errorf("got %v", err)
			}
		})
	}
}
