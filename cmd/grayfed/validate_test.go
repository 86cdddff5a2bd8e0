package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodDocuments = `- id: users
  path: /users/**
  upstream: user-service
`

const badDocuments = `- id: users
  path: users
  upstrem: user-service
`

const badSettings = `id: az1-edge
zone: "az 1"
documents: .
listen:
  address: 8081
  colour: red
`

// writeFiles writes a folder of files, named and filled in turn.
func writeFiles(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for n := 0; n < len(files); n += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[n]), []byte(files[n+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestValidate(t *testing.T) {
	dir := writeFiles(t, "routes.yaml", goodDocuments, "edge.yml", "id: e\nzone: az1\ndocuments: .\n")
	got := grayfed(t, "validate", dir)
	want := "warning: " + filepath.Join(dir, "routes.yaml") + `:3:13: [0].upstream: found service "user-service", which no document declares, allowed a Service document of that name, or a URL
2 files valid: 1 edge, 1 route, 0 services, 0 releases; 1 warning
`
	if got.code != 0 || got.stderr != "" || got.stdout != want {
		t.Errorf("%+v, want\n%s", got, want)
	}
}

// TestValidateShowsUpstreamPaths: of each route that rewrites them, and warns
// where the service itself serves under what is taken off.
func TestValidateShowsUpstreamPaths(t *testing.T) {
	dir := writeFiles(t, "routes.yaml", `- { id: plain, path: /plain, upstream: users }
- { id: users, path: "/api/users/{id:[0-9]+}", upstream: users, rewrite: { strip_prefix: /api } }
- { apiVersion: grayfed/v1, kind: Service, metadata: { name: users }, spec: { health_path: /api/health } }
`)
	got := grayfed(t, "validate", dir)
	want := "warning: " + filepath.Join(dir, "routes.yaml") + `:2:74: [1].rewrite: found a rewrite that takes "/api" off, ` +
		`which the health_path of service "users" carries ("/api/health"): /api/users/1 becomes /users/1, allowed paths as the service serves them
route users: /api/users/1 is /users/1 upstream
1 file valid: 0 edges, 2 routes, 1 service, 0 releases; 1 warning
`
	if got.code != 0 || got.stderr != "" || got.stdout != want {
		t.Errorf("%+v, want\n%s", got, want)
	}
	var said struct{ Rewrites []rewritten }
	got = grayfed(t, "validate", dir, "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &said); err != nil {
		t.Fatal(err)
	}
	if len(said.Rewrites) != 1 || said.Rewrites[0] != (rewritten{"users", "/api/users/1", "/users/1"}) {
		t.Errorf("%+v", said.Rewrites)
	}
}

func TestValidateReportsEveryProblem(t *testing.T) {
	dir := writeFiles(t, "routes.yaml", badDocuments, "edge.yaml", badSettings)
	got := grayfed(t, "validate", filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "none.yaml"))
	if got.code != 1 || got.stderr != "" {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	golden(t, "validate.table", strings.ReplaceAll(got.stdout, dir+"/", ""))

	for _, as := range []string{"json", "yaml"} {
		got = grayfed(t, "validate", dir, "-o", as)
		if got.code != 1 || got.stderr != "" {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		golden(t, "validate."+as, strings.ReplaceAll(got.stdout, dir+"/", ""))
	}
}

// TestValidateCountsForPrograms: lists are lists also when they are empty.
func TestValidateCountsForPrograms(t *testing.T) {
	got := grayfed(t, "validate", writeFiles(t, "routes.yaml", goodDocuments), "-o", "json")
	var said struct {
		Valid    bool
		Routes   int
		Hash     string
		Edges    []string
		Problems []any
		Warnings []any
	}
	if err := json.Unmarshal([]byte(got.stdout), &said); err != nil {
		t.Fatal(err)
	}
	if got.code != 0 || !said.Valid || said.Routes != 1 || len(said.Hash) != 32 || said.Edges == nil || said.Problems == nil || len(said.Warnings) != 1 {
		t.Errorf("%d, %+v", got.code, said)
	}
}

// TestEdgeSaysWhatIsWrongWithItsSettings: all of it, each with its place first.
func TestEdgeSaysWhatIsWrongWithItsSettings(t *testing.T) {
	dir := writeFiles(t, "edge.yaml", badSettings)
	got := grayfed(t, "edge", "-c", filepath.Join(dir, "edge.yaml"))
	if got.code != 1 || got.stdout != "" {
		t.Errorf("exit code %d: %s", got.code, got.stdout)
	}
	golden(t, "edge-settings.txt", strings.ReplaceAll(got.stderr, dir+"/", ""))

	missing := filepath.Join(dir, "none.yaml")
	refused(t, grayfed(t, "edge", "-c", missing), 1, missing, "allowed")
}
