package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func testClient(t *testing.T, url string, timeout time.Duration, change ...func(*Target)) *client {
	t.Helper()
	target := testTarget("az1", "az2")
	target.Edges[0].Data, target.Edges[1].Data = url, "http://127.0.0.1:1"
	for _, f := range change {
		f(target)
	}
	c, err := newClient(&Load{Timeout: timeout, Reconnect: 1000}, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	for n := range c.doors {
		// A busy machine is slow to connect.
		if c.doors[n].patience = deadlineOfTests; c.secure[n] != nil {
			c.secure[n].patience = deadlineOfTests
		}
	}
	return c
}

func askOnce(t *testing.T, c *client, j job) outcome {
	t.Helper()
	o := outcome{job: j, entry: j.edge, zone: -1}
	c.ask(t.Context(), j, &o)
	return o
}

// TestClientTellsAnswers from what a server only says it is.
func TestClientTellsAnswers(t *testing.T) {
	const mine = `{"version":"v1","zone":"az2"}`
	for _, c := range []struct {
		name    string
		answer  func(w http.ResponseWriter)
		failure string
		wrong   string
		zone    int
	}{
		{"an instance", func(w http.ResponseWriter) { _, _ = io.WriteString(w, mine) }, "", "", 1},
		{"of a zone that is none", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"version":"v1","zone":"az9"}`) }, "", "", -1},
		{"another version", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"version":"v2-beta"}`) }, "", "answered by version v2-beta instead of v1", -1},
		{"no version", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"zone":"az1"}`) }, "an answer that names no version", "", -1},
		{"no JSON", func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") }, "an answer that names no version", "", -1},
		{"well but not OK", func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated); _, _ = io.WriteString(w, mine) }, "answered 201", "", -1},
		{"a refusal", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"detail":"no endpoint is usable","reason":"no-canary-usable"}`)
		}, "answered 503 no endpoint is usable (no-canary-usable)", "", -1},
		{"an endless body", func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxAnswer+1)) }, "a body of more than 65536 bytes", "", -1},
		{"half a body", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, mine)
		}, "connection closed before the answer", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }))
			defer server.Close()
			o := askOnce(t, testClient(t, server.URL, deadlineOfTests), job{})
			if o.failure != c.failure || o.wrong != c.wrong || o.zone != c.zone {
				t.Errorf("failure %q, wrong %q, zone %d; want %q, %q, %d", o.failure, o.wrong, o.zone, c.failure, c.wrong, c.zone)
			}
		})
	}
	if o := askOnce(t, testClient(t, "http://127.0.0.1:1", deadlineOfTests), job{}); o.failure != "connect: connection refused" {
		t.Errorf("nobody there: %q", o.failure)
	}
}

// TestClientSendsWhatItPlanned: tag, method and body of each kind of request.
func TestClientSendsWhatItPlanned(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %s tag=%s %s", r.Method, r.Host, r.URL.Path, r.Header.Get("x-release-tag"), body)
		w.Header().Set("X-Version", "v2-beta")
		w.Header().Set("X-Zone", "az1")
	}))
	defer server.Close()
	c := testClient(t, server.URL, deadlineOfTests, func(target *Target) {
		target.Request.Host, target.Request.VersionHeader, target.Request.ZoneHeader = "users.test", "X-Version", "X-Zone"
	})
	for _, want := range []struct {
		job  job
		text string
		ok   bool
	}{
		{job{class: untagged}, "GET users.test /api/v1/users/42 tag= ", false},
		{job{class: permissive}, "GET users.test /api/v1/users/42 tag=v2-beta ", true},
		{job{class: strict}, "GET users.test /api/v1/users/42 tag=v2-strict ", true},
		{job{class: strict, post: true}, `POST users.test /api/v1/users/42 tag=v2-strict {"name":"drill"}`, true},
	} {
		o := askOnce(t, c, want.job)
		if text := <-got; text != want.text {
			t.Errorf("sent %q, want %q", text, want.text)
		}
		if (o.wrong == "") != want.ok || o.failure != "" || o.zone != 0 {
			t.Errorf("%+v: %+v", want.job, o)
		}
	}
}

// TestClientBoundsItsWait: a server that takes the request and is silent.
func TestClientBoundsItsWait(t *testing.T) {
	listener := listen(t, func(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) })
	begun := time.Now()
	o := askOnce(t, testClient(t, "http://"+listener, 150*time.Millisecond), job{})
	if o.failure != "no answer in time" || time.Since(begun) < 150*time.Millisecond {
		t.Errorf("after %s: %q", time.Since(begun), o.failure)
	}
}

