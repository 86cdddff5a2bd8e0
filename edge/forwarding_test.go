package edge

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

const forwardingDocuments = `
- id: one
  path: /one/**
  upstream: one
  rewrite: { strip_prefix: /one, host: inside.test }
  request_headers: { set: { X-User-ID: nobody, X-Route: "${route} in ${zone}" } }
  response_headers: { set: { X-Served-By: "${instance}" } }
- id: two
  path: /two/**
  upstream: two
  rewrite: { strip_prefix: /two, host: inside.test }
  request_headers: { set: { X-User-ID: nobody, X-Route: "${route} in ${zone}" } }
  response_headers: { set: { X-Served-By: "${instance}" } }
`

// received is what an origin tells of a request.
type received struct {
	Proto, URI, Host string
	Header           http.Header
}

// TestForwardingOnEveryProtocol: a path is rewritten, whom a request comes from
// is told, and nothing is passed off as the edge's word, whatever protocols are
// on both sides.
func TestForwardingOnEveryProtocol(t *testing.T) {
	w := startWhole(t, forwardingDocuments, func(p *config.Process) { p.Forwarded = true })
	tell := func(rw http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(rw).Encode(received{r.Proto, r.RequestURI, r.Host, r.Header})
	}
	h1 := func(p *http.Protocols) { p.SetHTTP1(true) }
	h2c := func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	w.register("one", "", w.ca.serve(t, federation.HTTP1, tell), federation.HTTP1)
	w.register("two", "", w.ca.serve(t, federation.H2C, tell), federation.H2C)
	for name, c := range map[string]struct {
		scheme, address string
		protocols       func(*http.Protocols)
	}{
		"http/1.1":          {"http", w.plain, h1},
		"h2c":               {"http", w.plain, h2c},
		"http/1.1 over TLS": {"https", w.secure, h1},
		"h2 over TLS":       {"https", w.secure, func(p *http.Protocols) { p.SetHTTP2(true) }},
	} {
		client := w.client(c.protocols)
		_, port, _ := net.SplitHostPort(c.address)
		for service, proto := range map[string]string{"one": "HTTP/1.1", "two": "HTTP/2.0"} {
			got, answered := w.forwarded(client, c.scheme+"://"+c.address+"/"+service+"//users/./%37?q=%2F..")
			if got.Proto != proto || got.URI != "/users/7?q=%2F.." || got.Host != "inside.test" || answered.Get("X-Served-By") != service {
				t.Errorf("%s to %s: %+v, %v", name, service, got, answered)
			}
			for field, want := range map[string]string{
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": c.scheme, "X-Forwarded-Host": c.address, "X-Forwarded-Port": port,
				"X-Real-Ip": "127.0.0.1", "X-User-Id": "nobody", "X-Route": service + " in az1", "X-Mine_too": "kept",
				"Forwarded": "for=127.0.0.1;by=_" + w.edge.self.ID + `;host="` + c.address + `";proto=` + c.scheme,
			} {
				if value := strings.Join(got.Header.Values(field), "|"); value != want {
					t.Errorf("%s to %s: %s is %q, want %q", name, service, field, value, want)
				}
			}
			if text := toJSON(got); strings.Contains(text, "forged") {
				t.Errorf("%s to %s: %s", name, service, text)
			}
		}
	}
	// The same is told beforehand.
	x, err := w.api.Explain(t.Context(), api.ExplainRequest{Path: "/one//users/./%37", Host: "a.test"})
	if err != nil || x.Path != "/one/users/7" || x.UpstreamPath != "/users/7" || x.UpstreamHost != "inside.test" {
		t.Errorf("%s, %v", toJSON(x), err)
	}
}

// forwarded sends a request that is full of forgeries.
func (w *whole) forwarded(client *http.Client, url string) (got received, answered http.Header) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header["X-Mine_too"] = []string{"kept"}
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "X-Request-ID", "Forwarded", "X-User-ID",
	} {
		for _, separator := range []string{"-", "_", "."} {
			spelled := strings.ReplaceAll(name, "-", separator)
			request.Header[spelled] = []string{"forged"}
			request.Header[strings.ToLower(spelled)] = []string{"forged"}
		}
	}
	response, err := client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d %s, %v", url, response.StatusCode, text, err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		w.t.Fatalf("%s: %q: %v", url, text, err)
	}
	return got, response.Header
}
