package http2

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/grayfed/grayfed/edge/exchange"
)

func TestConnectFailures(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{})
	_ = listener.Close()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			failure := exchange.AsError(transport.RoundTrip(request("GET", nil, 0)))
			if failure == nil || failure.Phase != exchange.PhaseConnect || failure.Fault != exchange.FaultUpstream || failure.Wrote {
				t.Errorf("got %v", failure)
			}
		})
	}
	all.Wait()
}

func TestLimitsOfConnections(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{MaxConns: 2, MaxStreamsPerConn: 10})
	var serving sync.WaitGroup
	defer serving.Wait()
	answer := make(chan struct{})
	for range 2 {
		serving.Go(func() {
			origin := acceptRaw(t, listener, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
			first := origin.await(http2.FrameHeaders)
			second := origin.await(http2.FrameHeaders)
			<-answer
			origin.headers(first.stream, true, ":status", "200")
			origin.headers(second.stream, true, ":status", "200")
			origin.await(http2.FrameGoAway)
		})
	}
	for n := range 4 {
		serving.Go(func() {
			x := request("GET", nil, 0)
			if err := transport.RoundTrip(x); err != nil {
				t.Error(err)
			}
			end(x)
		})
		await(t, "the request's place", func() bool { return transport.Stats().InFlight == n+1 })
		await(t, "the settings", func() bool { return transport.capacityKnown() })
	}
	failure := exchange.AsError(transport.RoundTrip(request("GET", nil, 0)))
	if failure == nil || !errors.Is(failure, exchange.ErrPoolExhausted) || failure.Fault != exchange.FaultGateway || failure.Wrote {
		t.Errorf("got %v", failure)
	}
	close(answer)
	await(t, "the answers", func() bool { return transport.Stats().InFlight == 0 })
	_ = transport.Close()
}

func (t *Transport) capacityKnown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		if c.capacity.Load() > 2 {
			return false
		}
	}
	return true
}

// TestSilentConnectionIsGivenUp lets a connection be silent and then not
// answer: the next exchange finds out by PING.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	transport, listener := newTransport(t, TransportOptions{PingInterval: time.Millisecond, PingTimeout: 100 * time.Millisecond})
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		origin := acceptRaw(t, listener)
		origin.await(http2.FrameHeaders)
		origin.headers(1, true, ":status", "200")
		if e := origin.await(http2.FramePing); e.ack || e.closed {
			t.Errorf("got %+v, want a PING", e)
		}
		for e := origin.next(); !e.closed; e = origin.next() {
		}
	})
	x := request("GET", nil, 0)
	if err := transport.RoundTrip(x); err != nil {
		t.Fatal(err)
	}
	end(x)
	heard := transport.eng.now.Load()
	await(t, "the silence", func() bool { return transport.eng.now.Load() > heard+int64(2*sweepTick) })
	failure := exchange.AsError(transport.RoundTrip(request("POST", nil, 0)))
	if failure == nil || !failure.Timeout || failure.Fault != exchange.FaultUpstream || !failure.Wrote || !failure.Reused {
		t.Errorf("got %v", failure)
	}
}

func TestTLSToTheEndpoint(t *testing.T) {
	config := newCertificate(t)
	roots := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(certificate)
	origin := newTLSRig(t, Options{Handler: handler{serve: func(x *exchange.Exchange) { answer(x, 200, x.Request.Scheme) }}}, config)
	for _, c := range []struct {
		name   string
		config *tls.Config
		good   bool
	}{
		{"verified", &tls.Config{RootCAs: roots}, true},
		{"unknown authority", &tls.Config{}, false},
		{"another name", &tls.Config{RootCAs: roots, ServerName: "b.test"}, false},
	} {
		transport, err := NewTransport(TransportOptions{Address: origin.address, Engine: origin.engine, TLS: c.config, ConnectTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		x := request("GET", nil, 0)
		failure := exchange.AsError(transport.RoundTrip(x))
		if c.good {
			if failure != nil {
				t.Fatalf("%s: %v", c.name, failure)
			}
			if body, err := readAll(x.Response.Body); string(body) != "https" || err != nil {
				t.Errorf("%s: got %q, %v", c.name, body, err)
			}
			end(x)
		} else if failure == nil || failure.Phase != exchange.PhaseConnect || failure.Fault != exchange.FaultUpstream {
			t.Errorf("%s: %v", c.name, failure)
		}
		_ = transport.Close()
	}
}
