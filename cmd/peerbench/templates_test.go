package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func testJob() job {
	return job{Dir: "/tmp/run", Listen: netip.MustParseAddrPort("127.0.0.1:20001"),
		Stable: netip.MustParseAddrPort("127.0.0.1:20002"), Canary: netip.MustParseAddrPort("127.0.0.1:20003"),
		Tag: canaryRelease, Workers: 2, OpenFiles: 65536}
}

func testRender(t *testing.T, name string, data any) string {
	t.Helper()
	text, err := render(name, data)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "<no value>") {
		t.Errorf("%s: a value is missing:\n%s", name, text)
	}
	return string(text)
}

func TestProxyTemplates(t *testing.T) {
	logging := testJob()
	logging.AccessLog, logging.Root = "/tmp/run/access.log", true
	edge := grayfedEdge{place: place{Zone: "az1", Region: "east"}, DataDir: "/d", Documents: "/d.yaml",
		Listen: testJob().Listen, Admin: testJob().Stable, Etcd: testJob().Canary, Gossip: testJob().Canary}
	edgeLogging := edge
	edgeLogging.AccessLog = true
	secure, h2c, edgeSecure := testJob(), testJob(), edge
	secure.protocol, h2c.protocol, edgeSecure.protocol = protocol{TLS: true, HTTP2: true}, protocol{HTTP2: true}, protocol{TLS: true}
	secure.certificate = certificate{CertFile: "/c.pem", KeyFile: "/k.pem", PairFile: "/pair.pem"}
	edgeSecure.certificate = secure.certificate
	edgeLogging.Peers = []netip.AddrPort{testJob().Stable, testJob().Canary}
	for _, c := range []struct {
		name    string
		data    any
		with    []string
		without []string
	}{
		{"nginx.conf.tmpl", testJob(), []string{"worker_processes 2;", "access_log off;", "listen 127.0.0.1:20001 ", `"v2-beta" canary;`}, []string{"log_format", "user root"}},
		{"nginx.conf.tmpl", logging, []string{"log_format", "access_log /tmp/run/access.log", "user root root;"}, []string{"access_log off"}},
		{"nginx.conf.tmpl", secure, []string{"listen 127.0.0.1:20001 ssl http2 ", "ssl_certificate /c.pem;", "ssl_protocols TLSv1.3;", "Ciphersuites TLS_AES_128_GCM_SHA256;"}, nil},
		{"nginx.conf.tmpl", h2c, []string{"listen 127.0.0.1:20001 http2 "}, []string{"ssl"}},
		{"haproxy.cfg.tmpl", secure, []string{"ssl crt /pair.pem alpn h2,http/1.1\n", "ssl-min-ver TLSv1.3", "bind-ciphersuites TLS_AES_128_GCM_SHA256", "X-Forwarded-Proto https\n"}, nil},
		{"haproxy.cfg.tmpl", h2c, []string{"backlog 4096 proto h2\n", "X-Forwarded-Proto http\n"}, []string{"ssl"}},
		{"Caddyfile.tmpl", secure, []string{"https://:20001 {", "tls /c.pem /k.pem {", "protocols h1 h2\n", "protocols tls1.3"}, nil},
		{"Caddyfile.tmpl", h2c, []string{"http://:20001 {", "protocols h1 h2c\n"}, []string{"tls"}},
		{"grayfed-edge.yaml.tmpl", edgeSecure, []string{"  tls:\n", `cert_file: "/c.pem"`, `key_file: "/k.pem"`}, nil},
		{"haproxy.cfg.tmpl", testJob(), []string{"nbthread 2\n", "bind 127.0.0.1:20001 ", "-m str v2-beta", "server canary 127.0.0.1:20003 "}, nil},
		{"Caddyfile.tmpl", testJob(), []string{"http://:20001 {", "protocols h1\n", "x-release-tag v2-beta", "@canary 127.0.0.1:20003"}, nil},
		{"grayfed-edge.yaml.tmpl", edge, []string{"address: 127.0.0.1:20001\n", "access: false\n", "id: az1-edge\n", "region: east\n", "peers: []\n"}, []string{"access: true", "tls"}},
		{"grayfed-edge.yaml.tmpl", edgeLogging, []string{"access: true\n", `peers: ["127.0.0.1:20002", "127.0.0.1:20003"]`}, []string{"access: false"}},
	} {
		text := testRender(t, c.name, c.data)
		for _, want := range c.with {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", c.name, want, text)
			}
		}
		for _, not := range c.without {
			if strings.Contains(text, not) {
				t.Errorf("%s has %q:\n%s", c.name, not, text)
			}
		}
		for _, header := range []string{"X-Request-ID", "X-Real-IP"} {
			if !strings.HasPrefix(c.name, "grayfed") && !strings.Contains(text, header) {
				t.Errorf("%s does not set %s", c.name, header)
			}
		}
	}
}

