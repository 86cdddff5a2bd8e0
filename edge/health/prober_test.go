package health

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

func target(server *httptest.Server, protocol federation.Protocol) *federation.Instance {
	return &federation.Instance{
		Key:     federation.Key{Service: "user-service", ID: "u1"},
		Address: server.Listener.Addr().String(), Protocol: protocol,
	}
}

func newTestProber(t *testing.T, change func(*Probing)) *prober {
	t.Helper()
	p := Options{}.withDefaults().Probing
	if change != nil {
		change(&p)
	}
	prober := newProber(p)
	t.Cleanup(prober.close)
	return prober
}

func TestProbeAnswers(t *testing.T) {
	for status, well := range map[int]bool{200: true, 204: true, 302: true, 399: true, 400: false, 404: false, 429: false, 500: false, 503: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/") // not followed
			w.WriteHeader(status)
		}))
		err := newTestProber(t, nil).probe(context.Background(), target(server, ""), Check{Path: "/healthz"})
		if (err == nil) != well {
			t.Errorf("status %d: %v", status, err)
		}
		server.CloseClientConnections()
		server.Close()
	}
}

func TestProbeAsksAsDeclared(t *testing.T) {
	var asked atomic.Value
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Proto + " " + r.RequestURI)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	p := newTestProber(t, nil)
	defer p.close()
	for protocol, want := range map[federation.Protocol]string{"": "GET HTTP/1.1 /ready?deep=1", federation.H2C: "GET HTTP/2.0 /ready?deep=1"} {
		connections.Store(0)
		for range 3 {
			if err := p.probe(context.Background(), target(server, protocol), Check{Path: "/ready?deep=1"}); err != nil {
				t.Fatal(err)
			}
		}
		if got := asked.Load(); got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%d connections for three probes, want one kept", n)
		}
	}
}

func TestProbeOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	trusting := newTestProber(t, func(p *Probing) { p.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig })
	if err := trusting.probe(context.Background(), target(server, federation.HTTPS), Check{Path: "/healthz"}); err != nil {
		t.Error(err)
	}
	if err := newTestProber(t, nil).probe(context.Background(), target(server, federation.HTTPS), Check{Path: "/healthz"}); err == nil {
		t.Error("a certificate of nobody was trusted")
	}
}

func TestProbeOfWhatDoesNotAnswer(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := newTestProber(t, nil).probe(ctx, target(server, ""), Check{Path: "/healthz"}); err == nil {
		t.Error("no answer was taken for well")
	}
	close(hang)
	server.Close()
	if err := newTestProber(t, nil).probe(context.Background(), target(server, ""), Check{Path: "/healthz"}); err == nil {
		t.Error("a refused connection was taken for well")
	}
}

func TestConnectOnly(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	p := newTestProber(t, func(p *Probing) { p.ConnectOnly = true })
	if err := p.probe(context.Background(), target(server, ""), Check{Path: "/healthz"}); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := p.probe(context.Background(), target(server, ""), Check{Path: "/healthz"}); err == nil {
		t.Error("a closed port was taken for well")
	}
}

// The whole of it on real sockets: an instance that stops answering is out, and
// back once it answers.
func TestMonitorOnRealEndpoints(t *testing.T) {
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() || r.URL.Path != "/live" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var mu sync.Mutex
	var last federation.HealthRecord
	m, err := NewMonitor(Options{
		Self: "e0", Zone: "az1", Incarnation: 1,
		Probing:  Probing{Interval: 20 * time.Millisecond},
		Recovery: Recovery{Step: 10 * time.Millisecond},
		Sink: func(records []federation.HealthRecord) {
			mu.Lock()
			defer mu.Unlock()
			last = records[len(records)-1]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.SetChecks(map[string]Check{"user-service": {Path: "/live"}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	i := target(server, "")
	i.Zone = "az1"
	tr := m.Tracker(i)
	defer tr.Close()
	for _, want := range []federation.HealthStatus{federation.Healthy, federation.Unhealthy, federation.Healthy} {
		down.Store(want == federation.Unhealthy)
		deadline := time.Now().Add(10 * time.Second)
		for {
			mu.Lock()
			got := last.Status
			mu.Unlock()
			if got == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("status %s, want %s", got, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// An upstream URL's endpoint promises no health path: whatever it answers there
// must not take it out.
func TestLocalEndpointsAreConnectedToOnly(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	defer server.Close()
	p := newTestProber(t, nil)
	i := target(server, "")
	if err := p.probe(context.Background(), i, Check{Path: "/healthz"}); err == nil {
		t.Error("a registered instance without its health path was taken for well")
	}
	i.Service = "api.example.net:443"
	if err := p.probe(context.Background(), i, Check{Path: "/healthz"}); err != nil {
		t.Errorf("an upstream URL's endpoint: %v", err)
	}
}

// A plain gRPC server answers no path: it is asked in its own protocol.
func TestProbeOfGRPC(t *testing.T) {
	var answer atomic.Pointer[func(http.ResponseWriter)]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/grpc.health.v1.Health/Check" ||
			r.Header.Get("Content-Type") != "application/grpc" || !bytes.Equal(body, make([]byte, 5)) {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		(*answer.Load())(w)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	says := func(message []byte, status string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			_, _ = w.Write(message)
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		}
	}
	p := newTestProber(t, nil)
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		well   bool
	}{
		"serving":            {says([]byte{0, 0, 0, 0, 2, 8, 1}, "0"), true},
		"not serving":        {says([]byte{0, 0, 0, 0, 2, 8, 2}, "0"), false},
		"unknown":            {says([]byte{0, 0, 0, 0, 0}, "0"), false},
		"another status":     {says([]byte{0, 0, 0, 0, 2, 8, 1}, "14"), false},
		"not implemented":    {func(w http.ResponseWriter) { w.Header().Set("Grpc-Status", "12") }, false},
		"no gRPC at all":     {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") }, false},
		"an error of HTTP's": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, false},
	} {
		answer.Store(&c.answer)
		if err := p.probe(context.Background(), target(server, federation.H2C), Check{Kind: CheckGRPC}); (err == nil) != c.well {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.probe(context.Background(), target(server, federation.H2C), Check{Path: "/healthz"}); err == nil {
		t.Error("it answers a path")
	}
	if err := p.probe(context.Background(), target(server, federation.H2C), Check{Kind: CheckConnect}); err != nil {
		t.Errorf("connected to: %v", err)
	}
}
