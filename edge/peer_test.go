package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// releaseDocuments have a baseline and a release with the given fallback.
func releaseDocuments(fallback string) string {
	return strings.Replace(testDocuments, "fallback: permissive", "fallback: "+fallback, 1)
}

// clientFrom connects from an address of its own.
func clientFrom(t testing.TB, ip string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// answered is the head of an answer.
type answered struct {
	status int
	header http.Header
}

// do sends a request and reads the answer whole.
func do(t testing.TB, client *http.Client, method, url string, body io.Reader, fields ...string) (answered, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-gray-explain", "1")
	for n := 0; n < len(fields); n += 2 {
		request.Header[fields[n]] = append(request.Header[fields[n]], fields[n+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header}, string(text)
}

// TestSpillThroughAnotherEdge: what an origin sees of a request that came
// through its zone's edge is what it sees of one that came directly, and both
// edges say whom it was for.
func TestSpillThroughAnotherEdge(t *testing.T) {
	f := newPeered(t)
	documents := releaseDocuments("strict")
	forwarded := func(p *config.Process) { p.Forwarded = true }
	az1 := f.start("az1-edge", "az1", documents, forwarded)
	az2 := f.start("az2-edge", "az2", documents, forwarded)
	direct := f.start("direct", "az3", documents, forwarded, func(p *config.Process) {
		p.Zones = []config.Zone{{Name: "az2", Reach: config.ReachDirect}}
	})
	f.meet()
	address := f.ca.serve(t, federation.HTTP1, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-gray-hop", "not-processed") // an origin has no say in it
		_ = json.NewEncoder(w).Encode(received{r.Proto, r.RequestURI, r.Host, r.Header})
	})
	f.register("canary", "az2", "v2-beta", address)

	for _, r := range []*running{az1, az2, direct} {
		r.leads("v2-beta", "canary")
	}
	client := clientFrom(t, "127.0.0.9")
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ask := func(r *running) (got received, response answered) {
		t.Helper()
		response, text := do(t, client, http.MethodGet, r.url("/users/a%20b?q=1&q=2"), http.NoBody,
			"X-Release-Tag", "v2-beta", "Traceparent", trace, "X-Forwarded-For", "10.0.0.1", "X-Gray-Hop", "from=x", "Connection", "X-Gray-Hop",
			"X-Mine", "kept")
		if response.status != http.StatusOK {
			t.Fatalf("%d %s", response.status, text)
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		return got, response
	}
	through, response := ask(az1)
	if decision := response.header.Get("x-gray-decision"); decision !=
		"rung=canary-elsewhere; reason=in-release; release=v2-beta; zone=az2; instance=canary; through=az2-edge" {
		t.Errorf("decision %q", decision)
	}
	if hop := response.header.Get("x-gray-hop"); hop != "" {
		t.Errorf("the client is told %q", hop)
	}
	straight, response := ask(direct)
	if decision := response.header.Get("x-gray-decision"); strings.Contains(decision, "through") {
		t.Errorf("decision of the direct way %q", decision)
	}
	id := through.Header.Get("X-Request-Id")
	for name, edge := range map[string]*running{"az1-edge": az1, "direct": direct} {
		got := map[string]received{"az1-edge": through, "direct": straight}[name]
		host := strings.TrimPrefix(edge.url(""), "http://")
		_, port, _ := net.SplitHostPort(host)
		want := map[string]string{
			"X-Forwarded-For": "127.0.0.9", "X-Real-Ip": "127.0.0.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": host,
			"X-Forwarded-Port": port, "X-Release-Tag": "v2-beta", "Traceparent": trace, "X-Mine": "kept", "X-Gray-Hop": "",
			"Forwarded": "for=127.0.0.9;by=_" + name + `;host="` + host + `";proto=http`,
		}
		for field, value := range want {
			if seen := strings.Join(got.Header.Values(field), "|"); seen != value {
				t.Errorf("by %s: %s is %q, want %q", name, field, seen, value)
			}
		}
		if got.Proto != "HTTP/1.1" || got.URI != "/users/a%20b?q=1&q=2" || got.Host != host {
			t.Errorf("by %s: %+v", name, got)
		}
		for _, varies := range []string{"X-Request-Id", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded"} {
			got.Header.Del(varies)
		}
	}
	if toJSON(through.Header) != toJSON(straight.Header) {
		t.Errorf("through an edge %v\ndirectly %v", through.Header, straight.Header)
	}

	if got := az1.through("az2-edge", "served"); got != "1" {
		t.Errorf("az1 counts %q served through az2", got)
	}
	if got := az2.counted("grayfed_peer_requests_total"); toJSON(got) != `{"edge=\"az1-edge\",outcome=\"served\"":"1"}` {
		t.Errorf("az2 counts %v", got)
	}
	az2.logs(t, id, `"client":"127.0.0.9"`, `"from_edge":"az1-edge"`, `"remote":"127.0.0.1:`, `"upstream":"canary"`, `"rung":"canary-here"`,
		`"service":"users"`, `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`)
	az1.logs(t, id, `"client":"127.0.0.9"`, `"through_edge":"az2-edge"`, `"upstream":"canary"`, `"zone":"az2"`, `"rung":"canary-elsewhere"`)

	x, err := az1.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: "v2-beta"})
	if err != nil || x.Endpoint == nil || x.Endpoint.Through != "az2-edge" || x.Steps[1].Through != "az2-edge" || !strings.Contains(x.Steps[1].Why, "through edge az2-edge") {
		t.Errorf("explained as %s, %v", toJSON(x), err)
	}
	// The twin: with that edge there is no way, and explain says so.
	az2.stop()
	eventually(t, "the way is known to be gone", func() error {
		x, err := az1.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: "v2-beta"})
		if err != nil || x.Endpoint != nil || x.Steps[1].Unreachable != 1 || !strings.Contains(x.Steps[1].Why, "no living edge of their zone") {
			return fmt.Errorf("explained as %s, %w", toJSON(x), err)
		}
		return nil
	})
	if response, text := do(t, client, http.MethodGet, az1.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta"); response.status != http.StatusServiceUnavailable ||
		!strings.Contains(text, "no-canary-usable") {
		t.Errorf("without that edge: %d %s", response.status, text)
	}
	if response, _ := do(t, client, http.MethodGet, direct.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta"); response.status != http.StatusOK {
		t.Errorf("directly, without that edge: %d", response.status)
	}
}

