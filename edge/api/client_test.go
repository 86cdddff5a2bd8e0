package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grayfed/grayfed/federation"
)

var key = federation.Key{Service: "user-service", ID: "u-1"}

// serve runs a handler and returns a client of it.
func serve(t *testing.T, handler http.HandlerFunc, o ClientOptions) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	o.URL = server.URL + "/"
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if c.URL() != server.URL {
		t.Errorf("URL %s, want %s", c.URL(), server.URL)
	}
	return c
}

// TestRequests: each call is the request of the contract.
func TestRequests(t *testing.T) {
	var got *http.Request
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, body = r, string(data)
		if r.Method == http.MethodDelete || strings.HasSuffix(r.URL.Path, "/heartbeat") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, `{"revision":42,"field-of-a-later-version":true}`)
	}, ClientOptions{Token: "token-of-this-test"})
	ctx := t.Context()
	const instance = "/v1/services/user-service/instances/u-1"
	for want, call := range map[string]func() error{
		"GET /v1/federation":                       func() error { _, err := c.Federation(ctx); return err },
		"GET /v1/services":                         func() error { _, err := c.Services(ctx); return err },
		"GET /v1/services/user-service/instances":  func() error { _, err := c.Instances(ctx, "user-service"); return err },
		"GET /v1/services/a%2Fb/instances":         func() error { _, err := c.Instances(ctx, "a/b"); return err },
		"DELETE " + instance + ` "7"`:              func() error { return c.Deregister(ctx, key, WriteOptions{IfMatch: 7}) },
		"POST " + instance + "/heartbeat":          func() error { return c.Heartbeat(ctx, key) },
		"POST " + instance + `/drain "8"`:          func() error { _, err := c.Drain(ctx, key, WriteOptions{IfMatch: 8}); return err },
		"GET /v1/releases":                         func() error { _, err := c.Releases(ctx); return err },
		"GET /v1/releases/v2-beta":                 func() error { _, err := c.Release(ctx, "v2-beta"); return err },
		"GET /v1/routes":                           func() error { _, err := c.Routes(ctx); return err },
		"GET /readyz":                              func() error { return c.Ready(ctx) },
		`POST /v1/explain {"path":"/","tag":"v2"}`: func() error { _, err := c.Explain(ctx, ExplainRequest{Path: "/", Tag: "v2"}); return err },
		"PUT " + instance + ` "9" {"zone":"az1","address":"10.0.0.7:80"}`: func() error {
			stored, err := c.Register(ctx, key, Registration{Zone: "az1", Address: "10.0.0.7:80"}, WriteOptions{IfMatch: 9})
			if err == nil && stored.Revision != 42 {
				err = fmt.Errorf("stored %+v", stored)
			}
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		said := got.Method + " " + got.URL.EscapedPath()
		for _, more := range []string{got.Header.Get("If-Match"), body} {
			if more != "" {
				said += " " + more
			}
		}
		if said != want {
			t.Errorf("sent %s, want %s", said, want)
		}
		if token := got.Header.Get("Authorization"); token != "Bearer token-of-this-test" {
			t.Errorf("%s: Authorization %q", want, token)
		}
		if kind := got.Header.Get("Content-Type"); (kind == ContentTypeJSON) != (body != "") {
			t.Errorf("%s: Content-Type %q", want, kind)
		}
	}
}

