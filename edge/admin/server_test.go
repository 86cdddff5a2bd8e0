package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/edge/api"
)

func TestNothingElseIsServed(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/", http.StatusNotFound, ""},
		{http.MethodGet, "/v1", http.StatusNotFound, ""},
		{http.MethodGet, "/v1/federation/", http.StatusNotFound, ""},
		{http.MethodGet, "//v1/federation", http.StatusNotFound, ""},
		{http.MethodGet, "/v1/failover/", http.StatusNotFound, ""},
		{http.MethodPost, "/v1/releases/v2-beta/promote", http.StatusNotFound, ""},
		{http.MethodPost, "/v1/releases/v2-beta/pause", http.StatusNotFound, ""},
		{http.MethodPost, "/v1/releases/v2-beta/abort", http.StatusNotFound, ""},
		{http.MethodGet, "/debug/pprof/", http.StatusNotFound, ""},
		{http.MethodPut, "/v1/services/a%2Fb/instances/c", http.StatusNotFound, ""},
		{http.MethodPost, "/v1/federation", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodOptions, "/v1/events", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodGet, u1, http.StatusMethodNotAllowed, "DELETE, PUT"},
		{http.MethodPatch, u1, http.StatusMethodNotAllowed, "DELETE, PUT"},
		{http.MethodGet, u1 + "/drain", http.StatusMethodNotAllowed, "POST"},
		{http.MethodDelete, "/v1/explain", http.StatusMethodNotAllowed, "POST"},
	} {
		got := r.send(c.method, c.path, "")
		if p := got.problem(t); p.Status != c.status || got.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %s, Allow %q; want %d, %q", c.method, c.path, got.Status, got.Header.Get("Allow"), c.status, c.allow)
		}
	}
	if got := r.send(http.MethodHead, "/v1/federation", ""); got.StatusCode != http.StatusOK || got.ContentLength <= 0 {
		t.Errorf("HEAD: %s of %d bytes", got.Status, got.ContentLength)
	}
}

// TestReadiness: healthz says that the process lives, readyz why it is not
// ready, on both listeners.
func TestReadiness(t *testing.T) {
	r := newRig(t, func(o *Options) { o.HealthAddress = "127.0.0.1:0" })
	health := "http://" + r.HealthAddress().String()
	r.state.setReady(errors.New("no full snapshot of the registry yet"))
	for _, base := range []string{r.base, health} {
		got := r.sendTo(http.DefaultClient, base, http.MethodGet, "/readyz", "")
		if p := got.problem(t); p.Status != http.StatusServiceUnavailable || p.Type != api.ProblemNotReady || p.Detail != "no full snapshot of the registry yet" {
			t.Errorf("%s/readyz: %s", base, got.body)
		}
		if got := r.sendTo(http.DefaultClient, base, http.MethodGet, "/healthz", ""); got.StatusCode != http.StatusOK {
			t.Errorf("%s/healthz: %s", base, got.Status)
		}
	}
	if p := problemOfError(t, r.client().Ready(t.Context())); p.Detail != "no full snapshot of the registry yet" {
		t.Errorf("the client says %v", p)
	}
	r.state.setReady(nil)
	for _, base := range []string{r.base, health} {
		if got := r.sendTo(http.DefaultClient, base, http.MethodGet, "/readyz", ""); got.StatusCode != http.StatusOK {
			t.Errorf("%s/readyz: %s", base, got.Status)
		}
	}
	if err := r.client().Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if p := r.sendTo(http.DefaultClient, health, http.MethodGet, "/v1/federation", "").problem(t); p.Status != http.StatusNotFound {
		t.Errorf("the health listener has the API: %v", p)
	}
	if p := r.sendTo(http.DefaultClient, health, http.MethodPut, u1, `{"zone":"az1","address":"10.0.0.7:80"}`).problem(t); p.Status != http.StatusNotFound {
		t.Errorf("the health listener takes registrations: %v", p)
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t, nil)
	r.send(http.MethodGet, "/v1/services/anything/instances", "")
	r.send(http.MethodGet, "/v1/services/anything-else/instances", "")
	r.send(http.MethodGet, "/strange", "")
	r.send(http.MethodPut, u1, "")
	got := r.send(http.MethodGet, "/metrics", "")
	for _, line := range []string{
		`grayfed_admin_requests_total{code="2xx",endpoint="GET /v1/services/{service}/instances"} 2`,
		`grayfed_admin_requests_total{code="4xx",endpoint="none"} 1`,
		`grayfed_admin_requests_total{code="4xx",endpoint="PUT /v1/services/{service}/instances/{id}"} 1`,
		"grayfed_admin_connections 1",
	} {
		if !strings.Contains(string(got.body), line+"\n") {
			t.Errorf("no line %s in\n%s", line, got.body)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxConnections = 2 })
	address := r.Address().String()
	var held []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		held = append(held, conn)
	}
	eventually(t, func() error {
		if open := r.api.open.Load(); open != 2 {
			return fmt.Errorf("%d connections are open", open)
		}
		return nil
	})
	beyond, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = beyond.Close() }()
	if _, err := beyond.Read(make([]byte, 1)); err == nil || r.api.refused.Load() != 1 {
		t.Errorf("a third connection: %v, %d refused", err, r.api.refused.Load())
	}
	if err := held[0].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if open := r.api.open.Load(); open != 1 {
			return fmt.Errorf("%d connections are open", open)
		}
		return nil
	})
	if got := r.send(http.MethodGet, "/healthz", ""); got.StatusCode != http.StatusOK {
		t.Errorf("after one has left: %s", got.Status)
	}
}