// logs requires that the access log has a line of the request with all of these.
func (r *running) logs(t testing.TB, id string, wants ...string) {
	t.Helper()
	line := ""
	eventually(t, "line in the access log", func() error {
		for line = range strings.Lines(r.log.String()) {
			if strings.Contains(line, `"id":"`+id+`"`) {
				return nil
			}
		}
		return errors.New("no line of " + id)
	})
	for _, want := range wants {
		if !strings.Contains(line, want) {
			t.Errorf("access log has no %s: %s", want, line)
		}
	}
}

// slowly is a body that nobody has at once.
func slowly(pieces ...string) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		for _, piece := range pieces {
			if _, err := io.WriteString(writer, piece); err != nil {
				return // nobody wants it
			}
		}
		_ = writer.Close()
	}()
	return reader
}

// TestNotProcessedGoesOnDownTheLadder: an edge with other documents serves
// nothing but the very subset that was named. The request goes on, with all of
// its body, however it is sent; without another rung it ends.
func TestNotProcessedGoesOnDownTheLadder(t *testing.T) {
	for name, c := range map[string]struct {
		fallback, there string // documents of the other edge
		status          int
		want            string // beginning of the answer, before the body's length
		outcome         string
	}{
		"the same documents": {"permissive", releaseDocuments("permissive"), 200, "canary", "served"},
		"release gone, permissive": {
			"permissive", strings.Replace(releaseDocuments("permissive"), "name: v2-beta }", "name: v3 }", 1), 200, "stable", "not-processed",
		},
		"release gone, strict": {
			"strict", strings.Replace(releaseDocuments("strict"), "name: v2-beta }", "name: v3 }", 1), 503, "no-canary-usable", "not-processed",
		},
		"another subset by that name": {
			"strict", strings.Replace(releaseDocuments("strict"), "users: { version: v2-beta }", "users: { version: v1 }", 1), 503, "no-canary-usable", "not-processed",
		},
		"paused": {"permissive", strings.Replace(releaseDocuments("permissive"), "fallback: permissive", "fallback: permissive, paused: true", 1), 200, "stable", "not-processed"},
		"no such service": {
			"permissive", `[{ id: other, path: "/**", upstream: other }]`, 200, "stable", "not-processed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newPeered(t)
			az1 := f.start("az1-edge", "az1", releaseDocuments(c.fallback))
			az2 := f.start("az2-edge", "az2", c.there)
			f.meet()
			f.serve("stable", "az1", "v1")
			f.serve("stable-2", "az2", "v1")
			f.serve("canary", "az2", "v2-beta")
			az1.leads("v2-beta", "canary")
			if c.outcome == "served" {
				az2.leads("v2-beta", "canary")
			}
			client := clientFrom(t, "127.0.0.1")
			large := strings.Repeat("x", 100_000)
			asked := 0
			for _, body := range []struct {
				method string
				reader io.Reader
				length int
			}{
				{http.MethodGet, http.NoBody, 0},
				{http.MethodPost, strings.NewReader("small"), 5},
				{http.MethodPost, strings.NewReader(large), len(large)},
				{http.MethodPost, slowly("a", large, "b"), len(large) + 2},
			} {
				response, text := do(t, client, body.method, az1.url("/users/1"), body.reader, "X-Release-Tag", "v2-beta")
				want := c.want
				if c.status == 200 {
					want = fmt.Sprintf("%s %d", c.want, body.length)
				}
				if response.status != c.status || !strings.Contains(text, want) {
					t.Errorf("%s with %d bytes: %d %s, want %d %s", body.method, body.length, response.status, text, c.status, want)
				}
				asked++
			}
			if got := az1.through("az2-edge", c.outcome); got != fmt.Sprint(asked) {
				t.Errorf("%q are %s of %d: %v", got, c.outcome, asked, az1.counted("grayfed_peer_attempts_total"))
			}
			// It is no fault of the endpoint's.
			x, err := az1.api.Explain(t.Context(), api.ExplainRequest{Path: "/users/1", Tag: "v2-beta"})
			if err != nil || x.Endpoint == nil || x.Endpoint.ID != "canary" {
				t.Errorf("the endpoint was blamed: %s, %v", toJSON(x), err)
			}
		})
	}
}