func TestRefusalsAreProblems(t *testing.T) {
	problem := Problem{
		Type: ProblemFields, Title: "Invalid Fields", Status: http.StatusUnprocessableEntity, Detail: "nothing was stored",
		Errors: federation.FieldErrors{{Field: "zone", Found: "nothing", Allowed: "a name"}},
	}
	text, err := json.Marshal(problem)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		status     int
		kind, body string
		says       string
	}{
		"a problem":          {422, ContentTypeProblem, string(text), "Invalid Fields (422): nothing was stored: zone: found nothing, allowed a name"},
		"with parameter":     {422, ContentTypeProblem + "; charset=utf-8", string(text), "Invalid Fields (422)"},
		"of another status":  {500, ContentTypeProblem, string(text), "is this the URL of an admin listener?"},
		"cut short":          {422, ContentTypeProblem, string(text[:20]), "is this the URL of an admin listener?"},
		"some other program": {404, "text/html", "<h1>nginx</h1>", "nginx"},
		"a redirect":         {302, "text/plain", "", "Found (302)"},
	} {
		followed := false
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			followed = followed || r.URL.Path == "/elsewhere"
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}, ClientOptions{})
		_, err := client.Register(t.Context(), key, Registration{}, WriteOptions{})
		got, ok := errors.AsType[*Problem](err)
		if !ok || got.Status != c.status || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), client.URL()) {
			t.Errorf("%s: %v", name, err)
		}
		if followed {
			t.Errorf("%s: a redirect was followed", name)
		}
		for _, err := range client.Events(t.Context(), "") {
			if got, ok := errors.AsType[*Problem](err); !ok || got.Status != c.status {
				t.Errorf("%s: events: %v", name, err)
			}
		}
	}
}

func TestStrangeAnswersAreErrors(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}, ClientOptions{})
	if _, err := c.Federation(t.Context()); err == nil || !strings.Contains(err.Error(), "not what an edge says") {
		t.Errorf("text instead of JSON: %v", err)
	}
	for _, err := range c.Events(t.Context(), "") {
		if _, ok := errors.AsType[*Problem](err); !ok {
			t.Errorf("text instead of events: %v", err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	breaksOff, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = breaksOff.Close() }()
	go func() {
		for {
			conn, err := breaksOff.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096)) // else closing resets the connection
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n{")
			_ = conn.Close()
		}
	}()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for name, c := range map[string]struct{ url, says string }{
		"nothing listens": {"http://" + closed.Addr().String(), "connection refused: is the edge running?"},
		"it breaks off":   {"http://" + breaksOff.Addr().String(), "EOF"},
		"it is silent":    {"http://" + silent.Addr().String(), "no answer within 50ms"},
		"no such host":    {"http://no-such-host.invalid:9081", "host name is not known"},
		"no TLS there":    {"https://" + breaksOff.Addr().String(), "use http:// instead of https://"},
	} {
		timeout := 10 * time.Second
		if name == "it is silent" {
			timeout = 50 * time.Millisecond
		}
		client, err := NewClient(ClientOptions{URL: c.url, Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Federation(t.Context())
		unreachable, ok := errors.AsType[*UnreachableError](err)
		if !ok || unreachable.URL != c.url || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.url) {
			t.Errorf("%s: %v", name, err)
		}
		for _, err := range client.Events(t.Context(), "") {
			if _, ok := errors.AsType[*UnreachableError](err); !ok {
				t.Errorf("%s: events: %v", name, err)
			}
		}
	}
}

// TestCallersEndIsNotTheEdges: who gives up is told that, not to try elsewhere.
func TestCallersEndIsNotTheEdges(t *testing.T) {
	entered := make(chan struct{}, 2)
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}, ClientOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := c.Federation(ctx)
	if _, unreachable := errors.AsType[*UnreachableError](err); unreachable || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for event, err := range c.Events(ctx, "") {
		t.Errorf("of a reader that has ended: %v, %v", event, err)
	}
}

