package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grayfed/grayfed/edge/api"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/federation"
)

// TestProtocolsThroughAnotherEdge: bodies and trailers pass, whatever is spoken
// at both ends.
func TestProtocolsThroughAnotherEdge(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", protocolDocuments)
	az2 := f.start("az2-edge", "az2", protocolDocuments)
	f.meet()
	upstreams := map[string]federation.Protocol{
		"http1": federation.HTTP1, "https": federation.HTTPS, "h2c": federation.H2C, "h2": federation.H2,
	}
	for name, protocol := range upstreams {
		f.registerAs(name, "only", "az2", "v1", f.ca.upstreamOf(t, protocol), protocol)
		az1.leadsAt("/"+name+"/", "", "only")
		az2.leadsAt("/"+name+"/", "", "only")
	}
	for name, c := range map[string]struct {
		protocols func(*http.Protocols)
		proto     string
	}{
		"http/1.1": {func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"h2c":      {func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0"},
	} {
		client := (&whole{running: az1, ca: f.ca}).client(c.protocols)
		for service, protocol := range upstreams {
			if err := exchangeOnce(t.Context(), client, az1.url("/"+service+"/x"), c.proto, protocol); err != nil {
				t.Errorf("%s to %s: %v", name, protocol, err)
			}
		}
	}
	if got := az2.counted("grayfed_peer_requests_total")[`edge="az1-edge",outcome="served"`]; got != "8" {
		t.Errorf("az2 served %q of 8", got)
	}
}

// TestLargeHeadsThroughAnotherEdge: whatever an edge has taken from its client
// passes one that takes less from its own, and disturbs nobody on the way.
func TestLargeHeadsThroughAnotherEdge(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", releaseDocuments("strict"), func(p *config.Process) {
		p.Listen.Limits = config.Limits{HeadBytes: 1 << 20, Fields: 1000}
	})
	az2 := f.start("az2-edge", "az2", releaseDocuments("strict"), func(p *config.Process) {
		p.Listen.Limits = config.Limits{HeadBytes: 1 << 10, Fields: 8}
	})
	f.meet()
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	address := f.ca.serve(t, federation.HTTP1, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			arrived <- struct{}{}
			<-release
		}
		_, _ = fmt.Fprint(w, len(r.Header.Get("X-Large")), len(r.Header["X-Many"]))
	})
	f.register("canary", "az2", "v2-beta", address)
	az1.leads("v2-beta", "canary")
	az2.leads("v2-beta", "canary")

	client := clientFrom(t, "127.0.0.1")
	waits := make(chan string, 1)
	go func() {
		_, text := do(t, client, http.MethodPost, az1.url("/users/1"), http.NoBody, "X-Release-Tag", "v2-beta")
		waits <- text
	}()
	await(t, arrived, "request at the endpoint")
	many := []string{"X-Release-Tag", "v2-beta"}
	for range 900 {
		many = append(many, "X-Many", "1")
	}
	for want, fields := range map[string][]string{
		"700000 0": {"X-Release-Tag", "v2-beta", "X-Large", strings.Repeat("X", 700_000)},
		"0 900":    many,
	} {
		if response, text := do(t, client, http.MethodGet, az1.url("/users/1"), http.NoBody, fields...); response.status != http.StatusOK || text != want {
			t.Errorf("%d %s, want %s", response.status, text, want)
		}
	}
	close(release)
	if text := <-waits; text != "0 0" {
		t.Errorf("what was under way beside them: %s", text)
	}
}

