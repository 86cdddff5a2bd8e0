package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// testBench is a bench with running origins and this binary as grayfed.
func testBench(t *testing.T) *bench {
	t.Helper()
	lockThread(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		settings: settings{Mode: modeIdle, Workers: 2, Idle: 20},
		progress: &bytes.Buffer{}, dir: t.TempDir(), programs: map[string]string{peerGrayfed: self}, openFiles: 1024,
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	if b.cert, err = newCertificate(b.dir); err != nil {
		t.Fatal(err)
	}
	if b.stable, err = startOrigin(b.dir, stableRelease); err != nil {
		t.Fatal(err)
	}
	if b.canary, err = startOrigin(b.dir, canaryRelease); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGrayfedIsStartedCheckedAndEnded(t *testing.T) {
	b := testBench(t)
	ctx := context.Background()
	p, err := b.startGrayfed(ctx, protocol{}, true, plainRoutes())
	if err != nil {
		t.Fatal(err)
	}
	check := func() error { return verify(ctx, p.entrance, pathPrefix+"42") }
	if err := waitFor(ctx, 10*time.Second, p.root, check); err != nil {
		t.Error(err)
	}
	lines, err := p.discard()
	if err != nil || lines < 4 {
		t.Errorf("%d lines were logged, %v; want one a request", lines, err)
	}
	if running(p.root.pid) {
		t.Error("the edge outlives its end")
	}
	if _, err := net.DialTimeout("tcp4", p.listen.String(), time.Second); err == nil {
		t.Error("the edge still listens")
	}
}

// Swapped origins are what a proxy that ignores the tag looks like from both
// sides.
func TestVerifyRefusesSwappedReleases(t *testing.T) {
	b := testBench(t)
	ctx := context.Background()
	b.stable.addr, b.canary.addr = b.canary.addr, b.stable.addr
	p, err := b.startGrayfed(ctx, protocol{}, false, plainRoutes())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := p.discard(); err != nil {
			t.Error(err)
		}
	}()
	var last error
	check := func() error {
		last = verify(ctx, p.entrance, pathPrefix+"42")
		if last != nil && strings.Contains(last.Error(), "reached release") {
			return nil
		}
		return errors.Join(last, errors.New("not the expected refusal"))
	}
	if err := waitFor(ctx, 10*time.Second, p.root, check); err != nil {
		t.Error(err)
	}
}

func TestGrayfedThatDoesNotStartIsReported(t *testing.T) {
	b := testBench(t)
	b.programs[peerGrayfed] = "/bin/false"
	if _, err := b.startGrayfed(context.Background(), protocol{}, false, plainRoutes()); err == nil || !strings.Contains(err.Error(), "etcd ended by itself") {
		t.Errorf("a grayfed that ends at once: %v", err)
	}
}

func TestIdleConnectionsAreHeldAndCounted(t *testing.T) {
	b := testBench(t)
	r := &report{Mode: modeIdle}
	b.settings.Only = []string{peerGrayfed}
	if err := b.idle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	var protocols []string
	for _, row := range r.Idle {
		protocols = append(protocols, row.Protocol)
		if row.Fault != "" || row.Connections != 20 || row.After.Resident <= 0 {
			t.Errorf("%+v", row)
		}
	}
	if want := []string{"h1", "h1 over TLS", "h2 over TLS"}; !slices.Equal(protocols, want) {
		t.Errorf("idle connections of %v, want %v", protocols, want)
	}
}

func TestClosedIdleConnectionIsNoticed(t *testing.T) {
	lockThread(t)
	o, err := startOrigin(t.TempDir(), stableRelease)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := openIdle(context.Background(), entrance{listen: o.addr}, 2*idlePerSource)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if host, _, err := net.SplitHostPort(conn.LocalAddr().String()); err != nil || host != "127.0.0.4" {
		t.Errorf("connection %d comes from %s, %v", 2*idlePerSource, host, err)
	}
	if open, err := stillOpen(conn); err != nil || !open {
		t.Errorf("open %v, %v", open, err)
	}
	if err := o.end(); err != nil {
		t.Fatal(err)
	}
	if open, err := stillOpen(conn); err != nil || open {
		t.Errorf("after the origin's end: open %v, %v", open, err)
	}
}

func TestRegistrarBeatsUntilStopped(t *testing.T) {
	beats := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case beats <- r.Method + " " + r.URL.Path:
		default:
		}
		if r.Method == http.MethodPut {
			http.Error(w, "address: not allowed", http.StatusUnprocessableEntity)
		}
	}))
	defer server.Close()
	reg := &registrar{admin: netip.MustParseAddrPort(server.Listener.Addr().String()), client: &http.Client{}}
	instance := &backend{child: &child{name: "origin-x"}, addr: netip.MustParseAddrPort("127.0.0.1:1")}
	stop := reg.keepAlive(time.Millisecond, instance)
	for range 3 {
		if got, want := <-beats, "POST /v1/services/user-service/instances/origin-x/heartbeat"; got != want {
			t.Errorf("beat %q, want %q", got, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := reg.register(context.Background(), instance); err == nil || !strings.Contains(err.Error(), "address: not allowed") {
		t.Errorf("a refused registration: %v", err)
	}
}
