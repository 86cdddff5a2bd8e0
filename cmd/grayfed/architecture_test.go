package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/grayfed/grayfed"

// mayImport is the architecture: what each package may import of this module
// (by path below it; "x/*" is x's children) and of others (by module or package
// prefix), besides the standard library. A package that is not listed fails,
// so that a new one is placed on purpose. Tests are exempt.
var mayImport = map[string][]string{
	"federation":        {},
	"federation/gossip": {"federation", "github.com/hashicorp/memberlist"},
	"registry":          {"federation", "go.etcd.io/etcd/client/v3", "go.etcd.io/etcd/api/v3", "go.uber.org/zap", "google.golang.org/grpc"},
	"registry/dns":      {"federation", "golang.org/x/net/dns/dnsmessage"},
	"edge/exchange":     {},
	"edge/http1":        {"edge/exchange", "golang.org/x/sys/unix"},
	"edge/http2":        {"edge/exchange", "golang.org/x/net/http2"},
	"edge/certs":        {"edge/exchange", "federation"},
	"edge/redirect":     {"edge/exchange"},
	"edge/listen":       {"edge/exchange", "edge/http1", "edge/certs", "golang.org/x/sys/unix"},
	"edge/gateway":      {"edge/exchange", "federation", "edge/route", "edge/rewrite", "edge/balance", "edge/health", "edge/ratelimit", "edge/breaker", "edge/admission", "edge/observe"},
	"edge/route":        {"federation"},
	// What is rewritten is brought into the one normal form of paths again.
	"edge/rewrite":   {"federation", "edge/route"},
	"edge/balance":   {"federation"},
	"edge/health":    {"federation"},
	"edge/ratelimit": {"edge/exchange", "federation"},
	"edge/breaker":   {"edge/exchange", "federation", "github.com/sony/gobreaker/v2"},
	"edge/admission": {"federation"},
	"edge/observe":   {"edge/exchange", "federation"},
	"edge/config":    {"federation", "edge/route", "edge/rewrite", "edge/balance", "edge/ratelimit", "edge/breaker", "edge/admission", "go.yaml.in/yaml/v3"},
	"edge/api":       {"federation"},
	// What a program does beside serving: it speaks the API alone.
	"edge/api/registrar": {"edge/api", "federation"},
	"edge/admin":         {"edge/api", "federation", "github.com/gorilla/mux"},
	"edge":               {"federation", "federation/gossip", "registry", "registry/*", "edge/*", "failover", "failover/*"},
	"failover":           {"federation"},
	"failover/consul":    {"failover", "federation", "github.com/hashicorp/consul/api"},
	"failover/dns":       {"failover", "federation", "github.com/miekg/dns", "golang.org/x/net/ipv4", "golang.org/x/net/ipv6"},
	"chaos":              {"edge/api", "chaos/*", "go.yaml.in/yaml/v3", "golang.org/x/net/dns/dnsmessage"},
	"chaos/fault":        {"chaos/guard", "edge/api", "federation"},
	"chaos/guard":        {},
	"chaos/report":       {},
	"chaos/lab":          {"chaos/guard", "edge/api", "edge/config", "golang.org/x/sys/unix"},
	"chaos/lab/etcd":     {"go.etcd.io/etcd/server/v3/embed", "go.uber.org/zap"},
	"chaos/lab/sample":   {"edge/api", "edge/api/registrar", "federation"},
	"cmd/grayfed":        {"edge", "edge/api", "edge/api/registrar", "federation", "edge/config", "chaos", "chaos/*", "chaos/lab/*", "github.com/spf13/cobra", "go.yaml.in/yaml/v3"},
	"cmd/peerbench":      {"golang.org/x/net/http2", "golang.org/x/sys/unix"},
	// Real agents for the tests of others.
	"registry/etcdtest":          {"go.etcd.io/etcd/server/v3/embed", "go.uber.org/zap"},
	"failover/consul/consultest": {"github.com/hashicorp/consul/api"},
}

// pure packages decide; they measure and trace nothing.
var pure = []string{"federation", "edge/exchange", "edge/http1", "edge/http2", "edge/route", "edge/rewrite", "edge/balance", "failover"}

// everywhere else, evidence is free.
var evidence = []string{"github.com/prometheus/client_golang", "go.opentelemetry.io/otel"}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func TestArchitecture(t *testing.T) {
	packages, standard := list(t)
	for _, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s has no place in the architecture: give it one in mayImport", name)
			continue
		}
		for _, imported := range p.Imports {
			if standard[imported] || permitted(name, allowed, imported) {
				continue
			}
			t.Errorf("%s imports %s, which is not its to import", name, imported)
		}
	}
	for name := range mayImport {
		if !slices.ContainsFunc(packages, func(p listed) bool { return p.ImportPath == module+"/"+name }) {
			t.Errorf("the architecture lists %s, which does not exist", name)
		}
	}
}

func permitted(name string, allowed []string, imported string) bool {
	if own, ours := strings.CutPrefix(imported, module+"/"); ours {
		if strings.HasSuffix(own, "test") {
			return false // what tests run on is no part of the program
		}
		return slices.Contains(allowed, own) || slices.Contains(allowed, path.Dir(own)+"/*")
	}
	below := func(prefix string) bool { return imported == prefix || strings.HasPrefix(imported, prefix+"/") }
	return slices.ContainsFunc(allowed, below) ||
		!slices.Contains(pure, name) && slices.ContainsFunc(evidence, below)
}

// list asks the go command for this module's packages and for which of their
// imports are the standard library's.
func list(t *testing.T) (packages []listed, standard map[string]bool) {
	t.Helper()
	command := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", module+"/...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.Bytes())
	}
	standard = make(map[string]bool)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, standard
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Standard {
			standard[p.ImportPath] = true
		} else if strings.HasPrefix(p.ImportPath, module+"/") {
			packages = append(packages, p)
		}
	}
}