// TestGRPCThroughAnotherEdge has the gRPC project's client talk to its server,
// both ways at once and with deadlines, cancellations and statuses.
func TestGRPCThroughAnotherEdge(t *testing.T) {
	const documents = `[{ id: interop, path: "/**", upstream: interop },
		{ apiVersion: grayfed/v1, kind: Service, metadata: { name: interop }, spec: { probe: grpc } }]`
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", documents)
	az2 := f.start("az2-edge", "az2", documents, func(p *config.Process) {
		p.Health.Ejection.GatewayFailures, p.Health.Ejection.ConnectFailures = 1, 1
	})
	f.meet()
	f.registerAs("interop", "only", "az2", "", interopServer(t), federation.H2C)
	az1.leadsAt("/", "", "only")
	az2.leadsAt("/", "", "only")
	conn, err := grpc.NewClient(strings.TrimPrefix(az1.url(""), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for round := range length(2, 5, 50) {
		for _, test := range interopCases {
			if err := interopCase(t.Context(), conn, test.run); err != nil {
				t.Errorf("round %d, %s: %v", round, test.name, err)
			}
		}
	}
	az2.leadsAt("/", "", "only") // nothing was held against the endpoint
	if got := az1.through("az2-edge", "served"); got == "" {
		t.Errorf("nothing went through the other edge: %v", az1.counted("grayfed_peer_attempts_total"))
	}
}

// TestWebSocketThroughAnotherEdge: to each release, over both protocols, for
// longer than requests may take.
func TestWebSocketThroughAnotherEdge(t *testing.T) {
	f := newPeered(t)
	az1 := f.start("az1-edge", "az1", lastingDocuments)
	az2 := f.start("az2-edge", "az2", lastingDocuments)
	f.meet()
	for _, version := range []string{"v1", "v2-beta"} {
		f.registerAs("chat", version, "az2", version, f.ca.serve(t, federation.HTTP1, chat(version)), federation.HTTP1)
	}
	for tag, id := range map[string]string{"": "v1", "v2-beta": "v2-beta"} {
		az1.leadsAt("/chat/", tag, id)
		az2.leadsAt("/chat/", tag, id)
	}
	h := &hostile{whole: &whole{running: az1, ca: f.ca, plain: strings.TrimPrefix(az1.url(""), "http://")}}
	for _, kind := range []string{"ws", "h2c"} {
		for tag, want := range map[string]string{"": "v1", "v2-beta": "v2-beta"} {
			c, err := h.dialTalk(kind, tag)
			if err != nil {
				t.Fatalf("%s with tag %q: %v", kind, tag, err)
			}
			if got, err := c.hear(); err != nil || got != want {
				t.Errorf("%s with tag %q: greeted with %q, %v", kind, tag, got, err)
			}
			for begun := time.Now(); time.Since(begun) < 2*lastingTotal; {
				if err := c.say("hello"); err != nil {
					t.Fatal(err)
				}
				if got, err := c.hear(); err != nil || got != "hello" {
					t.Fatalf("%s with tag %q: heard %q, %v", kind, tag, got, err)
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if got := az2.counted("grayfed_peer_requests_total")[`edge="az1-edge",outcome="served"`]; got != "4" {
		t.Errorf("az2 served %q of 4", got)
	}
}

const slowDocuments = `
- { id: slow, path: "/slow/**", upstream: slow, timeouts: { head: 300ms } }
- { id: patient, path: "/patient/**", upstream: slow, timeouts: { total: 20s } }
`

// TestTimesThroughAnotherEdge: an endpoint that does not answer in time is held
// against it by its zone's edge, as that edge's own requests would be; a client
// that leaves is not.
func TestTimesThroughAnotherEdge(t *testing.T) {
	f := newPeered(t)
	strict := func(p *config.Process) {
		p.Health.Ejection.GatewayFailures, p.Health.Probe.Interval = 1, 5*time.Minute
	}
	az1, az2 := f.start("az1-edge", "az1", slowDocuments, strict), f.start("az2-edge", "az2", slowDocuments, strict)
	f.meet()
	arrived, left := make(chan struct{}, 10), make(chan struct{}, 10)
	address := f.ca.serve(t, federation.HTTP1, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
	f.registerAs("slow", "only", "az2", "v1", address, federation.HTTP1)
	az1.leadsAt("/patient/", "", "only")
	az2.leadsAt("/patient/", "", "only")

	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, az1.url("/patient/1"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	client := clientFrom(t, "127.0.0.1")
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		ended <- err
	}()
	await(t, arrived, "request at the endpoint")
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that left got %v", err)
	}
	await(t, left, "end of the request at the endpoint")
	az2.leadsAt("/patient/", "", "only")
	az1.leadsAt("/patient/", "", "only")

	response, text := do(t, client, http.MethodPost, az1.url("/slow/1"), http.NoBody)
	if response.status != http.StatusGatewayTimeout || !strings.Contains(text, "upstream-timeout") {
		t.Errorf("too late: %d %s", response.status, text)
	}
	await(t, left, "end of the late request")
	for name, edge := range map[string]*running{"az2": az2, "az1": az1} { // az1 by az2's word
		eventually(t, name+" holds the endpoint to be ill", func() error {
			x, err := edge.api.Explain(t.Context(), api.ExplainRequest{Path: "/slow/1"})
			if err == nil && x.Endpoint != nil {
				err = fmt.Errorf("still used: %s", toJSON(x))
			}
			return err
		})
	}
	if ejected := az1.counted("grayfed_health_ejections_total"); anyCounted(ejected) {
		t.Errorf("az1 has judged by itself: %v", ejected)
	}
}

func anyCounted(counts map[string]string) bool {
	for _, n := range counts {
		if n != "0" {
			return true
		}
	}
	return false
}

func await(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for the %s", what)
	}
}
