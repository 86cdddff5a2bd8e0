package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
	"github.com/grayfed/grayfed/federation"
)

// rewritingRig is a rig whose users route has a rule.
func rewritingRig(t *testing.T, rule rewrite.Rule, change func(*Options)) (*rig, *origin) {
	t.Helper()
	r := newRig(t, change)
	o := newOrigin(t, answering("stable"))
	config := usersConfig(federation.Strict)
	config.Routes[0].Path, config.Routes[0].Rewrite = "/api/**", rule
	r.configure(config)
	r.register(instance("v1-a", "az1", "v1", o.address))
	return r, o
}

func replacing(from, to string) rewrite.Path {
	return rewrite.Path{ReplacePrefix: &rewrite.Replacement{From: from, To: to}}
}

func matching(from, to string) rewrite.Path {
	return rewrite.Path{Regex: &rewrite.Replacement{From: from, To: to}}
}

// TestRewrittenPaths is what an origin really receives, and that what would be
// no path at all never gets there.
func TestRewrittenPaths(t *testing.T) {
	strip := rewrite.Path{StripPrefix: "/api"}
	joined := matching("/api/(.*)-(.*)", "/j/$1$2")
	for _, test := range []struct {
		rule         rewrite.Path
		target, want string // want is the request line's target; empty: 400
	}{
		{strip, "/api/users/7?a=/api", "/users/7?a=/api"},
		{strip, "/api", "/"},
		{strip, "/api?", "/?"},
		{strip, "/api//evil.test/x", "/evil.test/x"},
		{strip, "//api///evil.test", "/evil.test"},
		{strip, "/api/../api/x", "/x"},
		{strip, "/x/%2e%2e/api/./y", "/y"},
		{strip, "/api/..%2fapi", "/..%2Fapi"},
		{strip, "/api/%2f%2Fevil.test", "/%2F%2Fevil.test"},
		{strip, "/api/http://evil.test/", "/http:/evil.test/"},
		{strip, "http://users.test/api/x", "/x"},
		{strip, "/%61pi/x", "/x"},
		{strip, "/api/..;/x", ""},
		{strip, "/api/../../x", ""},
		{replacing("/api", "/v1"), "/api/users", "/v1/users"},
		{replacing("/", "/base"), "/api/", "/base/api/"},
		{matching("/api/users/(?P<id>[0-9]+)", "/people/${id}"), "/api/users/7?x", "/people/7?x"},
		{matching("/api/users/(?P<id>[0-9]+)", "/people/${id}"), "/api/users/x", "/api/users/x"},
		{matching("/api(/.*)?", "/x/$1"), "/api/evil.test", "/x/evil.test"},
		{joined, "/api/a-b", "/j/ab"},
		{joined, "/api/.-.", ""},
		{joined, "/api/.-./x", ""},
		{joined, "/api/x/.-./y", ""},
	} {
		r, o := rewritingRig(t, rewrite.Rule{Path: test.rule}, nil)
		a := r.ask("GET", test.target)
		if test.want == "" {
			if a.StatusCode != http.StatusBadRequest || o.heads.Load() != 0 {
				t.Errorf("%s: status %d, origin got %q", test.target, a.StatusCode, o.last())
			}
			r.ask("GET", "/api/fine").expect(t, 200, "stable")
			continue
		}
		if line, _, _ := strings.Cut(o.last(), "\r\n"); line != "GET "+test.want+" HTTP/1.1" {
			t.Errorf("%s: %q, want %s", test.target, line, test.want)
		}
	}
}

func TestRewrittenHosts(t *testing.T) {
	for rule, want := range map[rewrite.Host]string{
		rewrite.HostKeep: "users.test", rewrite.HostUpstream: "(origin)", "fixed.test:8080": "fixed.test:8080",
	} {
		r, o := rewritingRig(t, rewrite.Rule{Host: rule}, nil)
		r.ask("GET", "/api/x").expect(t, 200, "stable")
		if want == "(origin)" {
			want = o.address
		}
		if head := o.last(); field(head, "Host") != want || field(head, "X-Forwarded-Host") != "users.test" {
			t.Errorf("%q: %q", rule, head)
		}
		// What the client asked for is what the log tells.
		eventually(t, "its line in the access log", func() bool { return strings.Contains(r.log.String(), `"path":"/api/x"`) })
		if !strings.Contains(r.log.String(), `"host":"users.test"`) {
			t.Errorf("%q: logged %s", rule, r.log)
		}
	}
}

