package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestDrain(t *testing.T) {
	hold, serving := make(chan struct{}), make(chan struct{})
	rig := newRig(t, Options{Handler: handlerFunc(func(x *exchange.Exchange) {
		if x.Request.Path == "/held" {
			serving <- struct{}{}
			<-hold
		}
		echo(x)
	})})
	idle, fresh, busy := rig.dial(), rig.dial(), rig.dial()
	idle.send(get + "\r\n")
	idle.receive(http.MethodGet)
	busy.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\nGET /ahead HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-serving
	eventually(t, "all connections are known", func() bool { s := rig.server.Stats(); return s.Idle == 2 && s.Active == 1 })
	drained := make(chan error, 1)
	go func() { drained <- rig.server.Drain(context.Background()) }()
	for _, c := range []*client{idle, fresh} {
		if rest := c.ended(); rest != "" {
			t.Errorf("an idle connection got %q", rest)
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("drained before the last response: %v", err)
	default:
	}
	close(hold)
	if response := busy.receive(http.MethodGet); response.body != "GET /held " || !response.closes {
		t.Errorf("%+v", response)
	}
	if rest := busy.ended(); rest != "" {
		t.Errorf("%q after the last response", rest)
	}
	_ = busy.Close() // else it is lingered for
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatLasts(t *testing.T) {
	origin := newOrigin(t, func(o *origin, nc net.Conn) { o.readUntil(nc, "never") })
	var ended chan outcome
	rig, transport := newProxyRig(t, origin.address, func(_ *Options, _ *TransportOptions, p *proxy) { ended = outcomes(p) })
	c := rig.dial()
	c.send(get + "\r\n")
	eventually(t, "the request is under way", func() bool { return origin.bytes.Load() > 0 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rig.server.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drained: %v", err)
	}
	// The proxy's word that the request was cancelled may still get out before
	// the connection is cut.
	if end := <-ended; end.err != nil && exchange.AsError(end.err).Fault != exchange.FaultGateway || end.err == nil && end.status < 500 {
		t.Errorf("%+v", end)
	}
	if stats := transport.Stats(); stats.Open != 0 {
		t.Errorf("%+v", stats)
	}
	for range 20 {
		late := rig.dial()
		_, _ = io.WriteString(late.Conn, get+"\r\n") // it may be closed already
		if rest, _ := io.ReadAll(late); len(rest) != 0 {
			t.Fatalf("a connection after the end got %q", rest)
		}
	}
}