func TestGrayfedDocuments(t *testing.T) {
	text := testRender(t, "grayfed-documents.yaml.tmpl", releaseDocuments(manyRoutes(250, 100)))
	if n := strings.Count(text, "kind: Route\n"); n != 250 {
		t.Errorf("%d routes, want 250", n)
	}
	for _, want := range []string{"kind: Service\n", "kind: Release\n", `path: "/api/b0002/{id:[0-9]+}/r00249"`} {
		if !strings.Contains(text, want) {
			t.Errorf("documents lack %q", want)
		}
	}
	alone := testRender(t, "grayfed-documents.yaml.tmpl", grayfedDocuments{Routes: []grayfedRoute{{Name: "s7", Path: "/s7/**", Service: "s7"}}})
	if strings.Contains(alone, "kind: Service") || !strings.HasPrefix(alone, "apiVersion:") || !strings.Contains(alone, "upstream: s7\n") {
		t.Errorf("documents of routes alone:\n%s", alone)
	}
}

func TestMissingTemplateKeyIsAnError(t *testing.T) {
	if _, err := render("mixed.lua.tmpl", map[string]any{"Host": loadHost}); err == nil {
		t.Error("a template was filled without one of its values")
	}
	if _, err := render("absent.tmpl", nil); err == nil {
		t.Error("a template that does not exist was filled")
	}
}

func TestLoadScripts(t *testing.T) {
	fill := loadScript{Host: loadHost, PathPrefix: pathPrefix, TagHeader: tagHeader, Tag: canaryRelease,
		Routes: 1000, Bucket: 100, PathFormat: routePathFormat}
	if text := testRender(t, "mixed.lua.tmpl", fill); !strings.Contains(text, `headers["x-release-tag"] = "v2-beta"`) {
		t.Errorf("the mixed load does not tag:\n%s", text)
	}
	text := testRender(t, "routes.lua.tmpl", fill)
	for _, want := range []string{"local routes = 1000\n", "local bucket = 100\n", `string.format("` + routePathFormat + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the load over routes lacks %q:\n%s", want, text)
		}
	}
}

func TestManyRoutes(t *testing.T) {
	for _, c := range []struct{ n, bucket, buckets int }{{10, 100, 1}, {100, 100, 1}, {1000, 100, 10}, {10000, 100, 100}, {10000, 10000, 1}} {
		buckets := make(map[string]int)
		names := make(map[string]bool)
		for i, route := range manyRoutes(c.n, c.bucket) {
			prefix, _, _ := strings.Cut(route.Path, "{")
			buckets[prefix]++
			names[route.Name] = true
			// The path the load asks for is the route's.
			path := fmt.Sprintf(routePathFormat, i/c.bucket, 7, i)
			if want := strings.Replace(route.Path, "{id:[0-9]+}", "7", 1); path != want {
				t.Fatalf("route %s is asked for as %s", route.Path, path)
			}
		}
		if len(buckets) != c.buckets || len(names) != c.n {
			t.Errorf("%d routes: %d buckets, %d names; want %d buckets", c.n, len(buckets), len(names), c.buckets)
		}
		for prefix, n := range buckets {
			if n > c.bucket {
				t.Errorf("%d routes share %s, at most %d may", n, prefix, c.bucket)
			}
		}
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[netip.AddrPort]bool)
	for _, port := range ports {
		if seen[port] || !port.Addr().IsLoopback() {
			t.Errorf("port %s is doubled or not loopback", port)
		}
		seen[port] = true
	}
}
