package main

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grayfed/grayfed/chaos"
	"github.com/grayfed/grayfed/edge/config"
)

// fenced are the YAML blocks of a Markdown file.
func fenced(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for n, part := range strings.Split(string(text), "\n```") {
		if block, yaml := strings.CutPrefix(part, "yaml\n"); yaml && n%2 == 1 {
			blocks = append(blocks, block+"\n")
		}
	}
	return blocks
}

// TestReadmeSettings: whoever copies what README.md shows has valid settings and
// documents. A block is what validate takes it for, or a drill, or a target.
func TestReadmeSettings(t *testing.T) {
	edges, documents := 0, 0
	for n, block := range fenced(t, "../../README.md") {
		dir := writeFiles(t, "block.yaml", block)
		file := filepath.Join(dir, "block.yaml")
		switch {
		case strings.Contains(block, "\nfaults:\n") && strings.Contains(block, "\nslo:"):
			if _, err := chaos.ReadDrill(file); err != nil {
				t.Errorf("block %d: %v\n%s", n, err, block)
			}
		case strings.Contains(block, "\nrequest:") && strings.Contains(block, "\nedges:"):
			readTarget(t, block)
		default:
			report, err := config.Validate([]string{file})
			if err != nil {
				t.Errorf("block %d: %v\n%s", n, err, block)
				continue
			}
			edges += len(report.Processes)
			if d := report.Documents; d != nil {
				documents += len(d.Routes) + len(d.Services) + len(d.Releases)
			}
		}
	}
	if edges < 2 || documents < 3 {
		t.Errorf("found %d edges and %d documents in README.md, want 2 and 3 at least", edges, documents)
	}
}

// TestReadmeDrill: so is the drill that deploy/drills explains.
func TestReadmeDrill(t *testing.T) {
	blocks := fenced(t, "../../deploy/drills/README.md")
	if len(blocks) != 1 {
		t.Fatalf("found %d blocks of YAML, want the drill", len(blocks))
	}
	if _, err := chaos.ReadDrill(filepath.Join(writeFiles(t, "drill.yaml", blocks[0]), "drill.yaml")); err != nil {
		t.Error(err)
	}
}

// TestExampleTarget: the target of deploy/drills decodes.
func TestExampleTarget(t *testing.T) {
	text, err := os.ReadFile("../../deploy/drills/target.yaml")
	if err != nil {
		t.Fatal(err)
	}
	readTarget(t, string(text))
}

// readTarget reads a target beside a token and authorities of the names that
// the examples have for them.
func readTarget(t *testing.T, text string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	dir := writeFiles(t, "target.yaml", text, "token", "secret\n", "ca.pem", string(ca))
	target, err := chaos.ReadTarget(filepath.Join(dir, "target.yaml"))
	if err != nil {
		t.Errorf("%v\n%s", err, text)
		return
	}
	target.Close()
}
