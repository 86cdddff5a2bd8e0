package gateway

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/edge/exchange"
	"github.com/grayfed/grayfed/edge/rewrite"
)

func TestForwarded(t *testing.T) {
	r, o := rewritingRig(t, rewrite.Rule{Host: "inside.test"}, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
		o.Forwarded, o.Edge = true, "edge-1"
	})
	const own = ";by=_edge-1;host=users.test;proto=http"
	for _, test := range []struct {
		name, peer string
		fields     []string
		want       string
	}{
		{"nothing, untrusted", "192.0.2.1", nil, "for=192.0.2.1" + own},
		{"nothing, trusted", "10.0.0.1", nil, "for=10.0.0.1" + own},
		{"v6 peer", "2001:db9::1", nil, `for="[2001:db9::1]"` + own},
		{"mapped peer", "::ffff:192.0.2.1", nil, "for=192.0.2.1" + own},
		{"forged", "192.0.2.1", []string{"Forwarded: for=1.1.1.1", "FORWARDED: for=2.2.2.2;proto=https"}, "for=192.0.2.1" + own},
		{"extended", "10.0.0.1", []string{"Forwarded: for=198.51.100.7;proto=https"}, "for=198.51.100.7;proto=https, for=10.0.0.1" + own},
		{"extended in two fields", "10.0.0.1", []string{`Forwarded: for="[2001:db8::9]:1"`, "Forwarded: for=10.0.0.2"},
			`for="[2001:db8::9]:1", for=10.0.0.2, for=10.0.0.1` + own},
		{"a quote that swallows", "10.0.0.1", []string{`Forwarded: for="`}, "for=10.0.0.1" + own},
		{"a quote escaped", "10.0.0.1", []string{`Forwarded: for="a\"`}, "for=10.0.0.1" + own},
		{"a quote closed", "10.0.0.1", []string{`Forwarded: for="_a\"b"`}, `for="_a\"b", for=10.0.0.1` + own},
		{"empty", "10.0.0.1", []string{"Forwarded:"}, "for=10.0.0.1" + own},
		{"only the other chain", "10.0.0.1", []string{"X-Forwarded-For: 198.51.100.7, 2001:db8::9 ,, rubbish;by=x"},
			`for=198.51.100.7, for="[2001:db8::9]", for=unknown, for=10.0.0.1` + own},
		{"both", "10.0.0.1", []string{"X-Forwarded-For: 1.1.1.1", "Forwarded: for=_hidden"}, "for=_hidden, for=10.0.0.1" + own},
		{"the other chain, untrusted", "192.0.2.1", []string{"X-Forwarded-For: 1.1.1.1"}, "for=192.0.2.1" + own},
	} {
		r.as(test.peer)
		r.ask("GET", "/api/x", test.fields...).expect(t, 200, "stable")
		if got := field(o.last(), "Forwarded"); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
	// A peer that cannot be told.
	r.remote.Store(&exchange.Conn{})
	r.ask("GET", "/api/x").expect(t, 200, "stable")
	if got := field(o.last(), "Forwarded"); got != "for=unknown"+own {
		t.Errorf("got %s", got)
	}
}

// TestSchemeAndPort: TLS that ends here or at a trusted proxy is https for the
// upstream, and the port is the one that leads back.
func TestSchemeAndPort(t *testing.T) {
	for _, test := range []struct {
		name, scheme, authority string
		trusted                 bool
		fields                  []string
		want                    string // proto, host, port, Forwarded's host and proto
	}{
		{"cleartext", "http", "a.test", false, nil, "http a.test 80 a.test http"},
		{"TLS", "https", "a.test", false, nil, "https a.test 443 a.test https"},
		{"another port", "https", "a.test:8443", false, nil, `https a.test:8443 8443 "a.test:8443" https`},
		{"v6", "http", "[2001:db8::1]", false, nil, `http [2001:db8::1] 80 "[2001:db8::1]" http`},
		{"v6 and port", "http", "[2001:db8::1]:81", false, nil, `http [2001:db8::1]:81 81 "[2001:db8::1]:81" http`},
		{"no such port", "http", "a.test:99999", false, nil, `http a.test:99999 80 "a.test:99999" http`},
		{"no host", "http", "", false, nil, "http  80  http"},
		{"forged", "http", "a.test", false, []string{"X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "X-Forwarded-Host: b"}, "http a.test 80 a.test http"},
		{"TLS, forged", "https", "a.test", false, []string{"X-Forwarded-Proto: http", "X-Forwarded-Port: 80"}, "https a.test 443 a.test https"},
		{"ended at a proxy", "http", "a.test", true, []string{"X-Forwarded-Proto: https"}, "https a.test 443 a.test http"},
		{"ended at a proxy on a port", "http", "a.test", true, []string{"X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"}, "https a.test 8443 a.test http"},
		{"two ports", "http", "a.test", true, []string{"X-Forwarded-Port: 1", "X-Forwarded-Port: 2"}, "http a.test 80 a.test http"},
		{"port rubbish", "http", "a.test", true, []string{"X-Forwarded-Port: +80"}, "http a.test 80 a.test http"},
		{"host of a proxy", "http", "a.test", true, []string{"X-Forwarded-Host: b.test:81"}, "http b.test:81 81 a.test http"},
	} {
		g, prepare, x := pipeline(t, func(_ *Config, o *Options) {
			o.Forwarded = true
			if test.trusted {
				o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			}
		})
		prepare(x)
		x.Request.Scheme, x.Request.Authority = test.scheme, test.authority
		for _, text := range test.fields {
			name, value, _ := strings.Cut(text, ": ")
			x.Request.Header.Add(name, value)
		}
		g.Serve(x)
		get := func(id exchange.FieldID) string {
			if n := x.Request.Header.Count(id); n > 1 {
				t.Errorf("%s: %d of %s", test.name, n, id)
			}
			value, _ := x.Request.Header.Get(id)
			return value
		}
		parameters := map[string]string{}
		for part := range strings.SplitSeq(get(exchange.FieldForwarded), ";") {
			name, value, _ := strings.Cut(part, "=")
			parameters[name] = value
		}
		got := strings.Join([]string{
			get(exchange.FieldXForwardedProto), get(exchange.FieldXForwardedHost), get(exchange.FieldXForwardedPort), parameters["host"], parameters["proto"],
		}, " ")
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		g.Done(x, nil)
	}
}
