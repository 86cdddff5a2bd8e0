package http2

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/exchange"
)

// An endpoint that takes connections and never shakes hands is given up after
// the time for that, however long connecting may take.
func TestHandshakeTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	transport, err := NewTransport(TransportOptions{
		Address: listener.Addr().String(), Engine: runEngine(t), TLS: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it never comes to a certificate
	})
	if err != nil {
		t.Fatal(err)
	}
	defer transport.Close()
	x := &exchange.Exchange{Timeouts: exchange.Timeouts{Connect: time.Hour, TLS: 50 * time.Millisecond}}
	x.Request = exchange.Request{Method: "GET", Path: "/"}
	failure := exchange.AsError(transport.RoundTrip(x))
	if failure == nil || !failure.Timeout || failure.Wrote || failure.Phase != exchange.PhaseConnect || failure.Fault != exchange.FaultUpstream {
		t.Errorf("%+v", failure)
	}
}