// TestEachAttemptHasItsOwnHost: and fields are changed once, not once for each.
func TestEachAttemptHasItsOwnHost(t *testing.T) {
	rule := rewrite.Rule{
		Path: rewrite.Path{StripPrefix: "/api"}, Host: rewrite.HostUpstream,
		Request: rewrite.Headers{Add: []rewrite.Header{{Name: "X-Seen-By", Value: "${edge}"}}},
	}
	r, first := rewritingRig(t, rule, func(o *Options) { patient(t)(o); o.Edge = "edge-1" })
	broken := newOrigin(t, func(_ *origin, nc net.Conn, _ string) bool {
		_, _ = io.WriteString(nc, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
		return true
	})
	r.register(instance("v1-a", "az1", "v1", broken.address), instance("v1-b", "az1", "v1", first.address))
	r.ask("GET", "/api/x").expect(t, 200, "stable")
	for _, o := range []*origin{broken, first} {
		head := o.last()
		if !strings.HasPrefix(head, "GET /x ") || field(head, "Host") != o.address || field(head, "X-Seen-By") != "edge-1" {
			t.Errorf("%q", head)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	rule := rewrite.Rule{
		Path: rewrite.Path{StripPrefix: "/api"},
		Request: rewrite.Headers{
			Set: []rewrite.Header{
				{Name: "X-User-ID", Value: "nobody"},
				{Name: "X-All", Value: "${request_id}|${client_ip}|${method}|${scheme}|${host}|${path}|${route}|${service}|${release}|${zone}|${edge}|$$"},
				{Name: "X-Release", Value: "${release}"},
			},
			Add:    []rewrite.Header{{Name: "Accept", Value: "text/${zone}"}},
			Remove: []string{"X-Internal"},
		},
	}
	r, o := rewritingRig(t, rule, func(o *Options) { o.Edge = "edge-1" })
	canary := newOrigin(t, answering("canary"))
	r.register(instance("v1-a", "az1", "v1", o.address), instance("v2-a", "az1", "v2", canary.address))
	r.as("192.0.2.1")
	r.ask("GET", "/api/users?q=1",
		"X-User-ID: root", "x_user.ID: root", "X-USER-ID: root", "X-User-Idx: mine", "Accept: a", "X-Internal: 1", "x_internal: 1",
		"X-Internals: mine", "X-Release: v9",
	).expect(t, 200, "stable")
	head := o.last()
	id := field(head, "X-Request-ID")
	for name, want := range map[string]string{
		"X-User-ID": "nobody", "x_user.ID": "", "X-User-Idx": "mine", "Accept": "a|text/az1", "X-Internal": "", "x_internal": "",
		"X-Internals": "mine", "X-Release": "",
		"X-All": id + "|192.0.2.1|GET|http|users.test|/api/users|users|users||az1|edge-1|$",
	} {
		if got := field(head, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// An empty value is none, and the client's does not stay in its place.
	if strings.Contains(head, "X-Release:") || strings.Contains(head, "root") {
		t.Errorf("%q", head)
	}
	r.ask("GET", "/api/users", tagged).expect(t, 200, "canary")
	if head := canary.last(); field(head, "X-Release") != "v2-beta" || field(head, "x-release-tag") != "v2-beta" {
		t.Errorf("%q", head)
	}
}

// TestConnectionRemovesNothingOfTheEdge: in any letter case, or in several
// fields, a client takes off what it sent itself, and nothing else.
func TestConnectionRemovesNothingOfTheEdge(t *testing.T) {
	rule := rewrite.Rule{Request: rewrite.Headers{Set: []rewrite.Header{{Name: "X-User-ID", Value: "nobody"}}}}
	r, o := rewritingRig(t, rule, func(o *Options) { o.Forwarded, o.Edge = true, "edge-1" })
	r.as("192.0.2.1")
	own := []string{"X-User-ID", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "X-Request-ID", "Forwarded"}
	for _, spell := range []func(string) string{
		strings.ToLower, strings.ToUpper, func(s string) string { return s },
		func(s string) string { return strings.ReplaceAll(s, "-", "_") },
	} {
		together, apart := "Connection: close", []string{"Connection: close"}
		for _, name := range own {
			together += ", " + spell(name)
			apart = append(apart, "connection: "+spell(name), spell(name)+": forged")
		}
		for _, fields := range [][]string{{together}, apart, {together, "X-User-ID: forged", "X-Real-IP: forged"}} {
			r.ask("GET", "/api/x", fields...).expect(t, 200, "stable")
			head := o.last()
			for _, name := range own {
				if value := field(head, name); value == "" || strings.Contains(value, "forged") || strings.Contains(value, "|") {
					t.Errorf("%q: %s is %q", fields, name, value)
				}
			}
			if strings.Contains(head, "forged") {
				t.Errorf("%q came through: %q", fields, head)
			}
		}
	}
	// The twin: what the client sent and names ends here.
	r.ask("GET", "/api/x", "Connection: x-MINE", "X-Mine: 1", "X-Other: 1").expect(t, 200, "stable")
	if head := o.last(); field(head, "X-Mine") != "" || field(head, "X-Other") != "1" {
		t.Errorf("%q", head)
	}
}

// TestLookalikesDoNotPass: neither from strangers nor from trusted peers, in
// any spelling.
func TestLookalikesDoNotPass(t *testing.T) {
	r, o := rewritingRig(t, rewrite.Rule{}, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	for _, peer := range []string{"192.0.2.1", "10.0.0.1"} {
		r.as(peer)
		for _, name := range []string{
			"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "X-Request-ID", "x-release-tag",
			"x-gray-explain", "Transfer-Encoding", "Content-Length", "Keep-Alive", "Proxy-Authorization",
		} {
			for _, separator := range []string{"_", ".", "!", "~"} {
				lookalike := strings.ReplaceAll(name, "-", separator)
				fields := []string{lookalike + ": forged", strings.ToUpper(lookalike) + ": forged", strings.ToLower(lookalike) + ": forged"}
				r.ask("GET", "/api/x", fields...).expect(t, 200, "stable")
				if head := o.last(); strings.Contains(head, "forged") || field(head, "X-Real-IP") != peer {
					t.Errorf("%s: %q", lookalike, head)
				}
			}
		}
	}
	// The twin: names that look like none of them are the application's own.
	r.ask("GET", "/api/x", "user_name: a", "X.Forwarded.Fox: b", "X__Real_IP: c").expect(t, 200, "stable")
	if head := o.last(); field(head, "user_name")+field(head, "X.Forwarded.Fox")+field(head, "X__Real_IP") != "abc" {
		t.Errorf("%q", head)
	}
}

func TestResponseHeaders(t *testing.T) {
	rule := rewrite.Rule{Response: rewrite.Headers{
		Set:    []rewrite.Header{{Name: "X-Served-By", Value: "${instance}@${instance_zone}"}, {Name: "Cache-Control", Value: "no-store"}},
		Add:    []rewrite.Header{{Name: "Vary", Value: "x-release-tag"}},
		Remove: []string{"Server", "X-Powered-By"},
	}}
	r, _ := rewritingRig(t, rule, nil)
	o := newOrigin(t, respondWith("HTTP/1.1 200 OK\r\nServer: s\r\nx-powered-by: p\r\nCACHE-CONTROL: public\r\nCache-Control: x\r\n"+
		"Vary: Accept\r\nX-Served-By: me\r\nX_Served_By: mine\r\nContent-Length: 6\r\n\r\nstable"))
	r.register(instance("v1-a", "az1", "v1", o.address))
	a := r.ask("GET", "/api/x")
	a.expect(t, 200, "stable")
	for name, want := range map[string]string{
		"X-Served-By": "v1-a@az1", "Cache-Control": "no-store", "Vary": "Accept,x-release-tag", "Server": "", "X-Powered-By": "",
		"X_Served_By": "mine", // an endpoint may call its fields as it likes
	} {
		if got := strings.Join(a.Header.Values(name), ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// The edge's own answers on the route have them, too; with no instance the
	// value is what is left.
	a = r.ask("GET", "/api/x", tagged)
	a.expect(t, 503, "no-canary-usable")
	if got := a.Header.Get("Cache-Control") + a.Header.Get("X-Served-By"); got != "no-store@" {
		t.Errorf("%q", got)
	}
	if a := r.ask("GET", "/elsewhere"); a.StatusCode != http.StatusNotFound || a.Header.Get("Cache-Control") != "" {
		t.Errorf("no route: %d, %q", a.StatusCode, a.Header)
	}
}

func TestExplainTellsTheUpstreamsPath(t *testing.T) {
	r, o := rewritingRig(t, rewrite.Rule{Path: matching("/api/(.*)-(.*)", "/j/$1$2"), Host: rewrite.HostUpstream}, nil)
	for _, test := range []struct{ path, upstream, host, reason string }{
		{"/api/./a-b", "/j/ab", o.address, "untagged"},
		{"/api/x", "/api/x", o.address, "untagged"},
		{"/api/.-.", "", "", "malformed-rewrite"},
		{"/other", "", "", "no-route"},
	} {
		e := r.gateway.Explain(Query{Host: "users.test", Path: test.path})
		if e.UpstreamPath != test.upstream || e.UpstreamHost != test.host || e.Reason != test.reason || strings.HasPrefix(e.Path, "/j") {
			t.Errorf("%s: %+v", test.path, e)
		}
	}
	r.register()
	if e := r.gateway.Explain(Query{Path: "/api/a-b"}); e.Status != 503 || e.UpstreamPath != "" {
		t.Errorf("without an instance: %+v", e)
	}
}

func TestWrongRewriteIsRefused(t *testing.T) {
	r := newRig(t, nil)
	config := usersConfig(federation.Strict)
	config.Routes[0].Rewrite.Path.StripPrefix = "nonsense"
	if err := r.gateway.SetConfig(config); err == nil || !strings.Contains(err.Error(), "strip_prefix") {
		t.Errorf("%v", err)
	}
}

// TestUnsafeValuesAreLeftOut: whatever a variable may hold one day, it splits
// no message.
func TestUnsafeValuesAreLeftOut(t *testing.T) {
	g, prepare, x := pipeline(t, func(c *Config, _ *Options) {
		c.Routes[0].Rewrite.Request.Set = []rewrite.Header{{Name: "X-Method", Value: "a ${method}"}}
	})
	for method, want := range map[string]string{"GET": "a GET", "G\r\nX: y": "", "G\x00": ""} {
		prepare(x)
		x.Request.Method = method
		x.Request.Header.Add("X-Method", "forged")
		g.Serve(x)
		if got, _ := x.Request.Header.GetName("X-Method"); got != want {
			t.Errorf("%q: %q", method, got)
		}
		g.Done(x, nil)
	}
}

// TestRewritingHoldsOnToLittle: one request with much text does not make its
// exchange keep the memory.
func TestRewritingHoldsOnToLittle(t *testing.T) {
	g, prepare, x := pipeline(t, func(c *Config, _ *Options) {
		c.Routes[0].Rewrite.Request.Set = []rewrite.Header{{Name: "X-Path", Value: "${path}${path}"}}
	})
	prepare(x)
	x.Request.Path = "/" + strings.Repeat("a", maxRewriteText)
	g.Serve(x)
	g.Done(x, nil)
	if c := x.State.(*call); cap(c.text) > maxRewriteText || c.askedPath != "" {
		t.Errorf("%d bytes are kept", cap(c.text))
	}
}

// trailerUpstream takes a request's body, all at once if it is there, and says
// what fields came behind it.
type trailerUpstream struct{ begun, got chan string }

func (u *trailerUpstream) RoundTrip(x *exchange.Exchange) error {
	body := x.Request.Body
	how := "piece by piece:"
	if _, all := body.Buffered(); all {
		how = "whole:"
	}
	u.begun <- how
	for how == "piece by piece:" {
		if _, err := body.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	for _, field := range body.Trailer().All() {
		how += " " + field.Name
	}
	u.got <- how
	x.Response.Status = 204
	return nil
}

func (*trailerUpstream) Close() error { return nil }

// A field that the route sets or removes does not come from the client as a
// trailer either, whether the body is there already or still to come.
func TestRewrittenTrailers(t *testing.T) {
	upstream := &trailerUpstream{make(chan string, 1), make(chan string, 1)}
	r, _ := rewritingRig(t, rewrite.Rule{Request: rewrite.Headers{
		Set: []rewrite.Header{{Name: "X-User-ID", Value: "edge"}}, Remove: []string{"X-Team"},
	}}, func(o *Options) {
		o.NewTransport = func(*federation.Instance) (Upstream, error) { return upstream, nil }
	})
	const head = "POST /api HTTP/1.1\r\nHost: users.test\r\nTransfer-Encoding: chunked\r\n\r\n"
	const tail = "4\r\nbody\r\n0\r\nX-User-ID: root\r\nx_user.id: root\r\nx-team: a\r\nX-Sum: 7\r\n\r\n"
	c := r.dial()
	c.send(head + tail)
	<-upstream.begun
	if got := <-upstream.got; got != "whole: X-Sum" {
		t.Errorf("the endpoint got %q", got)
	}
	c.receive("POST").expect(t, 204, "")
	c.send(head)
	<-upstream.begun
	c.send(tail)
	if got := <-upstream.got; got != "piece by piece: X-Sum" {
		t.Errorf("the endpoint got %q", got)
	}
	c.receive("POST").expect(t, 204, "")
}