// TestIdleConnectionsBreak: of requests on a connection that breaks, idempotent
// ones are sent once more and others are lost, and one that the server closed
// while it was idle is not used at all.
func TestIdleConnectionsBreak(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"version\":\"v1\"}"
	var requests atomic.Int64
	// The first connection answers once, then reads one request more and closes.
	listener := listen(t, func(conn net.Conn, n int) {
		for in := bufio.NewReader(conn); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if requests.Add(1); n%2 == 0 && requests.Load()%3 == 2 {
				return
			}
			_, _ = io.WriteString(conn, answer)
		}
	})
	c := testClient(t, "http://"+listener, deadlineOfTests)
	if o := askOnce(t, c, job{}); o.failure != "" {
		t.Fatal(o.failure)
	}
	if o := askOnce(t, c, job{}); o.failure != "" || requests.Load() != 3 {
		t.Errorf("idempotent: %q after %d requests, want one more on another connection", o.failure, requests.Load())
	}
	// Connection 1 goes on; make it idle no more, so that a new even one comes.
	c.doors[0].close()
	if o := askOnce(t, c, job{}); o.failure != "" {
		t.Fatal(o.failure)
	}
	if o := askOnce(t, c, job{post: true}); o.failure != "connection closed before the answer" || requests.Load() != 5 {
		t.Errorf("POST: %q after %d requests, want it lost and not repeated", o.failure, requests.Load())
	}

	closed := make(chan struct{})
	listener = listen(t, func(conn net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, answer)
		}
		_ = conn.Close()
		closed <- struct{}{}
	})
	c = testClient(t, "http://"+listener, deadlineOfTests)
	for range 3 {
		if o := askOnce(t, c, job{post: true}); o.failure != "" {
			t.Errorf("POST on a connection closed while idle: %q", o.failure)
		}
		<-closed
		awaitClosed(t, c.doors[0])
	}
}

// TestSentTwiceAtMost: with several idle connections that all break, a request
// is sent once more on a new one and then lost: what breaks again and again is
// not to pass for an answer.
func TestSentTwiceAtMost(t *testing.T) {
	var requests, connections atomic.Int64
	breaking := atomic.Bool{}
	both := make(chan struct{})
	listener := listen(t, func(conn net.Conn, n int) {
		connections.Add(1)
		for in := bufio.NewReader(conn); ; {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			if requests.Add(1); breaking.Load() {
				return
			}
			if requests.Load() == 2 {
				close(both)
			}
			<-both // so that two connections are idle
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"version\":\"v1\"}")
		}
	})
	c := testClient(t, "http://"+listener, deadlineOfTests)
	first := make(chan outcome, 1)
	go func() { first <- askOnce(t, c, job{}) }()
	if o, other := askOnce(t, c, job{}), <-first; o.failure != "" || other.failure != "" {
		t.Fatal(o.failure, other.failure)
	}
	breaking.Store(true)
	if o := askOnce(t, c, job{}); o.failure != "connection closed before the answer" || requests.Load() != 4 || connections.Load() != 3 {
		t.Errorf("%q after %d requests on %d connections, want two more, the last on a new one", o.failure, requests.Load(), connections.Load())
	}
}

// awaitClosed waits until the end of the idle connection has arrived.
func awaitClosed(t *testing.T, d *door) {
	t.Helper()
	d.mu.Lock()
	w := d.idle[0]
	d.mu.Unlock()
	for begun := time.Now(); w.silent(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the connection is not closed")
		}
	}
}

// TestConnectionsAreGivenUp after their number of requests, and when the server
// says so.
func TestConnectionsAreGivenUp(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(w, `{"version":"v1"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := testClient(t, server.URL, deadlineOfTests)
	c.doors[0].reconnect = 4
	for range 12 {
		askOnce(t, c, job{})
	}
	if got := connections.Load(); got != 3 {
		t.Errorf("%d connections for 12 requests at 4 each", got)
	}
	for range 3 {
		if o := askOnce(t, c, job{post: true}); o.failure != "" {
			t.Error(o.failure)
		}
	}
	if got := connections.Load(); got != 6 {
		t.Errorf("%d connections, want one more for each closed", got)
	}
}

// TestTLSIsVerified: a certificate that nobody trusted signed is no entry.
func TestTLSIsVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"version":"v1"}`) }))
	server.Config.ErrorLog = nil
	defer server.Close()
	trusting := testClient(t, "http://127.0.0.1:1", deadlineOfTests, func(target *Target) {
		target.Edges[0].TLS = server.URL
		target.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	})
	for range 3 {
		if o := askOnce(t, trusting, job{tls: true}); o.failure != "" {
			t.Errorf("trusted: %q", o.failure)
		}
	}
	strange := testClient(t, "http://127.0.0.1:1", deadlineOfTests, func(target *Target) { target.Edges[0].TLS = server.URL })
	if o := askOnce(t, strange, job{tls: true}); !strings.Contains(o.failure, "certificate") {
		t.Errorf("not trusted: %q", o.failure)
	}
}

// listen serves connections, numbered from 0, each until serve returns.
func listen(t *testing.T, serve func(net.Conn, int)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var open []net.Conn
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn, n)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}
