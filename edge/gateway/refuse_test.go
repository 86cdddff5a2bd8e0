package gateway

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/ratelimit"
	"github.com/grayfed/grayfed/edge/route"
	"github.com/grayfed/grayfed/federation"
)

// problem reads an answer of the edge's own.
func (a answer) problem(t testing.TB) (reason string) {
	t.Helper()
	var doc struct {
		Type, Title, Detail, Reason string
		Status                      int
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatalf("%q is no document: %v", a.body, err)
	}
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if doc.Status != a.StatusCode || doc.Type != "about:blank" || doc.Title == "" || doc.Detail == "" {
		t.Errorf("document %+v with status %d", doc, a.StatusCode)
	}
	return doc.Reason
}

func TestRefusals(t *testing.T) {
	r := newRig(t, nil)
	o := newOrigin(t, answering("stable"))
	config := usersConfig(federation.Strict)
	config.Routes[0].Path = "/users/**"
	config.Routes[0].Methods = []string{"GET", "POST"}
	r.configure(config)
	r.register(instance("v1-a", "az1", "v1", o.address))

	for _, test := range []struct {
		name, method, path string
		fields             []string
		status             int
		reason             string
	}{
		{"no route", "GET", "/orders", nil, 404, "no-route"},
		{"method", "DELETE", "/users/1", nil, 405, "method-not-allowed"},
		{"path above root", "GET", "/users/../../x", nil, 400, "malformed-path"},
		{"encoded NUL", "GET", "/users/%00", nil, 400, "malformed-path"},
		{"two tags", "GET", "/users/1", []string{tagged, tagged}, 400, "malformed-tag"},
		{"empty tag", "GET", "/users/1", []string{"x-release-tag:"}, 400, "malformed-tag"},
		{"tag with a space", "GET", "/users/1", []string{"x-release-tag: a b"}, 400, "malformed-tag"},
		{"long tag", "GET", "/users/1", []string{"x-release-tag: " + strings.Repeat("a", 129)}, 400, "malformed-tag"},
		{"no canary", "GET", "/users/1", []string{tagged}, 503, "no-canary-usable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := r.ask(test.method, test.path, test.fields...)
			if reason := a.problem(t); a.StatusCode != test.status || reason != test.reason {
				t.Errorf("got %d %s, want %d %s", a.StatusCode, reason, test.status, test.reason)
			}
			if a.Header.Get("X-Request-ID") == "" {
				t.Error("no request id")
			}
			if want := map[int]string{405: "GET, POST"}[test.status]; a.Header.Get("Allow") != want {
				t.Errorf("Allow %q, want %q", a.Header.Get("Allow"), want)
			}
			if has := a.Header.Get("Retry-After") == "1"; has != (test.status == 503) {
				t.Errorf("Retry-After %q with %d", a.Header.Get("Retry-After"), test.status)
			}
		})
	}
	if o.heads.Load() != 0 {
		t.Errorf("%d requests reached the origin: %q", o.heads.Load(), o.last())
	}

	// The negative twin: what is well formed gets through, in normal form.
	r.ask("GET", "/users/./%7e1//x", "x-release-tag: unheard-of.Tag_1").expect(t, 200, "stable")
	if head := o.last(); !strings.HasPrefix(head, "GET /users/~1/x HTTP/1.1\r\n") || !strings.Contains(head, "unheard-of.Tag_1") {
		t.Errorf("forwarded %q", head)
	}
	// A refusal ends neither connection nor pipeline.
	c := r.dial()
	c.ask("GET", "/orders").expect(t, 404, "no-route")
	if a := c.ask("HEAD", "/orders"); a.StatusCode != http.StatusNotFound || a.body != "" || a.ContentLength <= 0 {
		t.Errorf("HEAD: %d, length %d, body %q", a.StatusCode, a.ContentLength, a.body)
	}
	c.ask("GET", "/users/1").expect(t, 200, "stable")
}

func TestNothingConfigured(t *testing.T) {
	r := newRig(t, nil)
	r.ask("GET", "/users/1").expect(t, 404, "no-route")
	r.configure(usersConfig(federation.Strict))
	r.ask("GET", "/users/1").expect(t, 503, "no-instance")
	r.register(instance("v1-a", "az1", "v9", refusingAddress(t)))
	r.ask("GET", "/users/1").expect(t, 503, "no-instance")
}

