package http2

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

// watched is a body that is never at hand, and knows whether it was pulled.
type watched struct {
	pieces []string
	pulled atomic.Int32
}

func (b *watched) Next() ([]byte, error) {
	n := int(b.pulled.Add(1)) - 1
	if n >= len(b.pieces) {
		return nil, io.EOF
	}
	return []byte(b.pieces[n]), nil
}

func (b *watched) Buffered() ([]byte, bool)  { return nil, false }
func (b *watched) Trailer() *exchange.Fields { return nil }
func (b *watched) Close() error              { return nil }

func uploading(body exchange.Body) *exchange.Exchange {
	return &exchange.Exchange{
		Conn:    &exchange.Conn{},
		Request: exchange.Request{Method: "POST", Scheme: "http", Authority: "a.test", Path: "/", Body: body, ContentLength: -1},
	}
}

// TestHeldBodies: an endpoint that refuses with a head alone costs the request
// nothing of its body; one that wants the body, or answers without waiting for
// it, gets it.
func TestHeldBodies(t *testing.T) {
	engine := runEngine(t)
	began := make(chan struct{})
	server := newRig(t, Options{Engine: engine, Handler: handler{serve: func(x *exchange.Exchange) {
		switch x.Request.Path {
		case "/refuses":
			x.Response.Status = 503
		case "/streams": // answers before it pulls
			x.Response.Status, x.Response.ContentLength, x.Response.Body = 200, -1, x.Request.Body
			<-began
		default:
			echo(x)
		}
	}}})
	for _, hold := range []bool{true, false} {
		transport, err := NewTransport(TransportOptions{Address: server.address, Engine: engine, HoldBodies: hold})
		if err != nil {
			t.Fatal(err)
		}
		body := &watched{pieces: []string{"one", "two"}}
		x := uploading(body)
		x.Request.Path = "/refuses"
		if err := transport.RoundTrip(x); err != nil || x.Response.Status != 503 {
			t.Fatalf("refused: %d, %v", x.Response.Status, err)
		}
		x.Release()
		if hold && body.pulled.Load() != 0 {
			t.Errorf("a body was pulled %d times that nobody wanted", body.pulled.Load())
		}
		// The very same request elsewhere.
		x.Request.Path = "/echo"
		if hold {
			if err := transport.RoundTrip(x); err != nil {
				t.Fatal(err)
			}
			got, err := readAll(x.Response.Body)
			if x.Release(); err != nil || string(got) != "onetwo" {
				t.Errorf("echoed %q, %v", got, err)
			}
		}
		if err := transport.Close(); err != nil {
			t.Error(err)
		}
	}
	transport, err := NewTransport(TransportOptions{Address: server.address, Engine: engine, HoldBodies: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = transport.Close() }()
	x := uploading(&watched{pieces: []string{"one", "two"}})
	x.Request.Path = "/streams"
	close(began)
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(x.Response.Body)
	if x.Release(); err != nil || string(got) != "onetwo" {
		t.Errorf("streamed %q, %v", got, err)
	}
}

// TestHeldBodiesAgainstAnotherServer holds it against net/http, which asks for
// bodies by itself.
func TestHeldBodiesAgainstAnotherServer(t *testing.T) {
	engine := runEngine(t)
	address := newOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuses" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%d %v", len(body), err)
	}))
	transport, err := NewTransport(TransportOptions{Address: address, Engine: engine, HoldBodies: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = transport.Close() }()
	for range 20 {
		body := &watched{pieces: []string{strings.Repeat("x", 100_000), strings.Repeat("y", 1)}}
		x := uploading(body)
		x.Request.Path = "/refuses"
		if err := transport.RoundTrip(x); err != nil || x.Response.Status != 503 || body.pulled.Load() != 0 {
			t.Fatalf("refused: %d, %v, %d pulls", x.Response.Status, err, body.pulled.Load())
		}
		x.Release()
		x.Request.Path = "/takes"
		if err := transport.RoundTrip(x); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(x.Response.Body)
		if x.Release(); err != nil || string(got) != "100001 <nil>" {
			t.Fatalf("answered %q, %v", got, err)
		}
	}
	// A small body that is at hand goes with the head, and stays at hand.
	small := new(exchange.BytesBody)
	small.Set([]byte("small"))
	x := uploading(small)
	x.Request.Path, x.Request.ContentLength = "/refuses", 5
	if err := transport.RoundTrip(x); err != nil || x.Response.Status != 503 {
		t.Fatalf("refused: %d, %v", x.Response.Status, err)
	}
	x.Release()
	if _, all := small.Buffered(); !all {
		t.Error("a body at hand was pulled")
	}
}