// TestClosingTwiceFreesOnePlace: net/http closes a connection again when the
// server shuts down.
func TestClosingTwiceFreesOnePlace(t *testing.T) {
	l, err := bind(t.Context(), "127.0.0.1:0", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if open := l.open.Load(); open != 1 {
		t.Errorf("%d are open", open)
	}
	_ = conn.Close()
	if err := conn.Close(); err == nil || l.open.Load() != 0 {
		t.Errorf("after closing twice %d are open, %v", l.open.Load(), err)
	}
}

func TestLargeHeadIsRefused(t *testing.T) {
	r := newRig(t, nil)
	for size, accepted := range map[int]bool{8 << 10: true, 64 << 10: false} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Large", strings.Repeat("x", size))
		response, err := http.DefaultClient.Do(request)
		if err != nil { // it is closed in the middle of the head
			if accepted {
				t.Error(err)
			}
			continue
		}
		_ = response.Body.Close()
		if want := http.StatusRequestHeaderFieldsTooLarge; accepted != (response.StatusCode == http.StatusOK) || !accepted && response.StatusCode != want {
			t.Errorf("a head of %d bytes: %s", size, response.Status)
		}
	}
}

// TestSlowClientsAreLeft: who does not finish a head or a body, or sends
// nothing more, does not keep its connection.
func TestSlowClientsAreLeft(t *testing.T) {
	r := newRig(t, nil)
	r.restart(func(s *Server) {
		s.timeouts = timeouts{head: 50 * time.Millisecond, read: 50 * time.Millisecond, write: time.Minute, idle: 50 * time.Millisecond}
	})
	for name, text := range map[string]string{
		"nothing":     "",
		"half a head": "GET /healthz HTTP/1.1\r\nHost: loc",
		"half a body": "PUT " + u1 + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
		"one request": "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", r.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(deadline)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open", name)
		}
	}
	if n := r.registry.called(); n != 0 {
		t.Errorf("the registry was called %d times", n)
	}
}

func TestOpenNamesWhatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, health := range []bool{false, true} {
		r := newRig(t, nil)
		o := r.opts
		o.Registerer = nil
		o.Address = taken.Addr().String()
		if health {
			o.Address, o.HealthAddress = "127.0.0.1:0", taken.Addr().String()
		}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("a taken port: %v", err)
		}
		if err := s.Run(t.Context()); err == nil {
			t.Error("it ran on a taken port")
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// TestCloseFreesThePort: an edge whose assembly fails after Open.
func TestCloseFreesThePort(t *testing.T) {
	o := newRig(t, nil).opts
	o.Registerer, o.HealthAddress = nil, "127.0.0.1:0"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, address := range []net.Addr{s.Address(), s.HealthAddress()} {
		again, err := net.Listen("tcp", address.String())
		if err != nil {
			t.Fatalf("the port is still taken: %v", err)
		}
		_ = again.Close()
	}
}

func TestOptions(t *testing.T) {
	good := newRig(t, nil).opts
	good.Registerer = nil
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"no catalog":               {func(o *Options) { o.Catalog = nil }, "required"},
		"no events":                {func(o *Options) { o.Events = nil }, "required"},
		"no address":               {func(o *Options) { o.Address = "" }, "address"},
		"a host name":              {func(o *Options) { o.Address = "edge.example.com:9081" }, "edge.example.com"},
		"a strange port":           {func(o *Options) { o.Address = "127.0.0.1:http" }, "127.0.0.1:http"},
		"off loopback, open":       {func(o *Options) { o.Address = "0.0.0.0:0" }, "certificate and a tokens file"},
		"everywhere, open":         {func(o *Options) { o.Address = ":0" }, "certificate and a tokens file"},
		"off loopback, no TLS":     {func(o *Options) { o.Address, o.TokensFile = "0.0.0.0:0", "tokens" }, "certificate and a tokens file"},
		"a certificate, no key":    {func(o *Options) { o.CertFile = "cert.pem" }, "go together"},
		"no such certificate":      {func(o *Options) { o.CertFile, o.KeyFile = "no-cert.pem", "no-key.pem" }, "no-cert.pem"},
		"no such tokens":           {func(o *Options) { o.TokensFile = "no-tokens" }, "no-tokens"},
		"a negative limit":         {func(o *Options) { o.MaxConnections = -1 }, "-1"},
		"a strange health address": {func(o *Options) { o.HealthAddress = "nowhere" }, "nowhere"},
	} {
		o := good
		c.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestShutdownFinishesRequests: what runs is answered, what comes later is not.
func TestShutdownFinishesRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(o *Options) {
		o.Ready = func() error {
			close(entered)
			<-release
			return nil
		}
	})
	conn, err := net.Dial("tcp", r.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	<-r.stopping
	close(release)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("a running request got %v, %v", response, err)
	} else {
		_ = response.Body.Close()
	}
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if _, err := net.Dial("tcp", r.Address().String()); err == nil {
		t.Error("it still listens")
	}
}

// TestRunEndsWhenItCannotServe: its socket is closed behind its back.
func TestRunEndsWhenItCannotServe(t *testing.T) {
	o := newRig(t, nil).opts
	o.Registerer = nil
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), s.Address().String()) {
		t.Errorf("Run ended with %v", err)
	}
}

func TestAddressesOfAllInterfaces(t *testing.T) {
	listener, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		listener, err = net.Listen("tcp", "0.0.0.0:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	own := ownAddresses([]netip.AddrPort{(&boundListener{Listener: listener}).address()}, slog.New(slog.DiscardHandler))
	_ = listener.Close()
	if !slices.ContainsFunc(own, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() && a.Port() == own[0].Port() }) {
		t.Errorf("own addresses are %v", own)
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	end := time.Now().Add(deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