func TestConfigIsRefusedAsAWhole(t *testing.T) {
	r := newRig(t, nil)
	o := newOrigin(t, answering("stable"))
	r.configure(usersConfig(federation.Strict))
	r.register(instance("v1-a", "az1", "v1", o.address))
	for name, spoil := range map[string]func(*Config){
		"path":       func(c *Config) { c.Routes[0].Path = "nonsense" },
		"twice":      func(c *Config) { c.Routes = append(c.Routes, c.Routes[0]) },
		"retries":    func(c *Config) { c.Routes[0].Retries = MaxRetries + 1 },
		"rate limit": func(c *Config) { c.Routes[0].RateLimit = &ratelimit.Options{} },
	} {
		config := usersConfig(federation.Strict)
		spoil(&config)
		if err := r.gateway.SetConfig(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r.ask("GET", "/users/1").expect(t, 200, "stable")
}

func TestRateLimit(t *testing.T) {
	r := newRig(t, nil)
	o := newOrigin(t, answering("stable"))
	config := usersConfig(federation.Strict)
	config.Routes[0].RateLimit = &ratelimit.Options{RPM: 1, Burst: 3}
	config.Routes = append(config.Routes, Route{Route: route.Route{ID: "free", Path: "/free", Service: "users"}})
	r.configure(config)
	r.register(instance("v1-a", "az1", "v1", o.address))

	for remaining := 2; remaining >= 0; remaining-- {
		// Its own refusals bear it too, and count.
		if remaining == 1 {
			a := r.ask("GET", "/users/1", tagged)
			a.expect(t, 503, "no-canary-usable")
			if got := a.Header.Get("X-RateLimit-Remaining"); got != "1" {
				t.Errorf("remaining %q on a refusal", got)
			}
			continue
		}
		a := r.ask("GET", "/users/1")
		a.expect(t, 200, "stable")
		if got := a.Header.Get("X-RateLimit-Remaining"); got != strconv.Itoa(remaining) {
			t.Errorf("remaining %q, want %d", got, remaining)
		}
	}
	a := r.ask("GET", "/users/1")
	a.expect(t, 429, "rate-limited")
	if a.problem(t); a.Header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("remaining %q", a.Header.Get("X-RateLimit-Remaining"))
	}
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	// The twins: another route has no limit, and an unchanged limit goes on
	// over a new configuration, while a changed one begins anew.
	if a := r.ask("GET", "/free"); a.StatusCode != http.StatusOK || a.Header.Get("X-RateLimit-Remaining") != "" {
		t.Errorf("%d, remaining %q", a.StatusCode, a.Header.Get("X-RateLimit-Remaining"))
	}
	r.configure(config)
	r.ask("GET", "/users/1").expect(t, 429, "")
	config.Routes[0].RateLimit = &ratelimit.Options{RPM: 1, Burst: 1}
	r.configure(config)
	r.ask("GET", "/users/1").expect(t, 200, "")
}

// as has the rig take clients for the given peer.
func (r *rig) as(peer string) {
	r.remote.Store(&exchange.Conn{Remote: netip.AddrPortFrom(netip.MustParseAddr(peer), 4711)})
}

func TestTagModes(t *testing.T) {
	r := newRig(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	stable, canary := newOrigin(t, answering("stable")), newOrigin(t, answering("canary"))
	config := usersConfig(federation.Strict)
	config.Routes[0].Tags = route.TagsTrusted
	r.configure(config)
	r.register(instance("v1-a", "az1", "v1", stable.address), instance("v2-a", "az1", "v2", canary.address))

	r.as("10.1.2.3")
	r.ask("GET", "/", tagged).expect(t, 200, "canary")
	if !strings.Contains(canary.last(), tagged) {
		t.Errorf("the tag of a trusted peer did not go on: %q", canary.last())
	}
	r.as("192.0.2.1")
	a := r.ask("GET", "/", tagged, explain)
	a.expect(t, 200, "stable")
	if got := a.Header.Get("x-gray-decision"); !strings.HasPrefix(got, "rung=baseline-here; reason=tag-not-trusted") {
		t.Errorf("decision %q", got)
	}
	if strings.Contains(stable.last(), "x-release-tag") {
		t.Errorf("a tag that does not count went on: %q", stable.last())
	}
	// The header is for routes that allow it and requests that ask for it.
	if a := r.ask("GET", "/"); a.Header.Get("x-gray-decision") != "" {
		t.Error("explained unasked")
	}
	if a := r.ask("GET", "/", "x-gray-explain: 2"); a.Header.Get("x-gray-decision") != "" {
		t.Error("explained on another word")
	}
	config.Routes[0].Explain = false
	r.configure(config)
	if a := r.ask("GET", "/", explain); a.Header.Get("x-gray-decision") != "" {
		t.Error("explained where the route forbids it")
	}
	// A peer that cannot be told is not trusted.
	r.remote.Store(&exchange.Conn{})
	r.ask("GET", "/", tagged).expect(t, 200, "stable")
}

// field returns the values of a field in a request head, joined by "|".
func field(head, name string) string {
	var values []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if got, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(got, name) {
			values = append(values, value)
		}
	}
	return strings.Join(values, "|")
}

func TestForwardedFields(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	})
	o := newOrigin(t, answering("stable"))
	r.configure(usersConfig(federation.Strict))
	r.register(instance("v1-a", "az1", "v1", o.address))

	const generated = "(generated)"
	all := []string{
		"X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test",
		"X-Real-IP: 198.51.100.7", "X-Request-ID: id-1", "X-Forwarded-Port: 443", "Forwarded: for=198.51.100.7",
	}
	for n, test := range []struct {
		name, peer string
		fields     []string
		want       string // For, Proto, Host, Real-IP, Request-ID, Port, Forwarded
		client     string // in the access log
	}{
		{"nothing, untrusted", "192.0.2.1", nil, "192.0.2.1;http;users.test;192.0.2.1;(generated);80;", "192.0.2.1"},
		{"nothing, trusted", "10.0.0.1", nil, "10.0.0.1;http;users.test;10.0.0.1;(generated);80;", "10.0.0.1"},
		{"all, untrusted", "192.0.2.1", all, "192.0.2.1;http;users.test;192.0.2.1;(generated);80;", "192.0.2.1"},
		{"all, trusted", "10.0.0.1", all, "198.51.100.7, 10.0.0.1;https;evil.test;198.51.100.7;id-1;443;for=198.51.100.7", "198.51.100.7"},
		{"all twice, untrusted", "192.0.2.1", append(all[:len(all):len(all)], all...), "192.0.2.1;http;users.test;192.0.2.1;(generated);80;", "192.0.2.1"},
		{"letter case", "192.0.2.1", []string{"x-FORWARDED-for: 1.1.1.1", "X-REAL-ip: 1.1.1.1"}, "192.0.2.1;http;users.test;192.0.2.1;(generated);80;", "192.0.2.1"},
		{"mapped peer", "::ffff:10.0.0.1", all[:1], "198.51.100.7, 10.0.0.1;http;users.test;198.51.100.7;(generated);80;", "198.51.100.7"},
		{"v6 peer", "2001:db8::1", all[:1], "198.51.100.7, 2001:db8::1;http;users.test;198.51.100.7;(generated);80;", "198.51.100.7"},
		{"chain", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1, 198.51.100.7, 10.0.0.2"},
			"1.1.1.1, 198.51.100.7, 10.0.0.2, 10.0.0.1;http;users.test;198.51.100.7;(generated);80;", "198.51.100.7"},
		{"chain in two fields", "10.0.0.1", []string{"X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 10.0.0.2"},
			"198.51.100.7, 10.0.0.2, 10.0.0.1;http;users.test;198.51.100.7;(generated);80;", "198.51.100.7"},
		{"all trusted", "10.0.0.1", []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"},
			"10.0.0.3, 10.0.0.2, 10.0.0.1;http;users.test;10.0.0.3;(generated);80;", "10.0.0.3"},
		{"rubbish in the chain", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1, rubbish, 10.0.0.2"},
			"1.1.1.1, rubbish, 10.0.0.2, 10.0.0.1;http;users.test;10.0.0.2;(generated);80;", "10.0.0.2"},
		{"commas alone", "10.0.0.1", []string{"X-Forwarded-For: ,, ,"}, ",, ,, 10.0.0.1;http;users.test;10.0.0.1;(generated);80;", "10.0.0.1"},
		{"only real ip", "10.0.0.1", []string{"X-Real-IP: 198.51.100.7"}, "10.0.0.1;http;users.test;198.51.100.7;(generated);80;", "198.51.100.7"},
		{"rubbish from a trusted peer", "10.0.0.1", []string{"X-Real-IP: rubbish", "X-Forwarded-Proto: gopher", "X-Request-ID: a b"},
			"10.0.0.1;http;users.test;10.0.0.1;(generated);80;", "10.0.0.1"},
		{"two ids from a trusted peer", "10.0.0.1", []string{"X-Request-ID: a", "X-Request-ID: b"}, "10.0.0.1;http;users.test;10.0.0.1;a;80;", "10.0.0.1"},
		{"long id", "10.0.0.1", []string{"X-Request-ID: " + strings.Repeat("a", 129)}, "10.0.0.1;http;users.test;10.0.0.1;(generated);80;", "10.0.0.1"},
		{"two protos from a trusted peer", "10.0.0.1", []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: https"},
			"10.0.0.1;http;users.test;10.0.0.1;(generated);80;", "10.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.as(test.peer)
			r.ask("GET", "/", test.fields...).expect(t, 200, "stable")
			head := o.last()
			id := field(head, "X-Request-ID")
			if len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" {
				id = generated
			}
			got := strings.Join([]string{
				field(head, "X-Forwarded-For"), field(head, "X-Forwarded-Proto"), field(head, "X-Forwarded-Host"),
				field(head, "X-Real-IP"), id, field(head, "X-Forwarded-Port"), field(head, "Forwarded"),
			}, ";")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			id = field(head, "X-Request-ID")
			eventually(t, "its line in the access log", func() bool {
				return strings.Count(r.log.String(), "\n") == n+1 && strings.Contains(r.log.String(), `"id":"`+id+`"`)
			})
			lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, `"client":"`+test.client+`"`) {
				t.Errorf("client is not %s: %s", test.client, last)
			}
		})
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	r := newRig(t, nil)
	o := newOrigin(t, answering("stable"))
	r.configure(usersConfig(federation.Strict))
	r.register(instance("v1-a", "az1", "v1", o.address))
	c := r.dial()
	seen := make(map[string]bool)
	for range 50 {
		c.ask("GET", "/")
		seen[field(o.last(), "X-Request-ID")] = true
	}
	if len(seen) != 50 {
		t.Errorf("%d different ids of 50", len(seen))
	}
}