// TestNoLoops: two edges believe of each other's zone that it can serve, and
// neither sends on what the other has sent.
func TestNoLoops(t *testing.T) {
	f := newPeered(t)
	// No probes, so that nobody learns of the endpoints' death but by requests.
	blind := func(p *config.Process) { p.Health.Probe.Interval, p.Health.Ejection.ConnectFailures = 5*60e9, 1 }
	az1, az2 := f.start("az1-edge", "az1", releaseDocuments("strict"), blind), f.start("az2-edge", "az2", releaseDocuments("strict"), blind)
	f.meet()
	dead := refusing(t)
	for _, zone := range []string{"az1", "az2"} {
		f.register("canary-"+zone, zone, "v2-beta", dead)
	}
	az1.leads("v2-beta", "canary-az1")
	az2.leads("v2-beta", "canary-az2")
	client := clientFrom(t, "127.0.0.1")
	for n := range 20 {
		edge := []*running{az1, az2}[n%2]
		if response, text := do(t, client, http.MethodGet, edge.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta"); response.status != http.StatusServiceUnavailable && response.status != http.StatusBadGateway {
			t.Errorf("%d %s", response.status, text)
		}
	}
	// Of each request at most one edge has heard from the other.
	received := 0
	for _, edge := range []*running{az1, az2} {
		for labels, value := range edge.counted("grayfed_peer_requests_total") {
			n := 0
			if _, err := fmt.Sscan(value, &n); err != nil || !strings.Contains(labels, "not-processed") {
				t.Errorf("%s received %s: %s", edge.edge.self.ID, labels, value)
			}
			received += n
		}
	}
	if received == 0 || received > 20 {
		t.Errorf("of 20 requests %d were received by the other edge", received)
	}
}

// refusing is an address where nothing listens.
func refusing(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