func TestClientOptions(t *testing.T) {
	for o, ok := range map[ClientOptions]bool{
		{URL: "http://127.0.0.1:9081"}:                            true,
		{URL: "http://127.0.0.1:9081/"}:                           true,
		{URL: "https://edge.example.com", Token: "t"}:             true,
		{URL: "http://127.0.0.1:9081", Token: "t"}:                true,
		{URL: "http://localhost:9081", Token: "t"}:                true,
		{URL: "http://[::1]:9081", Token: "t"}:                    true,
		{URL: "http://edge.example.com", Token: "t"}:              false,
		{URL: "http://10.0.0.1:9081", Token: "t"}:                 false,
		{URL: "http://edge.example.com"}:                          true,
		{URL: ""}:                                                 false,
		{URL: "127.0.0.1:9081"}:                                   false,
		{URL: "ftp://127.0.0.1"}:                                  false,
		{URL: "http://"}:                                          false,
		{URL: "http://:9081"}:                                     false,
		{URL: "http://127.0.0.1:9081/v1"}:                         false,
		{URL: "http://user:password@127.0.0.1"}:                   false,
		{URL: "http://127.0.0.1:9081?a=b"}:                        false,
		{URL: "http://127.0.0.1:9081", Timeout: -time.Nanosecond}: false,
	} {
		if _, err := NewClient(o); (err == nil) != ok {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestReadEvents(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		ids    string
		err    string
	}{
		"nothing":           {"", "", "EOF"},
		"two":               {"id: 1\nevent: missed\ndata: {\"id\":\"1\"}\n\n: alive\n\ndata: {\"id\":\"2\"}\n\n", "1 2 ", "EOF"},
		"carriage returns":  {"data: {\"id\":\"1\"}\r\n\r\n", "1 ", "EOF"},
		"no space":          {"data:{\"id\":\"1\"}\n\n", "1 ", "EOF"},
		"in two lines":      {"data: {\"id\":\ndata: \"1\"}\n\n", "1 ", "EOF"},
		"an unfinished one": {"data: {\"id\":\"1\"}\n", "", "EOF"},
		"retry alone":       {"retry: 1000\n\n", "", "EOF"},
		"no JSON":           {"data: hello\n\n", "", "ill-formed event"},
		"a line too long":   {"data: " + strings.Repeat("x", maxEvent) + "\n\n", "", "too long"},
		"lines without end": {strings.Repeat("data: "+strings.Repeat("x", 1023)+"\n", 1100), "", "more than 1048576 bytes"},
	} {
		ids, signs := "", 0
		err := readEvents(strings.NewReader(c.stream), func() { signs++ }, func(e Event) bool {
			ids += e.ID + " "
			return true
		})
		if ids != c.ids || err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, ids, err)
		}
		if c.err == "EOF" && signs != strings.Count(c.stream, "\n") {
			t.Errorf("%s: %d signs of life", name, signs)
		}
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("id: 1\nevent: missed\ndata: {\"id\":\"1\"}\n\n: alive\n\n"))
	f.Add([]byte("data: {\ndata: }\n\n"))
	f.Add([]byte("data\n\n\r\n\r"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		found := 0
		err := readEvents(strings.NewReader(string(stream)), func() {}, func(Event) bool {
			found++
			return true
		})
		if err == nil || found > strings.Count(string(stream), "data:") {
			t.Fatalf("%d events, %v", found, err)
		}
	})
}

func TestEventsStopWhenTheReaderHasEnough(t *testing.T) {
	var after string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after = r.Header.Get("Last-Event-ID")
		w.Header().Set("Content-Type", ContentTypeEvents)
		for n := range 10 {
			_, _ = fmt.Fprintf(w, "data: {\"id\":\"%d\"}\n\n", n)
		}
	}, ClientOptions{})
	seen := 0
	for event, err := range c.Events(t.Context(), "x-7") {
		if err != nil || event.ID != fmt.Sprint(seen) {
			t.Fatalf("event %d: %+v, %v", seen, event, err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 || after != "x-7" {
		t.Errorf("saw %d after %q", seen, after)
	}
	seen = 0
	var last error
	for _, err := range c.Events(t.Context(), "") {
		seen, last = seen+1, err
	}
	if unreachable, ok := errors.AsType[*UnreachableError](last); seen != 11 || !ok || !strings.Contains(unreachable.Error(), "broke off") {
		t.Errorf("a stream that ends: %d, %v", seen, last)
	}
}
