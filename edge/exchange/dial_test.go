package exchange

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An endpoint that takes connections and never shakes hands is given up after
// the time for that, however long connecting may take.
func TestHandshakeTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	d := Dialer{
		Address: listener.Addr().String(), Connect: new(net.Dialer).DialContext,
		TLS: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it never comes to a certificate
	}
	_, failure := d.Dial(&Exchange{Timeouts: Timeouts{Connect: time.Hour, TLS: 50 * time.Millisecond}})
	if failure == nil || !failure.Timeout || failure.Wrote || failure.Phase != PhaseConnect || failure.Fault != FaultUpstream {
		t.Errorf("%+v", failure)
	}
}

// TestDialFailures: whose fault it is that there is no connection.
func TestDialFailures(t *testing.T) {
	for _, c := range []struct {
		err     error
		fault   Fault
		timeout bool
	}{
		{syscall.ECONNREFUSED, FaultUpstream, false},
		{context.DeadlineExceeded, FaultUpstream, true},
		{syscall.EMFILE, FaultGateway, false},
		{syscall.EADDRNOTAVAIL, FaultGateway, false},
	} {
		d := Dialer{Address: "192.0.2.1:80", Timeout: time.Hour, Connect: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: c.err}
		}}
		_, failure := d.Dial(&Exchange{})
		if failure == nil || failure.Fault != c.fault || failure.Timeout != c.timeout || failure.Wrote || !strings.Contains(failure.Error(), "192.0.2.1:80") {
			t.Errorf("%v: %+v", c.err, failure)
		}
	}
}

// TestDialIsCancelled: connecting ends with the exchange, for its cause.
func TestDialIsCancelled(t *testing.T) {
	for cause, fault := range map[error]Fault{ErrClientGone: FaultClient, ErrZoneLost: FaultGateway} {
		var x Exchange
		d := Dialer{Timeout: time.Hour, Connect: func(ctx context.Context, _, _ string) (net.Conn, error) {
			x.Cancel(cause)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		for range 2 { // while it connects, and before
			if _, failure := d.Dial(&x); failure == nil || failure.Fault != fault || failure.Err != cause || failure.Wrote { //nolint:errorlint // the cause itself
				t.Errorf("%v: %+v", cause, failure)
			}
		}
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestDialAgreesOnAProtocol, or has no connection.
func TestDialAgreesOnAProtocol(t *testing.T) {
	pair := selfSigned(t)
	for _, c := range []struct {
		offered, agreed string
		ok              bool
	}{{"h2", "h2", true}, {"h2", "", false}, {"", "", true}} {
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() {
			config := &tls.Config{Certificates: []tls.Certificate{pair}}
			if c.agreed != "" {
				config.NextProtos = []string{c.agreed}
			}
			server := tls.Server(theirs, config)
			served <- server.Handshake()
			_, _ = server.Read(make([]byte, 1)) // until the other side closes
			_ = theirs.Close()
		}()
		d := Dialer{
			Timeout: time.Minute, Protocol: c.offered, TLS: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // who it is does not matter here
			Connect: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
		}
		if c.offered != "" {
			d.TLS.NextProtos = []string{c.offered}
		}
		conn, failure := d.Dial(&Exchange{})
		if (failure == nil) != c.ok || failure != nil && failure.Fault != FaultUpstream {
			t.Errorf("%+v: %+v", c, failure)
		}
		if conn != nil {
			_ = conn.Close()
		}
		if err := <-served; err != nil && c.ok {
			t.Error(err)
		}
	}
}
