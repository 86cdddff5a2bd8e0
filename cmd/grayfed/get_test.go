package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestGet(t *testing.T) {
	edge := newStandIn(t, false)
	for _, what := range []string{"federation", "services", "instances", "releases", "routes", "failover"} {
		for _, as := range []string{"table", "json", "yaml"} {
			t.Run(what+" "+as, func(t *testing.T) {
				got := grayfed(t, "get", what, "--edge", edge.URL, "-o", as)
				if got.code != 0 || got.stderr != "" {
					t.Fatalf("exit code %d: %s", got.code, got.stderr)
				}
				golden(t, "get-"+what+"."+as, got.stdout)
			})
		}
	}
}

// TestYAMLSaysWhatJSONSays: the same keys and the same values, texts that look
// like numbers or truth included.
func TestYAMLSaysWhatJSONSays(t *testing.T) {
	edge := newStandIn(t, false)
	var fromJSON, fromYAML any
	if err := json.Unmarshal([]byte(grayfed(t, "get", "instances", "--edge", edge.URL, "-o", "json").stdout), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(grayfed(t, "get", "instances", "--edge", edge.URL, "-o", "yaml").stdout), &fromYAML); err != nil {
		t.Fatal(err)
	}
	asJSON := func(value any) string {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if asJSON(fromJSON) != asJSON(fromYAML) {
		t.Errorf("JSON is %s\nYAML is %s", asJSON(fromJSON), asJSON(fromYAML))
	}
}

func TestGetInstancesOfOneService(t *testing.T) {
	edge := newStandIn(t, false)
	if got := grayfed(t, "get", "instances", "user-service", "--edge", edge.URL); got.code != 0 || strings.Count(got.stdout, "\n") != 5 {
		t.Errorf("user-service: %+v", got)
	}
	if got := grayfed(t, "get", "instances", "idle-service", "--edge", edge.URL); got.code != 0 || got.stdout != "no instance of idle-service is registered\n" {
		t.Errorf("idle-service: %+v", got)
	}
	refused(t, grayfed(t, "get", "instances", "usr-service", "--edge", edge.URL), 1, `no service "usr-service"`, "idle-service, user-service")
}

// TestWhichEdge: the flag wins over the environment.
func TestWhichEdge(t *testing.T) {
	edge := newStandIn(t, false)
	t.Setenv(edgeEnv, edge.URL)
	var out strings.Builder
	if code := run(t.Context(), []string{"get", "services"}, &out, &out); code != 0 || !strings.Contains(out.String(), "user-service") {
		t.Errorf("by environment: %d, %s", code, &out)
	}
	out.Reset()
	if code := run(t.Context(), []string{"get", "services", "--edge", "http://127.0.0.1:1"}, &out, &out); code != 1 || !strings.Contains(out.String(), "127.0.0.1:1") {
		t.Errorf("by flag: %d, %s", code, &out)
	}
}

func TestTokens(t *testing.T) {
	edge := newStandIn(t, true)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", certificatePEM(edge.Certificate().Raw))
	token := write("token", standInToken+"\n")
	to := []string{"drain", "user-service/az1-v1", "--edge", edge.URL}

	if got := grayfed(t, append(to, "--ca-file", ca, "--token-file", token)...); got.code != 0 || got.stdout != "user-service/az1-v1 drains\n" {
		t.Errorf("with all there is to give: %+v", got)
	}
	refused(t, grayfed(t, append(to, "--token-file", token)...), 1, "certificate is not trusted", "CA")
	refused(t, grayfed(t, append(to, "--ca-file", ca)...), 1, "401", "--token-file")
	wrong := write("wrong", "not-the-right-one")
	refused(t, grayfed(t, append(to, "--ca-file", ca, "--token-file", wrong)...), 1, "401", wrong)
	refused(t, grayfed(t, append(to, "--ca-file", ca, "--token-file", write("read", "may-only-read"))...), 1, "403", "role write")
	refused(t, grayfed(t, append(to, "--ca-file", ca, "--token-file", filepath.Join(dir, "none"))...), 1, "--token-file", "no such file")
	refused(t, grayfed(t, append(to, "--ca-file", ca, "--token-file", write("two", "write one\nread two"))...), 1, "--token-file", "allowed one token")
	refused(t, grayfed(t, append(to, "--ca-file", token, "--token-file", token)...), 1, "--ca-file", "no certificate")
}
