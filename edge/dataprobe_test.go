package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/failover"
)

// pingOnce asks one data listener once.
func pingOnce(t *testing.T, target probeTarget) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return ping(ctx, target)
}

// TestPingOfAnEdge: every kind of data listener gives a sign of life, and what
// asks for it is in no account of requests.
func TestPingOfAnEdge(t *testing.T) {
	w := startWhole(t, testDocuments, func(p *config.Process) {
		p.Log.Access = true
		add := func(name string, change func(*config.Listener)) {
			l := p.Listeners[0]
			l.Name, l.Address = name, "127.0.0.1:0"
			change(&l)
			p.Listeners = append(p.Listeners, l)
		}
		add("clients", func(l *config.Listener) {
			with := *l.TLS
			with.ClientCAFile, with.ClientAuth = with.Certificates[0].CertFile, "require"
			l.TLS = &with
		})
		add("proxied", func(l *config.Listener) {
			l.TLS, l.ProxyFrom = nil, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		})
		add("redirect", func(l *config.Listener) { l.TLS, l.RedirectHTTPS = nil, 443 })
		add("http1", func(l *config.Listener) { l.TLS, l.HTTP2 = nil, false })
	})
	for n, l := range w.edge.process.DataListeners() {
		target := probeTarget{edge: "az1-edge", address: w.edge.data.listeners[n].Address().String(), tls: l.TLS != nil}
		if err := pingOnce(t, target); err != nil {
			t.Errorf("listener %s: %v", l.Name, err)
		}
	}
	for series, value := range w.series() {
		if strings.HasPrefix(series, "grayfed_requests_total") && value != "0" {
			t.Errorf("%s is %s", series, value)
		}
	}
	if status, _, _ := w.get("/users/1", ""); status != http.StatusServiceUnavailable {
		t.Errorf("a request gets %d", status)
	}
	eventually(t, "a request's line", func() error {
		if !strings.Contains(w.log.String(), "/users/1") {
			return errors.New("not there yet")
		}
		return nil
	})
	if strings.Contains(w.log.String(), "OPTIONS") {
		t.Error("pings are in the access log")
	}
}

// TestPingAfterARequest: on one connection, neither is taken for the other.
func TestPingAfterARequest(t *testing.T) {
	w := startWhole(t, testDocuments, func(p *config.Process) { p.Log.Access = true })
	conn, err := net.Dial("tcp", w.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"+
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"+"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || strings.Count(string(answer), "HTTP/1.1 404 ") != 2 || strings.Count(string(answer), "HTTP/1.1 204 ") != 1 {
		t.Errorf("%s, %v", answer, err)
	}
	eventually(t, "two lines", func() error {
		if n := strings.Count(w.log.String(), `"path":"/nowhere"`); n != 2 {
			return fmt.Errorf("%d lines: %s", n, w.log.String())
		}
		return nil
	})
	if n := strings.Count(w.log.String(), `"status":`); n != 2 {
		t.Errorf("%d lines for two requests: %s", n, w.log.String())
	}
	if strings.Contains(w.log.String(), `"level":"ERROR"`) {
		t.Errorf("an error: %s", w.log.String())
	}
}

// TestPingOfOthers: what is no living edge gives none.
func TestPingOfOthers(t *testing.T) {
	listen := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serve(conn)
			}
		}()
		t.Cleanup(func() {
			_ = l.Close()
			<-done
		})
		return l.Addr().String()
	}
	gone := listen(func(conn net.Conn) { _ = conn.Close() })
	garbage := listen(func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	endless := listen(func(conn net.Conn) {
		_, _ = io.WriteString(conn, strings.Repeat("x", 1000))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	// As a frozen process: the system completes the connection, nobody takes it.
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Close() }()
	if err := pingOnce(t, probeTarget{edge: "e", address: gone}); err != nil {
		t.Errorf("who turns the prober away lives: %v", err)
	}
	for what, address := range map[string]string{"garbage": garbage, "endless": endless, "nobody": "127.0.0.1:" + freePort(t)} {
		if err := pingOnce(t, probeTarget{edge: "e", address: address}); err == nil {
			t.Errorf("%s gives a sign of life", what)
		}
	}
	probes := newDataProbes(50*time.Millisecond, 2)
	for _, secure := range []bool{false, true} {
		target := probeTarget{edge: "e", address: frozen.Addr().String(), tls: secure}
		if err := probes.look(t.Context(), []probeTarget{target})[target]; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("frozen, TLS %t: %v", secure, err)
		}
	}
	if _, err := tls.Dial("tcp", gone, &tls.Config{InsecureSkipVerify: true}); err == nil { //nolint:gosec // nothing is sent
		t.Error("the listener of this test speaks TLS")
	}
}

func TestProbesAreCounted(t *testing.T) {
	p := newDataProbes(time.Second, 3)
	target := probeTarget{edge: "e", address: "192.0.2.1:80"}
	expect := func(what string, err error, want failover.Verdict) {
		t.Helper()
		p.take(map[probeTarget]error{target: err})
		if got := p.verdict("e"); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	missed := errors.New("missed")
	expect("first miss", missed, failover.VerdictUnknown)
	expect("second", missed, failover.VerdictUnknown)
	expect("third", missed, failover.Dead)
	expect("answers", nil, failover.Alive)
	expect("miss", missed, failover.Alive)
	expect("miss", missed, failover.Alive)
	expect("answers again", nil, failover.Alive)
	expect("misses start anew", missed, failover.Alive)
	expect("miss", missed, failover.Alive)
	expect("dead", missed, failover.Dead)
	target.address = "192.0.2.2:80"
	expect("it has moved", missed, failover.VerdictUnknown)
	p.take(nil)
	if got := p.verdict("e"); got != failover.VerdictUnknown || len(p.known) != 0 {
		t.Errorf("not probed any more: %s", got)
	}
	if p.missed.Load() != 9 {
		t.Errorf("%d misses are counted", p.missed.Load())
	}
}
